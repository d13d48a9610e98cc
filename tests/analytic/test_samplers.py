"""The samplers on Gaussian flows, where the end of every trajectory is known: accuracy, order and counted
calls."""

from __future__ import annotations

from math import log2

import pytest
import torch

from fewstep.flows.exact.checkerboard import DATA_SCALE
from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.flow_map import FlowMap
from fewstep.flows.interpolants import LINEAR
from fewstep.flows.samplers import SAMPLERS, CountedCalls, adaptive, euler, heun, jumps, named

from .exact import F64, close, randn, seeded, vector

X0 = randn(20, 3, seed=1)


def arrival(world):
    return world.jump(torch.zeros(20, dtype=X0.dtype), torch.ones(20, dtype=X0.dtype), X0)


@pytest.mark.parametrize("steps", [1, 2, 3, 8])
def test_jumps_of_the_exact_map_are_exact_at_every_number_of_steps(world, steps):
    found = jumps(world, X0, steps)
    close(found.points, arrival(world), 1e-11)
    assert found.nfe == steps


@pytest.mark.parametrize("sampler, order", [(euler, 1), (heun, 2)])
def test_the_order_of_convergence(world, sampler, order):
    error = [(sampler(world, X0, steps).points - arrival(world)).norm() for steps in (64, 128)]
    assert log2(error[0] / error[1]) == pytest.approx(order, abs=0.15)
    assert error[1] < 0.2


@pytest.mark.parametrize("steps", [1, 2, 5])
def test_every_network_call_is_counted(world, steps):
    assert euler(world, X0, steps).nfe == steps
    assert heun(world, X0, steps).nfe == 2 * steps
    assert jumps(world, X0, steps).nfe == steps


def test_one_step_of_each_by_hand(world):
    zero, one = torch.zeros(20, dtype=X0.dtype), torch.ones(20, dtype=X0.dtype)
    first = world.velocity(zero, X0)
    second = world.velocity(one, X0 + first)
    close(euler(world, X0, 1).points, X0 + first, 1e-14)
    close(heun(world, X0, 1).points, X0 + (first + second) / 2, 1e-14)


def test_the_adaptive_sampler_follows_its_tolerance(world):
    """The tolerance bounds each step's error; the whole trajectory's is some tens of times larger."""
    loose, tight = adaptive(world, X0, 1e-5), adaptive(world, X0, 1e-9)
    close(loose.points, arrival(world), 3e-3)
    close(tight.points, arrival(world), 1e-7)
    assert tight.nfe > loose.nfe
    # Dormand-Prince calls six times a step, and twice before the first
    assert (loose.nfe - 2) % 6 == 0


def test_the_adaptive_sampler_counts_its_calls_and_stays_between_0_and_1(world):
    times, inner = [], world.velocity
    world.velocity = lambda t, x: times.append(t[0].item()) or inner(t, x)
    assert adaptive(world, X0, 1e-4).nfe == len(times)
    # torchdiffeq evaluates the last stage at the float just below 1
    assert min(times) == 0 and 1 - 1e-9 < max(times) <= 1


def test_the_counter_counts_each_kind_of_call_once(student):
    counted, x = CountedCalls(student), X0[:, :2]
    s, t = torch.zeros(20, dtype=x.dtype), torch.ones(20, dtype=x.dtype)
    assert torch.equal(counted.jump(s, t, x), student.jump(s, t, x)) and counted.calls == 1
    assert torch.equal(counted.velocity(t, x), student.velocity(t, x)) and counted.calls == 2
    assert (
        torch.equal(counted.average_velocity(s, t, x), student.average_velocity(s, t, x))
        and counted.calls == 3
    )


@pytest.mark.parametrize("name", [name for name in SAMPLERS if name != "adaptive"])
@pytest.mark.parametrize("steps", [0, -1])
def test_no_steps_are_refused(world, name, steps):
    with pytest.raises(ValueError, match=f"at least one step, not {steps}"):
        SAMPLERS[name](world, X0, steps)


@pytest.mark.parametrize("name", SAMPLERS)
def test_samplers_build_no_graph_and_leave_the_noise_alone(student, name):
    x = X0[:, :2].clone()
    assert not SAMPLERS[name](student, x, 2).points.requires_grad
    assert torch.equal(x, X0[:, :2])


# The stochastic sampler, whose fresh noise is the base's ---------------------------------------------------


def scaled(scale: float) -> GaussianFlow:
    """N(0, scale^2) carried to N(m, 1/4) in two dimensions: each coordinate moves alone."""
    eye = torch.eye(2, dtype=F64)
    return GaussianFlow(0 * vector(1, 1), scale**2 * eye, vector(0.4, -0.3), 0.25 * eye, LINEAR)


@pytest.mark.parametrize("scale", [DATA_SCALE, 1.0, 2.5])
@pytest.mark.parametrize("beta", [0.0, 0.3, 1.0])
def test_the_stochastic_samplers_variance_is_that_of_the_scaled_base(scale, beta):
    """Every step is affine in x, x0 and e, so the last point is Gaussian and its variance a recursion: with
    x = u x0 + (independent noise of variance w), a step xhat = m + a (x - s m) keeps that form."""
    steps, count, data = 3, 200_000, 0.25
    of_x0, fresh = 1.0, 0.0  # u and w
    for k in range(steps):
        s, t = k / steps, (k + 1) / steps
        spread = (1 - s) ** 2 * scale**2 + s**2 * data
        gain = 1 + (1 - s) * (s * data - (1 - s) * scale**2) / spread
        of_x0 = t * gain * of_x0 + (1 - t) * (1 - beta)
        fresh = (t * gain) ** 2 * fresh + ((1 - t) * beta * scale) ** 2
    x0 = scale * randn(count, 2, seed=4)
    drawn = named(f"stochastic-{beta}", seeded(5), scale)(scaled(scale), x0, steps)
    assert drawn.nfe == steps
    variance = float(drawn.points.var(0).mean())
    assert variance == pytest.approx(of_x0**2 * scale**2 + fresh, rel=0.01)
    assert float((drawn.points.mean(0) - vector(0.4, -0.3)).abs().max()) < 0.01


def test_of_fresh_noise_alone_one_step_leaves_the_mean_and_the_next_what_was_added():
    """With beta = 1 nothing of x0 is left: half way the point is m / 2 + e / 2, of the base's deviation."""
    scale, seen = DATA_SCALE, []
    world = scaled(scale)
    inner = world.velocity
    world.velocity = lambda t, x: seen.append(x) or inner(t, x)
    named("stochastic-1", seeded(6), scale)(world, scale * randn(100_000, 2, seed=7), 2)
    assert float(seen[1].std(0).mean()) == pytest.approx(scale / 2, rel=0.01)


@pytest.mark.parametrize("tolerance", [0.0, -1e-3, 2.0, float("nan"), 1e-30])
def test_a_tolerance_that_no_step_can_keep_is_refused(world, tolerance):
    with pytest.raises(
        ValueError, match="the tolerance of a step is|a tolerance of 1e-30 needs steps too short"
    ):
        adaptive(world, X0, tolerance)


@pytest.mark.parametrize("steps", [1.0, 2.5, "2", None])
def test_steps_are_a_whole_number(world, steps):
    with pytest.raises(ValueError, match=f"at least one step, not {steps}: give a whole number"):
        euler(world, X0, steps)


def test_fresh_noise_of_no_deviation_is_refused():
    with pytest.raises(ValueError, match="'stochastic-0.5' draws fresh noise: give the `scale` of the noise"):
        named("stochastic-0.5", seeded(1))
    assert named("euler", seeded(1)) is euler


# Jumps that take noise up again ---------------------------------------------------------------------------

NUMBERS = [0.0, 0.4, 1.0]


class Stretched(FlowMap):
    """The exact map, its linear part times 1 + error (t - s): a map that is wrong in a known way."""

    def __init__(self, world: GaussianFlow, error: float):
        super().__init__()
        self.world, self.error = world, error

    def gain(self, s: float, t: float, scale: float) -> float:
        spread = [(1 - time) ** 2 * scale**2 + time**2 * 0.25 for time in (s, t)]
        return (spread[1] / spread[0]) ** 0.5 * (1 + self.error * (t - s))

    def jump(self, s, t, x):
        mean = t[:, None] * self.world.m1
        return mean + (self.world.jump(s, t, x) - mean) * (1 + self.error * (t - s))[:, None]


@pytest.mark.parametrize("gamma", NUMBERS)
@pytest.mark.parametrize("scale", [DATA_SCALE, 2.5])
@pytest.mark.parametrize("error", [0.0, 0.3])
def test_the_variance_of_renoised_jumps_is_that_of_their_recursion(gamma, scale, error):
    """Each step multiplies the variance by (gain t / t~)^2 and adds the root's square. With the exact map it
    is that of I_t at every time, and the data's in the end."""
    steps, flow_map = 4, Stretched(scaled(scale), error)
    variance, between = scale**2, []
    for k in range(steps):
        s, t = k / steps, (k + 1) / steps
        noise = (1 - gamma**2) ** 0.5 * (1 - t) / t  # relative to the data, at the time that is jumped to
        beyond = 1 / (1 + noise)
        lacking = (1 - t) ** 2 - (t / beyond) ** 2 * (1 - beyond) ** 2
        variance = (t / beyond * flow_map.gain(s, beyond, scale)) ** 2 * variance + lacking * scale**2
        between.append((t, variance))
    if error == 0:
        for t, found in between:
            assert found == pytest.approx((1 - t) ** 2 * scale**2 + t**2 * 0.25)
    x0 = scale * randn(200_000, 2, seed=4)
    drawn = named(f"renoised-{gamma}", seeded(5), scale)(flow_map, x0, steps)
    assert drawn.nfe == steps
    assert float(drawn.points.var(0).mean()) == pytest.approx(variance, rel=0.01)
    assert float((drawn.points.mean(0) - vector(0.4, -0.3)).abs().max()) < 0.02


@pytest.mark.parametrize("steps", [1, 3, 7, 64])
def test_without_fresh_noise_renoised_jumps_are_jumps_bit_for_bit(student, steps):
    x0, generator = randn(50, 2, seed=8), seeded(5)
    drawn = named("renoised-0", generator, 1.0)(student, x0, steps)
    assert torch.equal(drawn.points, jumps(student, x0, steps).points)
    assert torch.equal(generator.get_state(), seeded(5).get_state())


def test_with_fresh_noise_alone_every_jump_ends_in_the_data(student):
    """Consistency models' sampler: to the data, t of it, and 1 - t of new noise."""
    ends, inner = [], student.jump
    student.jump = lambda s, t, x: ends.append(t[0].item()) or inner(s, t, x)
    x0, fresh = randn(50, 2, seed=8), torch.randn(50, 2, generator=seeded(5), dtype=F64)
    drawn = named("renoised-1", seeded(5), 2.5)(student, x0, 2).points
    assert ends == [1.0, 1.0]
    zero, half, one = (torch.full((50,), time, dtype=F64) for time in (0.0, 0.5, 1.0))
    middle = 0.5 * inner(zero, one, x0) + 0.5 * 2.5 * fresh
    close(drawn, inner(half, one, middle), 1e-14)


# The stochastic flow --------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("scale", [DATA_SCALE, 2.5])
def test_the_variance_of_the_stochastic_flow_is_that_of_its_recursion(epsilon, scale):
    """b = m + slope (x - s m), so a step multiplies the variance by (1 + h (slope + eps (s slope - 1)))^2 and
    adds 2 D h; the last one follows b alone. Many steps come to the data's variance."""

    def last_variance(steps: int) -> float:
        variance, h = scale**2, 1 / steps
        for k in range(steps):
            s = k / steps
            slope = (s * 0.25 - (1 - s) * scale**2) / ((1 - s) ** 2 * scale**2 + s**2 * 0.25)
            score = (s * slope - 1) / ((1 - s) * scale**2)
            diffusion = epsilon * scale**2 * (1 - s) if k < steps - 1 else 0.0
            variance = (1 + h * (slope + diffusion * score)) ** 2 * variance + 2 * diffusion * h
        return variance

    assert last_variance(20_000) == pytest.approx(0.25, rel=2e-3)
    x0, steps = scale * randn(200_000, 2, seed=4), 8
    drawn = named(f"sde-{epsilon}", seeded(5), scale)(scaled(scale), x0, steps)
    assert drawn.nfe == steps
    assert float(drawn.points.var(0).mean()) == pytest.approx(last_variance(steps), rel=0.01)
    assert float((drawn.points.mean(0) - vector(0.4, -0.3)).abs().max()) < 0.02


def test_no_diffusion_changes_the_law_of_the_stochastic_flow():
    """The Fokker-Planck equation of a Gaussian: the variance of X_t grows by 2 b' V either way, because the
    score's slope is -1/V, which the formula in b must give."""
    scale, time = 1.7, torch.linspace(0.05, 0.95, 19, dtype=F64)
    flow, variance = scaled(scale), (1 - time) ** 2 * scale**2 + time**2 * 0.25
    x = randn(19, 2, seed=3)
    score = (time[:, None] * flow.velocity(time, x) - x) / ((1 - time[:, None]) * scale**2)
    close(score, -(x - time[:, None] * flow.m1) / variance[:, None], 1e-12)


@pytest.mark.parametrize("steps", [1, 3, 64])
def test_without_diffusion_the_stochastic_flow_is_eulers_bit_for_bit(student, steps):
    x0, generator = randn(50, 2, seed=8), seeded(5)
    drawn = named("sde-0", generator, 1.0)(student, x0, steps)
    assert torch.equal(drawn.points, euler(student, x0, steps).points)
    assert torch.equal(generator.get_state(), seeded(5).get_state())


def test_the_stochastic_flow_stays_finite_where_the_network_is_not_the_flow(student):
    """Its score is never divided by 1 - t."""
    for steps in (1, 2, 500):
        drawn = named("sde-2", seeded(5), 1.0)(student, randn(50, 2, seed=8), steps).points
        assert drawn.isfinite().all() and drawn.abs().max() < 1e3
