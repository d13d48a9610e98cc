"""How times are drawn: the region, the exact density (by the map's Jacobian) and the width of the strip."""

from __future__ import annotations

import pytest
import torch

from fewstep.flows.times import LAWS, REGIONS, Times
from fewstep.settings.laws import TimesSettings

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


# Laws besides the uniform one ------------------------------------------------------------------------------


def normal(x: torch.Tensor) -> torch.Tensor:
    """The standard normal's distribution function."""
    return torch.special.ndtr(x)


@pytest.mark.parametrize("levels", [0, 1, 3])
def test_dyadic_times_are_every_step_of_every_grid_each_grid_as_likely(levels):
    """The uniforms, on a grid, give each of the 2^l steps of length 2^-l its share of 1 / (levels + 1)."""
    times, side = Times("forward", law="dyadic", levels=levels), 8 * (levels + 1)
    one = (torch.arange(side, dtype=F64) + 0.5) / side
    u = torch.cartesian_prod(one, one).T
    s, t = times.draw(torch.stack([u[0], u[1], u[1]]))
    found: dict[tuple[float, float], int] = {}
    for pair in zip(s.tolist(), t.tolist()):
        found[pair] = found.get(pair, 0) + 1
    steps = [(k / 2**n, (k + 1) / 2**n) for n in range(levels + 1) for k in range(2**n)]
    # intervals of length 1 and 1/2 never coincide, so the counts are exact
    assert found == {(a, b): round(side**2 * (b - a) / (levels + 1)) for a, b in steps}


def test_dyadic_times_on_the_diagonal_are_the_finest_grid_and_in_the_square_go_both_ways():
    s, t = Times("diagonal", law="dyadic", levels=7).draw(DRAWS)
    assert torch.equal(s, t) and set(s.tolist()) == {k / 128 for k in range(128)}
    low, high = Times("forward", law="dyadic").draw(DRAWS.float())
    s, t = Times("square", law="dyadic").draw(DRAWS.float())
    assert torch.equal(torch.minimum(s, t), low) and torch.equal(torch.maximum(s, t), high)
    assert ((s < t) == (DRAWS[2].float() >= 0.5)).all()
    last = torch.full((3, 1), 1 - 2.0**-24)
    for region in ("forward", "diagonal"):
        s, t = Times(region, law="dyadic", levels=20).draw(last)
        assert s == 1 - 2.0**-20 and t <= 1


@pytest.mark.parametrize("mean, deviation", [(0.0, 1.0), (0.4, 1.0), (2.0, 2.0)])
def test_logit_normal_times_have_their_distribution(mean, deviation):
    """logit(s) is N(mean, deviation^2) in each region, and sorted times are the order of their ranks."""

    def rank(time):
        return normal((torch.logit(time) - mean) / deviation)

    grid = GRID[5:-5]
    for region in ("diagonal", "noise", "data", "square"):
        s, t = Times(region, law="logit-normal", mean=mean, deviation=deviation).draw(torch.stack([grid] * 3))
        close(rank(t if region == "noise" else s), grid, 1e-9)
        assert {"noise": not s.any(), "data": (t == 1).all()}.get(region, torch.equal(s, t))
    times = Times("forward", law="logit-normal", mean=mean, deviation=deviation)
    s, t = times.draw(DRAWS)
    assert (s <= t).all()
    close(rank(t), torch.maximum(DRAWS[0], DRAWS[1]), 1e-9)
    close(rank(s), torch.minimum(DRAWS[0], DRAWS[1]), 1e-9)


@pytest.mark.parametrize("mean, deviation", [(-0.8, 1.0), (0.6, 1.6)])
def test_the_gap_is_logit_normal_and_the_start_uniform_on_what_is_left(mean, deviation):
    law = {"law": "gap", "mean": mean, "deviation": deviation}
    s, t = Times("forward", **law).draw(DRAWS)
    close(normal((torch.logit(t - s) - mean) / deviation), DRAWS[0], 1e-9)
    close(s / (1 - (t - s)), DRAWS[1], 1e-9)
    gap = t - s
    s, t = Times("noise", **law).draw(DRAWS)
    assert not s.any() and torch.equal(t, torch.sigmoid(mean + deviation * torch.special.ndtri(DRAWS[0])))
    close(t, gap, 1e-12)
    s, t = Times("data", **law).draw(DRAWS)
    assert (t == 1).all()
    close(s, 1 - gap, 1e-12)
    low, high = Times("forward", **law).draw(DRAWS)
    s, t = Times("square", **law).draw(DRAWS)
    assert torch.equal(torch.minimum(s, t), low) and torch.equal(s > t, DRAWS[2] < 0.5)


@pytest.mark.parametrize("law", LAWS)
def test_every_law_stays_between_0_and_1_in_each_of_its_regions(law):
    extreme = torch.tensor([0.0, 2.0**-24, 0.5, 1 - 2.0**-24])
    uniform = torch.cartesian_prod(extreme, extreme, extreme).T
    for region in LAWS[law]:
        for deviation in (1.0, 100.0):
            s, t = Times(region, law=law, deviation=deviation).draw(uniform)
            assert s.dtype == t.dtype == torch.float32 and s.shape == t.shape == (64,)
            for time in (s, t):
                assert ((time >= 0) & (time <= 1)).all()
            assert region == "square" or (s <= t).all()


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"law": "uniformly"}, "law must be one of uniform, dyadic, logit-normal, gap, not 'uniformly'"),
        ({"law": "gap", "region": "diagonal"}, "the law 'gap' has the regions noise, .*, not 'diagonal'"),
        ({"law": "dyadic", "region": "noise"}, "the law 'dyadic' has the regions diagonal, forward, square"),
        ({"law": "gap", "strip": 0.5}, "a strip is of the uniform law, not of 'gap'"),
        ({"law": "dyadic", "doublings": 1}, "a strip is of the uniform law, not of 'dyadic'"),
        ({"law": "gap", "mean": float("nan")}, "mean must be finite, not nan"),
        ({"law": "gap", "deviation": 0.0}, "deviation must be above 0 and finite, not 0.0"),
        ({"law": "dyadic", "levels": 21}, r"levels must lie in \[0, 20\], not 21"),
    ],
)
def test_laws_that_make_no_sense_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Times(**settings)


def test_settings_name_a_law_and_leave_no_trace_of_the_uniform_one():
    plain = {"region": "forward"}
    dumped = {"region": "forward", "strip": 1.0, "anneal": 0.0, "doublings": 0}
    assert TimesSettings.model_validate(plain).model_dump() == dumped
    said = plain | {"law": "logit-normal", "mean": 0.4, "deviation": 1.0}
    settings = TimesSettings.model_validate(said)
    assert settings.model_dump() == dumped | said
    assert settings.build() == Times("forward", law="logit-normal", mean=0.4)
    assert TimesSettings.model_validate(plain).build() == Times("forward")
