"""EDM2's magnitude-preserving UNet (arXiv 2312.02696) for v_{s,t}(x) on images, told s and t - s.

It is the network of the follow-up's images (arXiv 2505.18825): without normalisation layers and biases,
every layer keeps the size of what passes through it, and weights stay on a sphere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import unet_levels
from .forward_mode.dual import DualNetwork, value_of
from .magnitudes import Layer, concatenated, mixed, silu, unit

# of the residual branch and of attention beside what they are added to; of the skipped beside the decoder's
RESIDUAL, ATTENTION, SKIPPED = 0.3, 0.3, 0.5
LARGEST = 256.0  # activations are clipped to this after every block
HEAD = 64  # channels of a head of attention
PERIOD = 10_000.0  # the lowest frequency of the embedding of times, 1 / PERIOD radians; the highest is 1


def frequencies(count: int) -> Tensor:
    """`count` frequencies in radians, spaced evenly in the logarithm, from 1 down towards 1 / PERIOD."""
    return PERIOD ** (-torch.arange(count) / count)


class Times(nn.Module):
    """One time (batch,) as (batch, embedding): its cosines and sines at unit size, and a layer."""

    def __init__(self, width: int, embedding: int):
        super().__init__()
        self.waves = unet_levels.SinusoidalEmbedding(frequencies(width // 2), cosine_first=True)
        self.layer = Layer(width, embedding)

    def forward(self, time: Tensor) -> Tensor:
        out: Tensor = self.layer(self.waves(time) * 2**0.5)
        return out


class Attention(nn.Module):
    """Self-attention over pixels, (batch, channels, height, width); queries, keys, values have unit size."""

    def __init__(self, channels: int):
        super().__init__()
        self.heads = max(channels // HEAD, 1)
        self.qkv, self.out = Layer(channels, 3 * channels, 1), Layer(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        batch, channels, height, width = x.shape
        parts = self.qkv(x).reshape(batch, self.heads, channels // self.heads, 3, height * width)
        q, k, v = (unit(parts, (2,))[:, :, :, i].transpose(2, 3) for i in range(3))
        y = F.scaled_dot_product_attention(q, k, v).transpose(2, 3).reshape(batch, channels, height, width)
        return mixed(x, self.out(y), ATTENTION)


class Block(nn.Module):
    """A residual block: (batch, inner, ...) and an embedding (batch, embedding) to (batch, outer, ...).

    A block of the encoder brings every pixel to unit size before it branches; one of the decoder does not.
    """

    def __init__(
        self,
        inner: int,
        outer: int,
        embedding: int,
        decodes: bool,
        attends: bool = False,
        dropout: float = 0.0,
    ):
        super().__init__()
        self.decodes, self.dropout = decodes, dropout
        self.skip = Layer(inner, outer, 1) if inner != outer else nn.Identity()
        self.first, self.second = Layer(inner if decodes else outer, outer, 3), Layer(outer, outer, 3)
        self.modulation, self.gain = Layer(embedding, outer), nn.Parameter(torch.zeros(()))
        self.attention = Attention(outer) if attends else nn.Identity()

    def forward(self, x: Tensor, embedding: Tensor) -> Tensor:
        if not self.decodes:
            x = unit(self.skip(x), (1,))
        y = self.first(silu(x))
        y = silu(y * (self.modulation(embedding, self.gain) + 1)[:, :, None, None])
        y = self.second(F.dropout(y, self.dropout, self.training))
        if self.decodes:
            x = self.skip(x)
        return self.attention(mixed(x, y, RESIDUAL)).clamp(-LARGEST, LARGEST)


class EDM2(DualNetwork):
    """v_{s,t}(x) for images (batch, channels, height, width), of one `shape` (channels, height, width).

    width        channels of the finest level at multiplier 1
    multipliers  of `width`, by level, from the finest to the coarsest; every level halves the image
    blocks       residual blocks a level in the encoder; the decoder has one more
    attention    which levels attend, by how many times smaller their images are; the coarsest does once
    data_std     the standard deviation of the data: 0.5 for the follow-up's images
    dropout      the dropped fraction in every block while training; equal batches drop equal units

    With F the layers and c the `data_std`, v_{s,t}(x) = c F(x / c, s, t - s). The last layer's gain starts at
    zero, so an untrained flow map is the identity. In training mode, weights are put back on their sphere
    before they are used: what a step of the optimiser adds to their length never acts. Raises ValueError
    when the levels do not halve the image evenly.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, multipliers: Sequence[int], blocks: int,
        attention: Sequence[int], data_std: float, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        widths = [width * multiplier for multiplier in multipliers]
        attends = [2**level in attention for level in range(len(widths))]
        unet_levels.sizes("an edm2", shape, widths, blocks, attends, 1, "")
        embedding, self.dropout, self.data_std = max(widths), dropout, data_std
        self.start, self.gap = (Times(widths[0], embedding) for _ in range(2))
        self.first = Layer(shape[0] + 1, widths[0], 3)
        self.encoder, self.decoder = nn.ModuleList(), nn.ModuleList()
        # before its block, an image is halved or doubled, and joined with the encoder's of its size
        self.halves, self.doubles, self.joins = [], [], []
        now, skipped = widths[0], [widths[0]]

        def encode(outer: int, attending: bool, halves: bool) -> None:
            self.encoder.append(Block(now, outer, embedding, False, attending, dropout))
            self.halves.append(halves)
            skipped.append(outer)

        def decode(inner: int, outer: int, attending: bool, doubles: bool, joins: bool) -> None:
            self.decoder.append(Block(inner, outer, embedding, True, attending, dropout))
            self.doubles.append(doubles)
            self.joins.append(joins)

        for level, outer in enumerate(widths):
            if level:
                encode(now, False, halves=True)
            for _ in range(blocks):
                encode(outer, attends[level], halves=False)
                now = outer
        decode(now, now, True, doubles=False, joins=False)
        decode(now, now, False, doubles=False, joins=False)
        for level, outer in reversed(list(enumerate(widths))):
            if level < len(widths) - 1:
                decode(now, now, False, doubles=True, joins=False)
            for _ in range(blocks + 1):
                decode(now + skipped.pop(), outer, attends[level], doubles=False, joins=True)
                now = outer
        self.last, self.gain = Layer(now, shape[0], 3), nn.Parameter(torch.zeros(()))

    @torch.compiler.disable
    def _project(self) -> None:
        for module in self.modules():
            if isinstance(module, Layer):
                module.project()

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), images (batch, channels, height, width)."""
        # torch.func lets nobody write; that pass computes the same with weights of any length
        if self.training and not unet_levels.is_differentiated():
            self._project()
        with unet_levels.differentiable_attention(), unet_levels.repeatable_dropout(self, x):
            embedding = silu(mixed(self.start(s), self.gap(t - s), 0.5))
            x = x / self.data_std
            # a channel of ones does the work of a bias
            x = self.first(torch.cat([x, torch.ones_like(value_of(x)[:, :1])], 1))
            skipped = [x]
            for block, halves in zip(self.encoder, self.halves):
                x = block(F.avg_pool2d(x, 2) if halves else x, embedding)
                skipped.append(x)
            for block, doubles, joins in zip(self.decoder, self.doubles, self.joins):
                x = F.interpolate(x, scale_factor=2.0, mode="nearest") if doubles else x
                x = block(concatenated(x, skipped.pop(), SKIPPED) if joins else x, embedding)
            return self.last(x, self.gain) * self.data_std


build = EDM2
