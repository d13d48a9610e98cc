"""The checkerboard, eight filled squares of side 1/2 on [-1, 1]^2, and the exact velocity to it.

The teacher of the tables' `exact` rows.
"""

from math import log, pi, sqrt

import torch
from torch import Tensor

from ..flow_map import FlowMap

SIDE, CELLS = 0.5, 4
EDGES = tuple(-1 + SIDE * k for k in range(CELLS + 1))
FILLED = tuple((i, j) for i in range(CELLS) for j in range(CELLS) if (i + j) % 2 == 0)
DATA_SCALE = sqrt(1 / 3)  # the standard deviation of one coordinate, which the noise is scaled to
EARLIEST, LATEST = 1e-4, 1 - 1e-6  # the ends of the time interval are limits of the formula


def sample(count: int, generator: torch.Generator) -> Tensor:
    """`count` points of the checkerboard, (count, 2), float32, on the generator's device."""
    corner = torch.tensor(FILLED, dtype=torch.float32, device=generator.device)
    which = torch.randint(len(FILLED), (count,), generator=generator, device=generator.device)
    return (corner[which] + torch.rand(count, 2, generator=generator, device=generator.device)) * SIDE - 1


def _truncated_normal(low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
    """log P(low < Z < high) and E[Z | low < Z < high] for Z ~ N(0, 1), stable far out in both tails."""
    flip = low > 0
    a, b = torch.where(flip, -high, low), torch.where(flip, -low, high)
    below, above = torch.special.log_ndtr(a), torch.special.log_ndtr(b)
    mass = above + torch.log1p(-torch.exp(below - above))
    at_a, at_b = (torch.exp(-end.square() / 2 - log(2 * pi) / 2 - mass) for end in (a, b))
    mean = at_a - at_b
    return mass, torch.where(flip, -mean, mean)


class CheckerboardFlow(FlowMap):
    """The flow from N(0, scale^2 1) to the checkerboard under the linear interpolant; points (batch, 2).

    Given I_t = x, the noise x0 is its Gaussian prior cut down to {x0 : (x - (1-t) x0) / t in a filled
    square}: on each axis a truncated normal, and b_t(x) = (x - E[x0 | I_t = x]) / t. Computed in float64 and
    returned in the type of `x`; times are held inside [1e-4, 1 - 1e-6], where the limits differ from the
    values by less than 1e-3. Only the diagonal is known; integrate it for the map.

    >>> drawn = euler(CheckerboardFlow(), CheckerboardFlow().scale * torch.randn(64, 2), steps=80)
    >>> bool(drawn.points.abs().max() < 1.5)
    True
    """

    def __init__(self, scale: float = DATA_SCALE) -> None:
        super().__init__()
        self.scale = scale

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        time = t.double().clamp(EARLIEST, LATEST)[:, None, None]
        y = x.double()[:, :, None]
        edges = torch.tensor(EDGES, dtype=torch.float64, device=x.device)
        bounds = (y - time * edges) / ((1 - time) * self.scale)
        # (batch, axis, interval); an interval of x1 maps to one of x0 with its ends exchanged
        mass, mean = _truncated_normal(bounds[..., 1:], bounds[..., :-1])
        columns, rows = (torch.tensor(k, device=x.device) for k in zip(*FILLED))
        weight = (mass[:, 0, columns] + mass[:, 1, rows]).softmax(1)
        noise = torch.stack([(weight * mean[:, 0, columns]).sum(1), (weight * mean[:, 1, rows]).sum(1)], 1)
        return ((x.double() - self.scale * noise) / time[:, :, 0]).to(x.dtype)


class CheckerboardMap(CheckerboardFlow):
    """The exact flow map of the checkerboard: a jump integrates the exact velocity.

    `substeps` midpoint steps for each unit of time; at 100 the jump 0 -> 1 of a typical point is off by less
    than 1e-3, and no step touches t = 1, where the velocity is a limit.

    >>> CheckerboardMap().jump(torch.zeros(8), torch.ones(8), torch.randn(8, 2)).shape
    torch.Size([8, 2])
    """

    def __init__(self, scale: float = DATA_SCALE, substeps: int = 100) -> None:
        super().__init__(scale)
        self.substeps = substeps

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        count = max(1, int(torch.ceil((t - s).abs().max() * self.substeps)))
        step = (t - s) / count
        for k in range(count):
            now = s + k * step
            half = x + (step / 2)[:, None] * self.velocity(now, x)
            x = x + step[:, None] * self.velocity(now + step / 2, half)
        return x
