"""Stable Diffusion 1.5's UNet as InstaFlow and SCFlow publish it, made a flow map: v_{s,t}(x | c) on latents.

The layers are those of diffusers' UNet2DConditionModel, and their names the published ones, so published
weights are copied name by name: see fewstep.networks.published.instaflow. Three conventions differ and are
converted here:

Time. InstaFlow (arXiv 2309.06380) calls its network with times from 1000 for noise to 0 for data, 1000 (1 - i
/ N) in step i of N, and adds 1 / N of what it gives to the latents: a velocity from noise to data. Noise
stands at time 0 here and velocities point to data as well, so v_{s,s}(x | c) = UNet(1000 (1 - s), x, c),
without a change of sign.

The gap. A flow map has two times. As in fewstep.networks.adm, what the gap t - s adds to the embedding of
time vanishes at t = s whatever is trained, and everywhere until something is trained: the diagonal is the
published network bit for bit.

The text. Every place attends to all tokens, the filling behind a text included, as Stable Diffusion does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..flows.conditioning import Conditions
from . import unet_levels
from .embeddings import gap_features, gap_layers, rising, zeroed
from .unet_levels import differentiable_attention, is_differentiated

# the published network's time of pure noise
NOISE = 1000.0
# the highest frequency of the gap's embedding, in radians over the whole of [0, 1]
HIGHEST = 16.0


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    # torch.func's group norm takes contiguous inputs only
    return (inputs[0].contiguous(),) if is_differentiated() else None


def _recomputed(layer: nn.Module, *inputs: Any) -> Any:
    """`layer` of `inputs`, computed again on the way back and not kept; torch.func keeps it all."""
    if is_differentiated():
        return layer(*inputs)
    return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)


class PublishedUNet(nn.Module):
    """v_{s,t}(x | c) for latents (batch, channels, height, width), of one `shape` (channels, height, width).

    channels       the width of each level, from the finest to the coarsest; every level halves the latents
    layers         residual blocks a level on the way down; one more on the way up
    attention      for each level: whether its places attend to each other and to the text; the middle always
                   does
    heads          of every attention
    groups         the groups of every normalisation
    width          of the text's tokens
    checkpointing  whether the residual blocks are computed again on the way back in the place of being kept:
                   it changes the memory and the time that a step of training takes, and no bit

    Its last layer starts at zero. Raises ValueError when the levels do not halve the latents evenly, or
    widths, heads, groups and levels do not fit.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool],
        heads: int, groups: int, width: int, checkpointing: bool = True,
    ):  # fmt: skip
        super().__init__()
        unet_levels.check("published_unet", shape, channels, attention, {"groups": groups, "heads": heads})
        # what is added to the embedding of time comes without a layer of its own
        self.model = unet_levels.text_conditional(
            shape, channels, layers, attention, heads, groups, width, class_embed_type="identity"
        )
        zeroed(self.model.conv_out)
        self.embedding = rising(channels[0], HIGHEST)
        self.gap_embed = gap_layers(channels[0], self.model.time_embedding.linear_2.out_features)
        for module in self.model.modules():
            if isinstance(module, nn.GroupNorm):
                module.register_forward_pre_hook(_contiguous)
        if checkpointing:
            self.model.enable_gradient_checkpointing(_recomputed)

    def forward(self, s: Tensor, t: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        """v_{s,t}(x | c): times (batch,), latents (batch, channels, height, width), a text a sample."""
        added = self.gap_embed(gap_features(self.embedding, t - s))
        with differentiable_attention():
            return self.model(x, NOISE * (1 - s), conditions.hidden, added, return_dict=False)[0]

    def encoder(self) -> Encoder:
        """The layers up to the middle, copied, to be trained as part of something else."""
        return Encoder(self.model)


class Encoder(unet_levels.Encoder):
    """The layers of a PublishedUNet up to its middle; see fewstep.networks.unet_levels."""

    def embedded(self, s: Tensor, x: Tensor) -> Tensor:
        return self.time_embedding(self.time_proj(NOISE * (1 - s)).to(x.dtype))

    def attended(self, conditions: Conditions, x: Tensor) -> dict[str, Tensor]:
        return {"encoder_hidden_states": conditions.hidden}


build = PublishedUNet
