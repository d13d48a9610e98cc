"""A two-time UNet for v_{s,t}(x) on images: diffusers' UNet2DModel, its times embedded as s and t - s."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from . import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import UNet2DModel  # isort: skip
from . import unet_levels
from .forward_mode.dual import Dual, parts, value_of


class Waves(nn.Module):
    """sin and cos of w time for `dim` / 2 frequencies w spaced evenly in the logarithm from 1 to `highest` radians.

    Half a turn at most over the whole of [0, 1] at the low end; the high end bounds the derivative in time, which
    the objectives of flow maps differentiate through: the thousand of diffusion models would drown it.
    """

    def __init__(self, dim: int, highest: float):
        super().__init__()
        self.register_buffer("frequencies", torch.logspace(0, 1, dim // 2, base=highest), persistent=False)

    def forward(self, time: Tensor) -> Tensor:
        """(batch,) -> (batch, dim)."""
        angle = time[:, None] * self.frequencies
        return torch.cat([angle.sin(), angle.cos()], 1)


def prepared(model: nn.Module, time_scale: float) -> nn.Module:
    """A UNet of diffusers as these flow maps want it: its times in waves up to `time_scale` radians, the identity before it is trained."""
    model.time_proj = Waves(model.config.block_out_channels[0], time_scale)
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            # torch.func's group norm refuses what attention leaves behind
            module.register_forward_pre_hook(lambda _, inputs: (inputs[0].contiguous(),))
    nn.init.zeros_(model.conv_out.weight)
    nn.init.zeros_(model.conv_out.bias)
    return model


def head_width(channels: Sequence[int], attention: Sequence[bool]) -> int | None:
    """Channels a head of attention: as many as the narrowest level that attends has, and 64 at most; None if none attends."""
    return (
        min((64, *(width for width, attends in zip(channels, attention) if attends)))
        if any(attention)
        else None
    )


class UNet(nn.Module):
    """v_{s,t}(x) for images (batch, channels, height, width).

    channels    the width of each level, from the finest to the coarsest; every level halves the image
    layers      residual blocks a level
    attention   whether each level attends, in heads of `head_width` channels; the middle does if any level does
    groups      the groups of every normalisation
    time_scale  the highest frequency of the embedding of times, in radians
    dropout     the dropped fraction in every residual block while training; equal batches drop equal units

    The last layer starts at zero, so an untrained flow map is the identity.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        channels: Sequence[int],
        layers: int,
        attention: Sequence[bool],
        groups: int,
        time_scale: float,
        dropout: float,
    ):
        super().__init__()
        self.attends, self.dropout = any(attention), dropout
        down = ["AttnDownBlock2D" if attends else "DownBlock2D" for attends in attention]
        up = ["AttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)]
        self.model = UNet2DModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=tuple(channels), layers_per_block=layers,
            down_block_types=tuple(down), up_block_types=tuple(up), norm_num_groups=groups, class_embed_type="timestep", freq_shift=0,
            add_attention=self.attends, attention_head_dim=head_width(channels, attention), dropout=dropout,
            resnet_time_scale_shift="scale_shift",
        )  # fmt: skip
        prepared(self.model, time_scale)

    def _run(self, s: Tensor, gap: Tensor, x: Tensor) -> Tensor:
        if not (self.dropout and self.training):
            return self.model(x, s, class_labels=gap, return_dict=False)[0]
        # what is dropped follows from the batch itself: torch's own random state is in no checkpoint, and a run that
        # goes on from one must drop what it would have dropped
        content = value_of(x).detach().float().contiguous().view(torch.int32)
        with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
            torch.manual_seed(int(content.sum(dtype=torch.int64)))
            return self.model(x, s, class_labels=gap, return_dict=False)[0]

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), images (batch, channels, height, width)."""
        # the fused attention kernels have no forward-mode derivative
        plain = self.attends and torch._C._are_functorch_transforms_active()
        with sdpa_kernel(SDPBackend.MATH) if plain else nullcontext():
            return self._run(s, t - s, x)

    def pushforward(
        self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor
    ) -> tuple[Tensor, Tensor]:
        """v_{s,t}(x) and its derivative along (ds, dt, dx), from one pass of dual numbers."""
        return parts(self._run(Dual(s, ds), Dual(t - s, dt - ds), Dual(x, dx)))


def build(
    shape: tuple[int, ...],
    channels: Sequence[int],
    layers: int,
    attention: Sequence[bool],
    groups: int,
    time_scale: float,
    dropout: float = 0.0,
) -> UNet:
    """The UNet for images of `shape` (channels, height, width).

    Raises ValueError when the levels do not halve the image evenly, or widths, groups and levels do not fit.
    """
    unet_levels.check("unet", shape, channels, attention, {"groups": groups})
    own = head_width(channels, attention)
    if odd := [
        width for width, attends in zip(channels, [*attention[:-1], True]) if own and attends and width % own
    ]:
        raise ValueError(
            f"a level of a unet that attends is {odd[0]} wide, which heads of {own} channels do not divide: change `channels` or `attention`"
        )
    return UNet(shape, channels, layers, attention, groups, time_scale, dropout)
