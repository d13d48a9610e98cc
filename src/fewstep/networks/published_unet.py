"""Stable Diffusion 1.5's UNet as InstaFlow and SCFlow publish it, made a flow map: v_{s,t}(x | c) on latents, told a text.

The layers are those of diffusers' UNet2DConditionModel, and their names the published ones, so published weights are copied
name by name: see fewstep.networks.instaflow_checkpoint. Three things are settled at the border:

Time. InstaFlow (arXiv 2309.06380) calls its network with times from 1000 for noise to 0 for data, 1000 (1 - i / N) in step i
of N, and adds 1 / N of what it gives to the latents: a velocity from noise to data. Noise stands at time 0 here and
velocities point to data as well, so v_{s,s}(x | c) = UNet(1000 (1 - s), x, c), without a change of sign.

The gap. A flow map has two times. As in fewstep.networks.adm, what the gap t - s adds to the embedding of time vanishes at
t = s whatever is trained, and everywhere until something is trained: the diagonal is the published network bit for bit.

The text. Every place attends to all tokens, the filling behind a text included, as Stable Diffusion does.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from . import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import UNet2DConditionModel  # isort: skip
from ..flows.conditioning import Conditions
from . import unet_levels
from .adm import zeroed
from .unet import Waves

# the published network's time of pure noise
NOISE = 1000.0
# the highest frequency of the gap's embedding, in radians over the whole of [0, 1]
HIGHEST = 16.0


def _differentiated() -> bool:
    """Whether torch.func takes a derivative here and now."""
    return torch._C._are_functorch_transforms_active()


def _without_fused_kernels() -> AbstractContextManager:
    """Attention written out where it is differentiated in forward mode, which the fused kernels cannot be."""
    return sdpa_kernel(SDPBackend.MATH) if _differentiated() else nullcontext()


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    # torch.func's group norm takes contiguous inputs only
    return (inputs[0].contiguous(),) if _differentiated() else None


def _computed_twice(layer: nn.Module, *inputs: Any) -> Any:
    """`layer` of `inputs`, computed again on the way back in the place of being kept; torch.func keeps it all."""
    return (
        layer(*inputs)
        if _differentiated()
        else checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)
    )


class PublishedUNet(nn.Module):
    """v_{s,t}(x | c) for latents (batch, channels, height, width); see `build` for the settings. Its last layer starts at zero."""

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: Sequence[int],
        layers: int,
        attention: Sequence[bool],
        heads: int,
        groups: int,
        width: int,
        checkpointing: bool,
    ):
        super().__init__()
        self.model = UNet2DConditionModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=tuple(channels), layers_per_block=layers,
            **unet_levels.cross_attention_blocks(attention), norm_num_groups=groups, cross_attention_dim=width,
            # by the name of a width, diffusers' setting has always been the number of heads
            attention_head_dim=heads,
            # what is added to the embedding of time, without a layer of its own
            class_embed_type="identity",
        )  # fmt: skip
        zeroed(self.model.conv_out)
        embedding = self.model.time_embedding.linear_2.out_features
        self.waves = Waves(channels[0], HIGHEST)
        self.gap_embed = nn.Sequential(
            nn.Linear(channels[0], embedding, bias=False),
            nn.SiLU(),
            zeroed(nn.Linear(embedding, embedding, bias=False)),
        )
        for module in self.model.modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_contiguous)
        if checkpointing:
            self.model.enable_gradient_checkpointing(_computed_twice)

    def forward(self, s: Tensor, t: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        """v_{s,t}(x | c): times (batch,), latents (batch, channels, height, width), a text a sample."""
        gap = t - s
        added = self.gap_embed(self.waves(gap) - self.waves(0 * gap))
        with _without_fused_kernels():
            return self.model(
                x,
                NOISE * (1 - s),
                encoder_hidden_states=conditions.hidden,
                class_labels=added,
                return_dict=False,
            )[0]

    def encoder(self) -> Encoder:
        """The layers up to the middle, copied, to be trained as part of something else."""
        return Encoder(self.model)


class Encoder(unet_levels.Encoder):
    """The layers of a PublishedUNet up to its middle; see fewstep.networks.unet_levels."""

    def embedded(self, s: Tensor, x: Tensor) -> Tensor:
        return self.time_embedding(self.time_proj(NOISE * (1 - s)).to(x.dtype))

    def attended(self, conditions: Conditions, x: Tensor) -> dict[str, Tensor]:
        return {"encoder_hidden_states": conditions.hidden}

    def forward(self, s: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        with _without_fused_kernels():
            return super().forward(s, x, conditions)


def build(
    shape: tuple[int, ...],
    channels: Sequence[int],
    layers: int,
    attention: Sequence[bool],
    heads: int,
    groups: int,
    width: int,
    checkpointing: bool = True,
) -> PublishedUNet:
    """The UNet for latents of `shape` (channels, height, width).

    channels       the width of each level, from the finest to the coarsest; every level halves the latents
    layers         residual blocks a level on the way down; one more on the way up
    attention      for each level: whether its places attend to each other and to the text; the middle always does
    heads          of every attention
    groups         the groups of every normalisation
    width          of the text's tokens
    checkpointing  whether the residual blocks are computed again on the way back in the place of being kept: it changes
                   the memory and the time that a step of training takes, and no bit

    Raises ValueError when the levels do not halve the latents evenly, or widths, heads, groups and levels do not fit.
    """
    unet_levels.check("published_unet", shape, channels, attention, {"groups": groups, "heads": heads})
    return PublishedUNet(shape, channels, layers, attention, heads, groups, width, checkpointing)
