"""The checkerboard's exact velocity: against quadrature over the data, the continuity equation and its
limits."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewstep.flows.exact import checkerboard
from fewstep.flows.exact.checkerboard import DATA_SCALE, EDGES, FILLED, CheckerboardFlow, CheckerboardMap

from .exact import F64, central, close, seeded, uniform, vector

NODES, WEIGHTS = np.polynomial.legendre.leggauss(80)


def _interval(x: float, t: float, low: float, high: float) -> tuple[float, float]:
    """log of the integral of p0((x - t x1) / (1 - t)) over x1 in [low, high], up to a constant, and E[x1]
    there.

    Gauss-Legendre on the part where the integrand is within e^-70 of its largest value: it may be a sliver.
    """
    width = DATA_SCALE * (1 - t) / t
    best = min(max(x / t, low), high)
    reach = width * np.sqrt(((best - x / t) / width) ** 2 + 140)
    low, high = max(low, x / t - reach), min(high, x / t + reach)
    pieces = np.linspace(low, high, 7)
    node = np.concatenate([(a + b) / 2 + (b - a) / 2 * NODES for a, b in zip(pieces, pieces[1:])])
    # the difference of squares, factored: far out the squares themselves have no digits left
    log = -(node - best) * (node + best - 2 * x / t) / (2 * width**2)
    weight = np.exp(log) * np.tile(WEIGHTS, 6)
    peak = -((best - x / t) ** 2) / (2 * width**2)
    return peak + np.log(weight.sum() * (high - low)), (weight * node).sum() / weight.sum()


def brute_force(t: float, x: tuple[float, float]) -> list[float]:
    """E[x1 - x0 | I_t = x], as x0 = (x - t x1) / (1 - t), by numerical quadrature over the eight squares."""
    axes = [[_interval(c, t, a, b) for a, b in zip(EDGES, EDGES[1:])] for c in x]
    log = np.array([axes[0][i][0] + axes[1][j][0] for i, j in FILLED])
    posterior = np.exp(log - log.max())
    posterior /= posterior.sum()
    mean = [sum(p * axes[k][cell[k]][1] for p, cell in zip(posterior, FILLED)) for k in (0, 1)]
    return [m - (c - t * m) / (1 - t) for m, c in zip(mean, x)]


POINTS = [
    (0.0, 0.0),
    (0.3, -0.6),
    (-0.75, 0.75),
    (0.25, 0.25),
    (1.2, -0.9),
    (0.5, 1e-3),
    (2.5, 2.0),
    (-4.0, 0.1),
    (6.0, -5.0),
]


@pytest.mark.parametrize("t", [2e-4, 0.01, 0.1, 0.3, 0.5, 0.7, 0.9, 0.97, 0.99, 0.999])
def test_the_velocity_is_the_conditional_mean(t):
    exact = torch.tensor([brute_force(t, x) for x in POINTS], dtype=F64)
    found = CheckerboardFlow().velocity(
        torch.full((len(POINTS),), t, dtype=F64), torch.tensor(POINTS, dtype=F64)
    )
    # digits go at both ends: the mean is divided by t, and logarithms of 10^7 are subtracted as t nears 1
    close(found, exact, 1e-8 if 0.01 <= t <= 0.99 else 1e-6)


@pytest.mark.parametrize("scale", [DATA_SCALE, 1.0])
def test_the_continuity_equation(scale):
    """d rho/dt + div(rho b) = 0, with the density of I_t from the normal distribution function."""
    flow, normal = CheckerboardFlow(scale), torch.distributions.Normal(0.0, 1.0)

    def density(t, x):
        edges = torch.tensor(EDGES, dtype=F64)
        bound = normal.cdf((x[..., None] - t[:, None, None] * edges) / (scale * (1 - t[:, None, None])))
        mass = (bound[..., :-1] - bound[..., 1:]) / t[:, None, None]
        return sum(mass[:, 0, i] * mass[:, 1, j] for i, j in FILLED) / (len(FILLED) * 0.25)

    def flux(t, x, axis):
        return density(t, x) * flow.velocity(t, x)[:, axis]

    t = uniform(200, low=0.15, high=0.9, seed=1)
    x = uniform(200, 2, low=-1.3, high=1.3, seed=2)
    change = central(lambda time: density(time, x), t)
    zero, one = torch.zeros(200, dtype=F64), torch.eye(2, dtype=F64)
    divergence = sum(central(lambda h: flux(t, x + h[:, None] * one[k], k), zero) for k in (0, 1))
    assert change.abs().max() > 0.5
    close(change + divergence, zero, 1e-7)


def test_at_time_zero_the_velocity_points_to_the_centre():
    """b_0(x) = E[x1] - x = -x; the clamp at 1e-4 is off by no more than it says."""
    x = uniform(50, 2, low=-1.5, high=1.5, seed=3)
    found = CheckerboardFlow().velocity(torch.zeros(50, dtype=F64), x)
    close(found, -x, 1e-3)
    assert (found - -x).abs().max() > 0


def test_at_time_one_the_velocity_inside_a_square_is_the_point():
    """b_1(x) = x - E[x0] = x inside the squares; outside it points to the nearest square and has no bound."""
    flow, one = CheckerboardFlow(), vector(1.0, 1.0)
    inside, outside = (
        torch.tensor([[-0.75, -0.7], [0.3, 0.2]], dtype=F64),
        torch.tensor([[1.5, 0.8], [-1.2, -0.9]], dtype=F64),
    )
    close(flow.velocity(one, inside), inside, 1e-5)
    far = flow.velocity(one, outside)
    assert far.isfinite().all()
    assert far[0, 0] < -1e4 and far[1, 0] > 1e4


def test_the_velocity_keeps_the_type_of_its_points():
    x = uniform(20, 2, low=-1.0, high=1.0, seed=4)
    t = uniform(20, low=0.1, high=0.9, seed=5)
    single = CheckerboardFlow().velocity(t.float(), x.float())
    assert single.dtype == torch.float32
    close(single.double(), CheckerboardFlow().velocity(t, x), 1e-4)


def test_which_squares_are_filled():
    """Eight of sixteen, no two with a common side, and the one at (-1, -1) among them."""
    assert len(FILLED) == 8 and (0, 0) in FILLED and EDGES == (-1, -0.5, 0, 0.5, 1)
    assert not {(i + 1, j) for i, j in FILLED} & set(FILLED) and not {(i, j + 1) for i, j in FILLED} & set(
        FILLED
    )


def test_samples_fill_the_eight_squares_evenly():
    points = checkerboard.sample(80_000, seeded(1))
    column, row = ((points + 1) * 2).floor().long().unbind(1)
    assert ((column + row) % 2 == 0).all() and points.abs().max() <= 1
    counts = torch.bincount(column * 4 + row, minlength=16)
    filled = counts[counts > 0]
    assert len(filled) == 8 and (filled - 10_000).abs().max() < 500
    assert abs(points.std(0) - DATA_SCALE).max() < 0.01


def test_the_map_integrates_the_velocity():
    """Second order in the step, a semigroup, and its own inverse, away from t = 1."""
    x = DATA_SCALE * torch.randn(40, 2, generator=seeded(6), dtype=F64)
    s, u, t = (torch.full((40,), time, dtype=F64) for time in (0.0, 0.4, 0.8))
    fine, coarse, coarser = (CheckerboardMap(substeps=k).jump(s, t, x) for k in (800, 100, 50))
    error, double = (coarse - fine).norm(), (coarser - fine).norm()
    assert 3.4 < double / error < 4.6
    middle = CheckerboardMap(substeps=100)
    close(middle.jump(u, t, middle.jump(s, u, x)), fine, 2e-3)
    close(middle.jump(t, s, fine), x, 2e-3)


def test_the_map_carries_noise_to_the_squares():
    """At 100 substeps the jump 0 -> 1 of a typical point is off by less than 1e-3."""
    x = DATA_SCALE * torch.randn(300, 2, generator=seeded(7), dtype=F64)
    zero, one = torch.zeros(300, dtype=F64), torch.ones(300, dtype=F64)
    found, fine = (CheckerboardMap(substeps=k).jump(zero, one, x) for k in (100, 600))
    assert (found - fine).norm(dim=1).median() < 1e-3
    column, row = ((fine + 1) * 2).floor().unbind(1)
    assert (((column + row) % 2 == 0) & (fine.abs() <= 1).all(1)).double().mean() > 0.97
