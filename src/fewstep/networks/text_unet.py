"""A two-time UNet for v_{s,t}(x | c) on latents, told a text: diffusers' UNet2DConditionModel, its times embedded as s and t - s."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import UNet2DConditionModel  # isort: skip
from diffusers.models.attention import BasicTransformerBlock  # isort: skip
from ..flows.conditioning import Conditions
from . import unet_levels
from .unet import prepared


class TextUNet(nn.Module):
    """v_{s,t}(x | c) for latents (batch, channels, height, width) and texts of `width` numbers a token.

    attention   for each level, from the finest: whether its places attend to each other and to the text; the middle always does
    heads       of every attention
    groups      the groups of every normalisation
    time_scale  the highest frequency of the embedding of times, in radians
    text_layers layers, trained with the flow, in which the tokens of a text look at each other in both directions before the UNet
                attends to them. In a small CLIP's causal tower "red" and "triangle" have not met "at the top left", which comes
                after them, and a UNet of two levels cannot make up for it

    The last layer starts at zero, so an untrained flow map is the identity.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool], heads: int, groups: int, time_scale: float, width: int,
        text_layers: int = 0,
    ):  # fmt: skip
        super().__init__()
        self.model = UNet2DConditionModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=tuple(channels), layers_per_block=layers,
            **unet_levels.cross_attention_blocks(attention), norm_num_groups=groups, cross_attention_dim=width,
            # by the name of a width, diffusers' setting has always been the number of heads
            attention_head_dim=heads, class_embed_type="timestep", freq_shift=0,
        )  # fmt: skip
        prepared(self.model, time_scale)
        self.readers = nn.ModuleList(
            BasicTransformerBlock(width, heads, width // heads, activation_fn="geglu") for _ in range(text_layers)
        )

    def forward(self, s: Tensor, t: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        """v_{s,t}(x | c): times (batch,), latents (batch, channels, height, width), a text a sample."""
        # the fused attention kernels have no forward-mode derivative
        plain = torch._C._are_functorch_transforms_active()
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            hidden = _read(self.readers, conditions)
            return self.model(
                x,
                s,
                encoder_hidden_states=hidden,
                class_labels=t - s,
                encoder_attention_mask=conditions.mask,
                return_dict=False,
            )[0]

    def encoder(self) -> Encoder:
        """The layers up to the middle, copied, to be trained as part of something else."""
        return Encoder(self)


class Encoder(unet_levels.Encoder):
    """The layers of a TextUNet up to its middle; see fewstep.networks.unet_levels."""

    LAYERS = (*unet_levels.Encoder.LAYERS, "class_embedding")

    def __init__(self, network: TextUNet):
        super().__init__(network.model)
        self.readers = copy.deepcopy(network.readers).requires_grad_(True)

    def embedded(self, s: Tensor, x: Tensor) -> Tensor:
        return self.time_embedding(self.time_proj(s)) + self.class_embedding(
            self.time_proj(torch.zeros_like(s))
        )

    def attended(self, conditions: Conditions, x: Tensor) -> dict[str, Tensor]:
        return {
            "encoder_hidden_states": _read(self.readers, conditions),
            "encoder_attention_mask": _far_below(conditions.mask, x.dtype),
        }


def _far_below(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of tokens as diffusers' blocks take it, (batch, 1, tokens): zero where one counts, far below where not."""
    return (1 - mask[:, None].to(dtype)) * -10_000.0


def _read(readers: nn.ModuleList, conditions: Conditions) -> Tensor:
    """A text's tokens, (batch, tokens, width), after they have looked at each other."""
    hidden, mask = conditions.hidden, _far_below(conditions.mask, conditions.hidden.dtype)
    for reader in readers:
        hidden = reader(hidden, attention_mask=mask)
    return hidden


def build(
    shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool], heads: int, groups: int, time_scale: float, width: int,
    text_layers: int = 0,
) -> TextUNet:  # fmt: skip
    """The UNet for latents of `shape` (channels, height, width) and texts of `width` numbers a token.

    Raises ValueError when the levels do not halve the latents evenly, or widths, heads, groups and levels do not fit.
    """
    unet_levels.check("text_unet", shape, channels, attention, {"groups": groups, "heads": heads})
    if text_layers and width % heads:
        raise ValueError(
            f"`text_layers` of tokens {width} wide need that to be divisible by the {heads} heads: change `heads`, or the CLIP's `width`"
        )
    return TextUNet(shape, channels, layers, attention, heads, groups, time_scale, width, text_layers)
