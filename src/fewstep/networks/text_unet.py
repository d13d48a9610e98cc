"""A two-time UNet for v_{s,t}(x | c) on latents, told a text: diffusers' UNet2DConditionModel, its times embedded as s and t - s."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import missing_operators  # noqa: F401  before diffusers
from diffusers import UNet2DConditionModel  # isort: skip
from ..conditions import Conditions
from . import levels
from .unet import prepared


class TextUNet(nn.Module):
    """v_{s,t}(x | c) for latents (batch, channels, height, width) and texts of `width` numbers a token.

    attention   for each level, from the finest: whether its places attend to each other and to the text; the middle always does
    heads       of every attention
    groups      the groups of every normalisation
    time_scale  the highest frequency of the embedding of times, in radians

    The last layer starts at zero, so an untrained flow map is the identity.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool], heads: int, groups: int, time_scale: float, width: int
    ):
        super().__init__()
        self.model = UNet2DConditionModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=tuple(channels), layers_per_block=layers,
            **levels.told_blocks(attention), norm_num_groups=groups, cross_attention_dim=width,
            # by the name of a width, diffusers' setting has always been the number of heads
            attention_head_dim=heads, class_embed_type="timestep", freq_shift=0,
        )  # fmt: skip
        prepared(self.model, time_scale)

    def forward(self, s: Tensor, t: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        """v_{s,t}(x | c): times (batch,), latents (batch, channels, height, width), a text a sample."""
        # the fused attention kernels have no forward-mode derivative
        plain = torch._C._are_functorch_transforms_active()
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            return self.model(
                x, s, encoder_hidden_states=conditions.hidden, class_labels=t - s, encoder_attention_mask=conditions.mask, return_dict=False
            )[0]


    def encoder(self) -> "Encoder":
        """The layers up to the middle, copied, to be trained as part of something else."""
        return Encoder(self.model)


class Encoder(levels.Encoder):
    """The layers of a TextUNet up to its middle; see fewstep.networks.levels."""

    LAYERS = (*levels.Encoder.LAYERS, "class_embedding")

    def embedded(self, s: Tensor, x: Tensor) -> Tensor:
        return self.time_embedding(self.time_proj(s)) + self.class_embedding(self.time_proj(torch.zeros_like(s)))

    def told(self, conditions: Conditions, x: Tensor) -> dict[str, Tensor]:
        # as diffusers hands a mask on: zero where a token counts, far below where not
        return {"encoder_hidden_states": conditions.hidden, "encoder_attention_mask": (1 - conditions.mask[:, None].to(x.dtype)) * -10_000.0}


def build(
    shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool], heads: int, groups: int, time_scale: float, width: int
) -> TextUNet:
    """The UNet for latents of `shape` (channels, height, width) and texts of `width` numbers a token.

    Raises ValueError when the levels do not halve the latents evenly, or widths, heads, groups and levels do not fit.
    """
    levels.check("text_unet", shape, channels, attention, {"groups": groups, "heads": heads})
    return TextUNet(shape, channels, layers, attention, heads, groups, time_scale, width)
