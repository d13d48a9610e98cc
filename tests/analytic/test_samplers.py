"""The samplers on Gaussian flows, where the end of every trajectory is known: accuracy, order and counted
calls."""

from __future__ import annotations

from math import log2

import pytest
import torch

from fewstep.flows.samplers import SAMPLERS, CountedCalls, adaptive, euler, heun, jumps

from .exact import close, randn

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
