"""Layers that keep the size of what passes through them, after Karras et al. 2024 (arXiv 2312.02696).

The size of a tensor is the root of the mean of its squares; that of independent inputs of size 1 stays 1.
"""

from math import prod, sqrt

import torch
from torch import Tensor, nn
from torch.nn import functional as F

EPSILON = 1e-4  # added to a size before one divides by it
SILU = 0.596  # the size of silu(z) for z ~ N(0, 1), as published


def unit(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """`x` over its size along `dims`, which is taken in single precision at least: of size 1 along them."""
    wide = x.to(torch.promote_types(x.dtype, torch.float32))
    return (wide / ((wide * wide).mean(dims, keepdim=True).sqrt() + EPSILON)).to(x.dtype)


def silu(x: Tensor) -> Tensor:
    """silu(x) / 0.596 (Eq. 81)."""
    return F.silu(x) / SILU


def mixed(a: Tensor, b: Tensor, share: float) -> Tensor:
    """((1 - share) a + share b) over the size of that sum for independent a and b of size 1 (Eq. 88)."""
    return (a * (1 - share) + b * share) / sqrt((1 - share) ** 2 + share**2)


def concatenated(a: Tensor, b: Tensor, share: float) -> Tensor:
    """The channels of a and of b, which contribute as (1 - share) to share, many or few (Eq. 103)."""
    m, n = a.shape[1], b.shape[1]
    scale = sqrt((m + n) / ((1 - share) ** 2 + share**2))
    return torch.cat([a * (scale * (1 - share) / sqrt(m)), b * (scale * share / sqrt(n))], 1)


class Layer(nn.Module):
    """A linear layer (no `kernel`) or a convolution of odd `kernel`, without bias, whose filters have norm 1.

    The filters that it applies are `weight` (outer, inner, ...) over their norms (Eq. 47), times a gain.
    """

    def __init__(self, inner: int, outer: int, kernel: int | None = None):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(outer, inner, *[kernel] * (2 if kernel else 0)))
        # of the weight that is on its sphere: which tensor, and how often it had been written
        self._projected = (0, -1)

    @torch.no_grad()
    def project(self) -> None:
        """Put the filters of `weight` back on their sphere, at size 1, if they have changed (Eq. 66)."""
        # once a step: a second time, it would take from an earlier pass what its derivative needs
        if self._projected != (id(self.weight), self.weight._version):
            self.weight.copy_(unit(self.weight, tuple(range(1, self.weight.ndim))))
            self._projected = (id(self.weight), self.weight._version)

    def forward(self, x: Tensor, gain: Tensor | float = 1.0) -> Tensor:
        """(batch, inner, ...) to (batch, outer, ...), at the sizes of x if `gain` is 1."""
        dims = tuple(range(1, self.weight.ndim))
        filters = unit(self.weight, dims) * (gain / sqrt(prod(self.weight.shape[1:])))
        if self.weight.ndim == 2:
            return F.linear(x, filters)
        return F.conv2d(x, filters, padding=self.weight.shape[-1] // 2)
