"""SCFlow's discriminators, to logits that are high for data and low for samples.

That of latents is StyleGAN2's residual one (arXiv 1912.04958, section 4.1); that of a text-to-image student,
for noised latents with their texts, is the teacher's layers up to its middle and a small head.
"""

from collections.abc import Callable, Sequence
from math import sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..flows.conditioning import Conditions
from ..flows.interpolants import per_sample

LAST = 4  # the side of the coarsest maps
SLOPE = 0.2
GROUPS = 8  # of the head's normalisation
KERNEL, RELEASED_GROUPS = 4, 32  # of SCFlow's released head
EPSILON = 1e-8  # under the root of the minibatch's deviation, which R1 differentiates twice


class Equalised(nn.Module):
    """A convolution, or a linear layer where `side` is None, with equalised learning rate.

    As in arXiv 1710.10196, section 4.1, weights are drawn from N(0, 1) and scaled by gain / sqrt(fan in)
    whenever they are used. `gain` scales the bias too: a positive factor behind a layer (sqrt 2 of a leaky
    ReLU, 1 / sqrt 2 of a residual sum) commutes with the leaky ReLU and costs nothing here.
    """

    def __init__(
        self, fan_in: int, out: int, side: int | None = None, gain: float = 1.0, stride: int = 1,
        padding: int = 0, bias: bool = True,
    ):  # fmt: skip
        super().__init__()
        kernel = () if side is None else (side, side)
        self.weight = nn.Parameter(torch.randn(out, fan_in, *kernel))
        self.bias = nn.Parameter(torch.zeros(out)) if bias else None
        self.gain, self.scale = gain, gain / sqrt(self.weight[0].numel())
        self.stride, self.padding = stride, padding

    def forward(self, x: Tensor) -> Tensor:
        """(batch, in, h, w) -> (batch, out, h', w'), or (batch, in) -> (batch, out)."""
        weight = self.weight * self.scale
        bias = None if self.bias is None else self.bias * self.gain
        if weight.ndim == 2:
            return F.linear(x, weight, bias)
        return F.conv2d(x, weight, bias, self.stride, self.padding)


class Blur(nn.Module):
    """The low-pass filter [1, 3, 3, 1] / 8 both ways, every channel by itself, before halving."""

    def __init__(self, padding: int, stride: int = 1):
        super().__init__()
        taps = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 8
        self.register_buffer("kernel", taps.outer(taps)[None, None], persistent=False)
        self.padding, self.stride = padding, stride

    def forward(self, x: Tensor) -> Tensor:
        """(batch, channels, h, w), padded by zeros; every stride-th pixel of the result."""
        channels = x.shape[1]
        kernel = self.kernel.expand(channels, 1, -1, -1)
        return F.conv2d(x, kernel, stride=self.stride, padding=self.padding, groups=channels)


def active(x: Tensor) -> Tensor:
    """The leaky ReLU of slope 0.2; its gain of sqrt 2 stands in the layer before it."""
    return F.leaky_relu(x, SLOPE)


class Block(nn.Module):
    """(main(x) + skip(x)) / sqrt 2, (batch, channels, h, w) -> (batch, out, h / 2, w / 2)."""

    def __init__(self, channels: int, out: int):
        super().__init__()
        self.first = Equalised(channels, channels, 3, gain=sqrt(2), padding=1)
        self.blur = Blur(padding=2)
        self.second = Equalised(channels, out, 3, gain=1.0, stride=2)  # sqrt 2 / sqrt 2
        self.halve = Blur(padding=1, stride=2)
        self.skip = Equalised(channels, out, 1, gain=sqrt(0.5), bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return active(self.second(self.blur(active(self.first(x))))) + self.skip(self.halve(x))


def group_size(batch: int, largest: int) -> int:
    """The largest divisor of `batch` that is at most `largest`."""
    return next(size for size in range(min(batch, largest), 0, -1) if batch % size == 0)


def with_deviation(x: Tensor, group: int, parts: int = 1) -> Tensor:
    """`x` (batch, channels, h, w) with one more channel: how much the samples of a group differ.

    That is (arXiv 1710.10196, section 3) the standard deviation over the group at each place of each map,
    averaged over places and maps. A group is `group` consecutive samples, or fewer: as many as divide each of
    the equal `parts` of the batch, so that a group never mixes data with samples.
    """
    size = group_size(len(x) // parts, group)
    grouped = x.view(-1, size, *x.shape[1:])
    deviation = (grouped.var(1, unbiased=False) + EPSILON).sqrt().mean((1, 2, 3))
    channel = deviation.repeat_interleave(size)[:, None, None, None].expand(-1, 1, *x.shape[2:])
    return torch.cat([x, channel], 1)


class Discriminator(nn.Module):
    """Logits (batch,) of latents of `shape` (channels, side, side); twice differentiable, as R1 needs.

    widths  the channels at each resolution, from the latents' own down to 4 x 4; SCFlow's are (512, 512, 512,
            512) on (4, 32, 32), StyleGAN2's min(512, 16384 / side)
    group   the consecutive samples whose deviation from each other it sees
    """

    def __init__(self, shape: tuple[int, ...], widths: Sequence[int], group: int = 4):
        super().__init__()
        self.group, last = group, widths[-1]
        self.enter = Equalised(shape[0], widths[0], 1, gain=sqrt(2))
        self.blocks = nn.Sequential(*(Block(fine, coarse) for fine, coarse in zip(widths, widths[1:])))
        self.mix = Equalised(last + 1, last, 3, gain=sqrt(2), padding=1)
        self.narrow = Equalised(last * LAST**2, last, gain=sqrt(2))
        self.out = Equalised(last, 1)

    def forward(self, z: Tensor, parts: int = 1) -> Tensor:
        """(batch, channels, height, width) -> (batch,); the batch consists of so many equal `parts`."""
        x = self.blocks(active(self.enter(z)))
        x = active(self.mix(with_deviation(x, self.group, parts)))
        return self.out(active(self.narrow(x.flatten(1))))[:, 0]


class TextDiscriminator(nn.Module):
    """Logits (batch,) of latents (batch, channels, height, width) at times (batch,), 1 for noise, and texts.

    teacher  the TextUNet or PublishedUNet whose layers up to the middle are copied, and then trained
    head     the channels of the two convolutions behind them
    shape    of latents, where the head is SCFlow's released one: one convolution, and from all places
             together one number, which passes through a sigmoid before any loss is taken

    Raises ValueError for latents of a `shape` whose features are too small for that.
    """

    def __init__(self, teacher: nn.Module, head: int, shape: Sequence[int] | None = None):
        super().__init__()
        self.encoder = teacher.encoder()
        if shape is not None:
            self.head = self._released(head, shape)
            return
        self.head = nn.Sequential(
            nn.Conv2d(self.encoder.width, head, 3, padding=1), nn.GroupNorm(min(GROUPS, head), head),
            nn.LeakyReLU(SLOPE), nn.Conv2d(head, head, 3, padding=1), nn.LeakyReLU(SLOPE),
            nn.Conv2d(head, 1, 1),
        )  # fmt: skip

    def _released(self, head: int, shape: Sequence[int]) -> nn.Sequential:
        halvings = sum(block.downsamplers is not None for block in self.encoder.down_blocks)
        sides = [((side >> halvings) - KERNEL) // 2 + 1 for side in shape[1:]]
        if min(sides) < 1:
            low = f"at least {KERNEL} x {KERNEL}, and latents of shape {tuple(shape)} come to less"
            raise ValueError(f"the released head takes features of {low}: leave `released` out")
        return nn.Sequential(
            nn.Conv2d(self.encoder.width, head, KERNEL, stride=2),
            nn.GroupNorm(min(RELEASED_GROUPS, head), head), nn.SiLU(), nn.Flatten(),
            nn.Linear(head * sides[0] * sides[1], 1), nn.Sigmoid(), nn.Unflatten(1, (1, 1, 1)),
        )  # fmt: skip

    def forward(self, z: Tensor, t: Tensor, texts: Conditions) -> Tensor:
        """The mean logit over places; `t` is SCFlow's time, 0 for data."""
        return self.head(self.encoder(1 - t, z, texts)).mean((1, 2, 3))

    def at(self, t: Tensor, noise: Tensor, texts: Conditions) -> Callable[..., Tensor]:
        """D((1 - t) z + t e, t, text), called as the losses call a discriminator, z at times (batch,).

        It maps (parts x batch, ...) to (parts x batch,): so many `parts` are versions with equal times.
        """

        def noised(z: Tensor, parts: int = 1) -> Tensor:
            times, e = torch.cat([t] * parts), torch.cat([noise] * parts)
            with_texts = texts if parts == 1 else texts.times(parts)
            return self(per_sample(1 - times, z) * z + per_sample(times, z) * e, times, with_texts)

        return noised
