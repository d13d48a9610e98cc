"""A two-time UNet for v_{s,t}(x | c) on latents, told a text: diffusers' UNet2DConditionModel, its times embedded as s and t - s."""

from __future__ import annotations

import copy
from contextlib import nullcontext
from typing import Sequence

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from .. import missing_operators  # noqa: F401  before diffusers
from diffusers import UNet2DConditionModel  # isort: skip
from ..conditions import Conditions
from .unet import Waves


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
        down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention]
        up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)]
        self.model = UNet2DConditionModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=tuple(channels), layers_per_block=layers,
            down_block_types=tuple(down), up_block_types=tuple(up), norm_num_groups=groups, cross_attention_dim=width,
            # by the name of a width, diffusers' setting has always been the number of heads
            attention_head_dim=heads, class_embed_type="timestep", freq_shift=0,
        )  # fmt: skip
        self.model.time_proj = Waves(channels[0], time_scale)
        for module in self.model.modules():
            if isinstance(module, nn.GroupNorm):
                # torch.func's group norm refuses what attention leaves behind
                module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
        nn.init.zeros_(self.model.conv_out.weight)
        nn.init.zeros_(self.model.conv_out.bias)

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
        return Encoder(self)


class Encoder(nn.Module):
    """What a TextUNet makes, up to its middle, of latents at times (batch,) and their texts: (batch, width, height, width of the coarsest level).

    width  the channels of what it makes
    """

    def __init__(self, network: TextUNet):
        super().__init__()
        model = copy.deepcopy(network.model).requires_grad_(True)
        self.time_proj, self.time_embedding, self.class_embedding = model.time_proj, model.time_embedding, model.class_embedding
        self.conv_in, self.down_blocks, self.mid_block = model.conv_in, model.down_blocks, model.mid_block
        self.width = model.config.block_out_channels[-1]

    def forward(self, s: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        """`s` is this library's time, 0 for noise."""
        embedded = self.time_embedding(self.time_proj(s)) + self.class_embedding(self.time_proj(torch.zeros_like(s)))
        # as diffusers hands a mask on: zero where a token counts, far below where not
        told = {"encoder_hidden_states": conditions.hidden, "encoder_attention_mask": (1 - conditions.mask[:, None].to(x.dtype)) * -10_000.0}
        h = self.conv_in(x)
        for block in self.down_blocks:
            h, _ = block(h, embedded, **told) if getattr(block, "has_cross_attention", False) else block(h, embedded)
        return self.mid_block(h, embedded, **told)


def build(
    shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool], heads: int, groups: int, time_scale: float, width: int
) -> TextUNet:
    """The UNet for latents of `shape` (channels, height, width) and texts of `width` numbers a token.

    Raises ValueError when the levels do not halve the latents evenly, or widths, heads, groups and levels do not fit.
    """
    if len(shape) != 3:
        raise ValueError(f"a text_unet takes latents of shape (channels, height, width), not {tuple(shape)}")
    if len(attention) != len(channels):
        raise ValueError(f"a text_unet needs one entry of `attention` for each of its {len(channels)} levels, not {len(attention)}")
    halvings = 2 ** (len(channels) - 1)
    if shape[1] % halvings or shape[2] % halvings:
        raise ValueError(f"{len(channels)} levels halve the latents {len(channels) - 1} times: {shape[1]} x {shape[2]} is not divisible by {halvings}")
    if any(own % groups or own % heads for own in channels):
        raise ValueError(f"every width of {list(channels)} must be divisible by the {groups} groups and by the {heads} heads")
    return TextUNet(shape, channels, layers, attention, heads, groups, time_scale, width)
