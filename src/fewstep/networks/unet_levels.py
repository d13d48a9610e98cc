"""What UNets have in common: levels that halve the images, the names of diffusers' blocks, and the layers up to the middle."""

from __future__ import annotations

import copy
from collections.abc import Sequence

from torch import Tensor, nn

from ..flows.conditioning import Conditions


def check(
    kind: str,
    shape: Sequence[int],
    channels: Sequence[int],
    attention: Sequence[bool],
    divisors: dict[str, int],
) -> None:
    """Raise ValueError unless a UNet of `kind` fits images or latents of `shape` (channels, height, width).

    Every level but the last halves them, `attention` has an entry for each, and each of the `divisors`, by what it counts,
    divides every width of `channels`.
    """
    if len(shape) != 3:
        raise ValueError(
            f"a {kind} takes images or latents of shape (channels, height, width), not {tuple(shape)}"
        )
    if len(attention) != len(channels):
        raise ValueError(
            f"a {kind} needs one entry of `attention` for each of its {len(channels)} levels, not {len(attention)}"
        )
    factor = 2 ** (len(channels) - 1)
    if shape[1] % factor or shape[2] % factor:
        raise ValueError(
            f"{len(channels)} levels of a {kind} halve the image {len(channels) - 1} times: {shape[1]} x {shape[2]} is not divisible by {factor}"
        )
    for what, number in divisors.items():
        if odd := [width for width in channels if width % number]:
            raise ValueError(
                f"a level of a {kind} is {odd[0]} wide: every width of {list(channels)} must be divisible by the {number} {what}"
            )


def cross_attention_blocks(attention: Sequence[bool]) -> dict[str, tuple[str, ...]]:
    """The blocks of a UNet2DConditionModel, as its settings name them: cross-attention where `attention`, from the finest level, says so."""
    down = tuple("CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention)
    up = tuple("CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention))
    return {"down_block_types": down, "up_block_types": up}


class Encoder(nn.Module):
    """What a UNet that is attended texts makes, up to its middle, of latents at times (batch,): (batch, width, height, width of the coarsest level).

    Its layers are copies, to be trained as part of something else. A subclass says how times and texts reach them.

    width  the channels of what it makes
    """

    # the layers that are copied
    LAYERS: tuple[str, ...] = ("time_proj", "time_embedding", "conv_in", "down_blocks", "mid_block")

    def __init__(self, model: nn.Module):
        super().__init__()
        for name in self.LAYERS:
            setattr(self, name, copy.deepcopy(getattr(model, name)).requires_grad_(True))
        self.width = model.config.block_out_channels[-1]

    def embedded(self, s: Tensor, x: Tensor) -> Tensor:
        """The embedding of times; `s` is this library's, 0 for noise."""
        raise NotImplementedError(f"{type(self).__name__} must define embedded(s, x)")

    def attended(self, conditions: Conditions, x: Tensor) -> dict[str, Tensor]:
        """The texts, as diffusers' blocks take them."""
        raise NotImplementedError(f"{type(self).__name__} must define attended(conditions, x)")

    def forward(self, s: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        embedded, attended = self.embedded(s, x), self.attended(conditions, x)
        h = self.conv_in(x)
        for block in self.down_blocks:
            h, _ = (
                block(h, embedded, **attended)
                if getattr(block, "has_cross_attention", False)
                else block(h, embedded)
            )
        return self.mid_block(h, embedded, **attended)
