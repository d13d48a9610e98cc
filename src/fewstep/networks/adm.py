"""The ADM UNet as Latent Flow Matching publishes it, made a flow map: v_{s,t}(x) on latents, and on images.

Layers and names of weights are the published ones (openai/guided-diffusion's UNetModel with learned
resampling, in VinAIResearch/LFM): see fewstep.networks.published.lfm. The published network runs from data at
time 0 to noise at time 1, unscaled, and predicts noise - data, so v_{s,s}(x) = -ADM(1 - s, x).

What the gap t - s adds to the embedding of time vanishes at t = s, whatever is trained, and everywhere until
something is trained (`embeddings.gap_layers`): the diagonal is the published network bit for bit.
"""

from collections import OrderedDict
from collections.abc import Sequence
from math import log

import torch
from torch import Tensor, nn

from .embeddings import SinusoidalEmbedding, gap_features, gap_layers, zeroed
from .forward_mode.dual import DualNetwork
from .unet_levels import check_halving, repeatable_dropout

GROUPS = 32


def falling(dim: int) -> SinusoidalEmbedding:
    """`dim` numbers: cos, then sin, of frequencies from 1 radian down to a ten-thousandth."""
    half = dim // 2
    frequencies = torch.exp(-log(10_000) * torch.arange(half, dtype=torch.float32) / half)
    return SinusoidalEmbedding(frequencies, cosine_first=True)


class Normalisation(nn.GroupNorm):
    """Normalisation by sample and group, in the weights' own precision, where autocast would round."""

    def __init__(self, channels: int):
        super().__init__(GROUPS, channels)

    def forward(self, x: Tensor) -> Tensor:
        # torch.func's group norm takes contiguous inputs only
        return super().forward(x.to(self.weight.dtype).contiguous()).to(x.dtype)


class ResidualBlock(nn.Module):
    """x + f(x, time), (batch, inner, h, w) -> (batch, outer, h, w); time scales and shifts inside."""

    def __init__(self, inner: int, outer: int, embedding: int, dropout: float):
        super().__init__()
        self.in_layers = nn.Sequential(Normalisation(inner), nn.SiLU(), nn.Conv2d(inner, outer, 3, padding=1))
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(embedding, 2 * outer))
        last = zeroed(nn.Conv2d(outer, outer, 3, padding=1))
        self.out_layers = nn.Sequential(Normalisation(outer), nn.SiLU(), nn.Dropout(dropout), last)
        self.skip_connection = nn.Identity() if inner == outer else nn.Conv2d(inner, outer, 1)

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        scale, shift = self.emb_layers(embedded)[:, :, None, None].chunk(2, dim=1)
        normalise, *others = self.out_layers
        h = normalise(self.in_layers(x)) * (1 + scale) + shift
        for layer in others:
            h = layer(h)
        return self.skip_connection(x) + h


class AttentionBlock(nn.Module):
    """x + attention of every place to every place, (batch, channels, h, w).

    Channels lie head by head, queries, keys and values of a head together, as in the published checkpoints.
    """

    def __init__(self, channels: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm = Normalisation(channels)
        self.qkv = nn.Conv1d(channels, 3 * channels, 1)
        self.proj_out = zeroed(nn.Conv1d(channels, channels, 1))

    def forward(self, x: Tensor) -> Tensor:
        n, c, height, width = x.shape
        x = x.reshape(n, c, height * width)
        together = self.qkv(self.norm(x)).reshape(n * self.heads, 3 * c // self.heads, height * width)
        q, k, v = together.chunk(3, dim=1)
        # both sides take half of 1 / sqrt(channels of a head), as published; written out, since fused
        # attention has no forward-mode derivative
        scale = (c // self.heads) ** -0.25
        weights = torch.softmax((q * scale).transpose(1, 2) @ (k * scale), dim=-1)
        attended = (v @ weights.transpose(1, 2)).reshape(n, c, height * width)
        return (x + self.proj_out(attended)).reshape(n, c, height, width)


class Stage(nn.Sequential):
    """Layers one after the other, of which the residual blocks are given the embedding of time."""

    def forward(self, x: Tensor, embedded: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, embedded) if isinstance(layer, ResidualBlock) else layer(x)
        return x


class ADM(DualNetwork):
    """v_{s,t}(x) for (batch, channels, height, width), of one `shape` (channels, height, width).

    width          the channels that `multipliers` multiply, and the number of waves in time
    multipliers    the channels of each level in units of `width`, from the finest to the coarsest
    blocks         residual blocks a level on the way down; one more on the way up
    attention      the levels that attend, by how many times smaller the image is there (8: 4 x 4 of 32 x 32);
                   the middle always does
    heads          of every attention; weights fit any number of heads, and compute another function
    head_channels  the channels of a head, in place of `heads` where it is given
    dropout        the dropped fraction in every residual block while training; equal batches drop equal units

    SCFlow's training script gives the network for CelebA-HQ latents 4 heads, of 128 channels, and its test
    script 32 channels a head. The last layer starts at zero. Raises ValueError when levels do not halve the
    image evenly, or widths, groups, levels and heads do not fit.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, multipliers: Sequence[int], blocks: int,
        attention: Sequence[int], heads: int, head_channels: int | None = None, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        if len(shape) != 3:
            raise ValueError(f"an adm takes images of shape (channels, height, width), not {tuple(shape)}")
        if width % GROUPS:
            wanted = f"must be divisible by its {GROUPS} groups, and {width} is not"
            raise ValueError(f"the width of an adm {wanted}")
        check_halving(f"{len(multipliers)} levels", shape, len(multipliers))
        levels = [(2**k, multiplier * width) for k, multiplier in enumerate(multipliers)]
        factors = [factor for factor, _ in levels]
        if strangers := sorted(set(attention) - set(factors)):
            level = f"a level {strangers[0]} times smaller than the image"
            raise ValueError(f"`attention` names {level}, and there are {factors}")
        name, size = ("heads", heads) if head_channels is None else ("head_channels", head_channels)
        for factor, channels in levels:
            if (factor in attention or factor == factors[-1]) and channels % size:
                raise ValueError(f"{channels} channels attend, and `{name}` {size} does not divide them")
        self.dropout = dropout
        embedding, self.embedding = 4 * width, falling(width)
        first, last = nn.Linear(width, embedding), nn.Linear(embedding, embedding)
        self.time_embed = nn.Sequential(first, nn.SiLU(), last)
        self.gap_embed = gap_layers(width, embedding)

        def attend(channels: int) -> AttentionBlock:
            return AttentionBlock(channels, channels // head_channels if head_channels else heads)

        def block(inner: int, outer: int, factor: int) -> list[nn.Module]:
            """A residual block, and attention where the image is `factor` times smaller, if there."""
            residual = ResidualBlock(inner, outer, embedding, dropout)
            return [residual, attend(outer)] if factor in attention else [residual]

        channels = levels[0][1]
        self.input_blocks = nn.ModuleList([Stage(nn.Conv2d(shape[0], channels, 3, padding=1))])
        kept = [channels]
        for factor, outer in levels:
            if factor > 1:
                halved = OrderedDict(op=nn.Conv2d(channels, channels, 3, stride=2, padding=1))
                self.input_blocks.append(Stage(nn.Sequential(halved)))
                kept.append(channels)
            for _ in range(blocks):
                self.input_blocks.append(Stage(*block(channels, outer, factor)))
                channels = outer
                kept.append(channels)
        self.middle_block = Stage(
            ResidualBlock(channels, channels, embedding, dropout),
            attend(channels),
            ResidualBlock(channels, channels, embedding, dropout),
        )
        self.output_blocks = nn.ModuleList()
        for factor, outer in reversed(levels):
            for k in range(blocks + 1):
                layers = block(channels + kept.pop(), outer, factor)
                channels = outer
                if factor > 1 and k == blocks:
                    repeat, conv = nn.Upsample(scale_factor=2.0), nn.Conv2d(channels, channels, 3, padding=1)
                    layers.append(nn.Sequential(OrderedDict(repeat=repeat, conv=conv)))
                self.output_blocks.append(Stage(*layers))
        last = zeroed(nn.Conv2d(channels, shape[0], 3, padding=1))
        self.out = nn.Sequential(Normalisation(channels), nn.SiLU(), last)

    def published(self, time: Tensor, x: Tensor, gap: Tensor | None = None) -> Tensor:
        """ADM(time, x), the published network's estimate of noise - data: noise at time 1, data at time 0.

        `gap` (batch,), if any, is the time from here to the end of the jump, in this library's direction.
        """
        embedded = self.time_embed(self.embedding(time))
        if gap is not None:
            embedded = embedded + self.gap_embed(gap_features(self.embedding, gap))
        kept, h = [], x
        for stage in self.input_blocks:
            h = stage(h, embedded)
            kept.append(h)
        h = self.middle_block(h, embedded)
        for stage in self.output_blocks:
            h = stage(torch.cat([h, kept.pop()], 1), embedded)
        return self.out(h)

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), images (batch, channels, height, width)."""
        with repeatable_dropout(self, x):
            return -self.published(1 - s, x, t - s)


build = ADM
