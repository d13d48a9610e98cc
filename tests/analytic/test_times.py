"""How times are drawn: the region, the exact density (by the map's Jacobian) and the width of the strip."""

from __future__ import annotations

import pytest
import torch

from fewstep.flows.times import REGIONS, Times

from .exact import F64, close, seeded

GRID = (torch.arange(1000, dtype=F64) + 0.5) / 1000
DRAWS = torch.rand(3, 5000, generator=seeded(1), dtype=F64)
STRIPS = pytest.mark.parametrize("strip", [1.0, 0.5, 0.1])


@STRIPS
def test_forward_times_lie_in_the_strip(strip):
    s, t = Times("forward", strip).draw(DRAWS)
    assert (s >= 0).all() and (t <= 1).all() and (t >= s).all()
    assert (t - s).max() <= strip + 1e-12 and (t - s).max() > 0.97 * strip


@STRIPS
def test_square_times_go_both_ways(strip):
    s, t = Times("square", strip).draw(DRAWS)
    assert (s >= 0).all() and (t >= 0).all() and (s <= 1).all() and (t <= 1).all()
    assert (t - s).abs().max() <= strip + 1e-12
    assert ((t > s) == (DRAWS[2] >= 0.5)).all()
    low, high = Times("forward", strip).draw(DRAWS)
    assert torch.equal(torch.minimum(s, t), low) and torch.equal(torch.maximum(s, t), high)


@STRIPS
def test_the_density_is_uniform_on_the_strip(strip):
    """The strip s <= t <= s + tau has area (2 tau - tau^2) / 2: that is the Jacobian of (u0, u1) -> (s, t),
    everywhere."""
    times = Times("forward", strip)

    def pair(u):
        s, t = times.draw(torch.stack([u[0], u[1], u[1]])[:, None])
        return torch.stack([s[0], t[0]])

    jacobian = torch.func.vmap(torch.func.jacfwd(pair))(DRAWS[:2, :200].T)
    close(torch.linalg.det(jacobian).abs(), torch.full((200,), (2 * strip - strip**2) / 2, dtype=F64), 1e-12)


@STRIPS
def test_the_gap_has_its_exact_distribution(strip):
    """P(t - s <= d) = (2 d - d^2) / (2 tau - tau^2): a regular grid of uniforms comes back."""
    s, t = Times("forward", strip).draw(torch.stack([GRID, 0.3 + 0 * GRID, GRID]))
    gap = t - s
    close((2 * gap - gap**2) / (2 * strip - strip**2), GRID, 1e-12)


def test_on_the_diagonal_the_times_are_one():
    s, t = Times("diagonal").draw(DRAWS)
    assert torch.equal(s, t) and torch.equal(s, DRAWS[0])


@STRIPS
def test_from_noise_the_start_is_zero_and_the_end_is_uniform(strip):
    s, t = Times("noise", strip).draw(torch.stack([GRID] * 3))
    assert not s.any()
    close(t, strip * GRID, 1e-15)


def test_the_strip_widens_linearly():
    times = Times("square", strip=0.2, anneal=0.5)
    assert [times.width(p) for p in (0.0, 0.25, 0.5, 0.9, 1.0)] == pytest.approx([0.2, 0.6, 1.0, 1.0, 1.0])
    assert Times("square", strip=0.2).width(0.7) == 0.2
    assert Times("square", strip=1.0, anneal=0.5).width(0.0) == 1.0
    s, t = times.draw(DRAWS, progress=0.25)
    assert 0.57 < (t - s).abs().max() <= 0.6 + 1e-12


def test_the_strip_doubles_in_equal_stages():
    times = Times("forward", strip=0.25, doublings=2)
    assert [times.width(p) for p in (0.0, 0.33, 0.34, 0.66, 0.67, 1.0)] == [0.25, 0.25, 0.5, 0.5, 1.0, 1.0]
    assert Times("forward", strip=0.6, doublings=3).width(1.0) == 1.0
    s, t = times.draw(DRAWS, progress=0.5)
    assert 0.48 < (t - s).max() <= 0.5 + 1e-12


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"region": "triangle"}, "region must be one of"),
        ({"strip": 0.0}, "strip must lie in"),
        ({"strip": 1.5}, "strip must lie in"),
        ({"anneal": -0.1}, "anneal must lie in"),
        ({"anneal": 1.1}, "anneal must lie in"),
        ({"strip": 0.5, "anneal": 0.5, "doublings": 1}, "either annealed or doubled"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Times(**settings)


@pytest.mark.parametrize("region", REGIONS)
def test_every_region_keeps_the_batch_and_its_type(region):
    s, t = Times(region).draw(DRAWS.float())
    assert s.shape == t.shape == (5000,) and s.dtype == t.dtype == torch.float32
