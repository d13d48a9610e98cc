"""Consistency in all its forms: normalised, warmed up, in finite steps, along the network's own velocity."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from fewstep.flows.exact.straight import StraightFlow
from fewstep.flows.flow_map import EulerMap, HeunMap
from fewstep.flows.interpolants import LINEAR, STOCHASTIC, TRIGONOMETRIC
from fewstep.objectives.common import squared_norm
from fewstep.objectives.consistency import consistency
from fewstep.objectives.consistency_training import consistency_training
from fewstep.objectives.discrete_consistency import discrete_consistency
from fewstep.objectives.imeanflow import imeanflow
from fewstep.objectives.lmd import lmd
from fewstep.objectives.meanflow import meanflow
from fewstep.objectives.si import si

from .exact import BUMPS, Perturbed, batch_of, close, gradient, network_batch, vector
from .test_equivalences import Constant, same

INTERPOLANTS = pytest.mark.parametrize(
    "interpolant", [LINEAR, TRIGONOMETRIC, STOCHASTIC], ids=lambda i: i.name
)


def parts(student, batch, drift):
    """v_{s,t}(I_s) and (t - s) (d/ds + drift . grad) v_{s,t}(I_s), by torch.func.jvp."""
    one, zero = torch.ones_like(batch.s), torch.zeros_like(batch.s)
    where = (batch.s, batch.t, batch.at(batch.s).point)
    v, dv = torch.func.jvp(student.average_velocity, where, (one, zero, drift))
    return v, ((batch.t - batch.s)[:, None] * dv).detach()


# Align Your Flow ------------------------------------------------------------------------------------------


def test_consistency_without_settings_or_warmed_up_is_the_plain_one_to_the_bit(student, teacher, batch):
    start = batch.at(batch.s).point
    with torch.no_grad():
        b = teacher.velocity(batch.s, start)
    one, zero = torch.ones_like(batch.s), torch.zeros_like(batch.s)
    v, dv = student.average_velocity_pushforward(batch.s, batch.t, start, one, zero, b)
    plain = squared_norm(v - (b + (batch.t - batch.s)[:, None] * dv).detach())
    slope = gradient(plain, student)
    for options in ({}, {"warmup": 0.5}, {"warmup": 1.0}):
        found = consistency(student, batch, teacher, **options)
        assert torch.equal(found, plain) and torch.equal(gradient(found, student), slope)
    halfway = replace(batch, progress=0.5)
    assert torch.equal(consistency(student, halfway, teacher, warmup=0.25), plain)


@pytest.mark.parametrize("progress, w", [(0.0, 0.0), (0.1, 0.25), (0.4, 1.0), (0.9, 1.0)])
def test_the_warm_up_weighs_the_derivative(student, teacher, batch, progress, w):
    """At weight 0 the map is told to be straight: v_{s,t} = b_s for every t."""
    b = teacher.velocity(batch.s, batch.at(batch.s).point).detach()
    now = replace(batch, progress=progress)
    v, moved = parts(student, batch, b)
    same(student, consistency(student, now, teacher, warmup=0.4), squared_norm(v - b - w * moved))
    dI = batch.at(batch.s).velocity
    v, moved = parts(student, batch, dI)
    same(student, meanflow(student, now, warmup=0.4), squared_norm(v - dI - w * moved))


def test_normalised_the_residual_is_r_over_its_length_and_c(student, teacher, batch):
    b, c = teacher.velocity(batch.s, batch.at(batch.s).point).detach(), 0.1
    v, moved = parts(student, batch, b)
    r = (v - b - moved).detach()
    g = r / (r.square().sum(1, keepdim=True).sqrt() + c)
    found = consistency(student, batch, teacher, normalise=c)
    same(student, found, squared_norm(v - (v - g).detach()))
    assert (found < 1).all() and found.std() < 0.5 * squared_norm(r).std()
    v, moved = parts(student, batch, batch.at(batch.s).velocity)
    along = Constant(batch.at(batch.s).velocity)
    same(student, meanflow(student, batch, normalise=c), consistency(student, batch, along, normalise=c))


def test_normalised_by_much_it_is_consistency_up_to_the_scale(student, teacher, batch):
    plain = gradient(consistency(student, batch, teacher), student)
    error = [
        (c * gradient(consistency(student, batch, teacher, normalise=c), student) - plain).norm()
        for c in (1e3, 1e4)
    ]
    assert error[1] < 1e-3 * plain.norm() and 9 < error[0] / error[1] < 11


@pytest.mark.parametrize("normalise", [0.1, 10.0])
def test_normalised_it_is_zero_at_the_true_map_and_pulls_back_to_it(world, normalise):
    batch = batch_of(world)
    assert consistency(world, batch, world, normalise=normalise).max() < 1e-12
    for bump in BUMPS.values():
        for theta in (0.05, -0.05):
            other = Perturbed(world, bump, theta)
            found = gradient(consistency(other, batch, world, normalise=normalise), other)
            assert found * theta > 0


def test_the_warm_up_is_a_share_of_training(student, teacher, batch):
    with pytest.raises(ValueError, match=r"warmup must be a number from 0 to 1, not 2"):
        consistency(student, batch, teacher, warmup=2.0)


def test_lmds_value_gradient_learns_from_v_alone(student, teacher, batch):
    value, semi = lmd(student, batch, teacher, "value"), lmd(student, batch, teacher, "semi")
    close(value, semi, 1e-12)
    start, one, zero = batch.at(batch.s).point, torch.ones_like(batch.s), torch.zeros_like(batch.s)
    where = (batch.s, batch.t, start)
    _, slope = torch.func.jvp(student.average_velocity, where, (zero, one, torch.zeros_like(start)))
    jump = student.jump_dt(*where)
    residual = (jump.tangent - teacher.velocity(batch.t, jump.point)).detach()
    beyond = (2 * residual * (batch.t - batch.s)[:, None] * slope).sum(1)
    difference = gradient(semi, student) - gradient(value, student)
    close(difference, gradient(beyond, student), 1e-10)
    assert difference.norm() > 1e-2


def test_boots_bootstrapping_step_approaches_lmds_value_gradient_from_noise(student, teacher, batch):
    """BOOT (arXiv 2306.05544): |v_{0,t+h} - sg[v_{0,t} + h/(t+h) (b_t(X_{0,t}) - v_{0,t})]|^2 at x0."""
    s, t = torch.zeros_like(batch.s), 0.2 + 0.6 * batch.t

    def boot(h):
        v = student.average_velocity(s, t, batch.x0)
        b = teacher.velocity(t, batch.x0 + t[:, None] * v)
        target = (v + (h / (t + h))[:, None] * (b - v)).detach()
        return squared_norm(student.average_velocity(s, t + h, batch.x0) - target) * t / h

    limit = gradient(lmd(student, replace(batch, s=s, t=t), teacher, "value"), student)
    error = [(gradient(boot(h), student) - limit).norm() for h in (1e-4, 1e-5)]
    assert error[1] < 1e-3 * limit.norm() and 9 < error[0] / error[1] < 11


# Improved MeanFlow ----------------------------------------------------------------------------------------


def test_improved_meanflow_follows_the_networks_own_velocity(student):
    for batch in (network_batch(), network_batch(STOCHASTIC)):
        path = batch.at(batch.s)
        v, moved = parts(student, batch, student.velocity(batch.s, path.point).detach())
        same(student, imeanflow(student, batch), squared_norm(v - path.velocity - moved))
        diagonal = replace(batch, s=batch.t)
        same(student, imeanflow(student, diagonal), si(student, diagonal))


# In finite steps ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("solver, step", [("euler", EulerMap), ("heun", HeunMap)])
@pytest.mark.parametrize("h", [0.25, 1.0])
def test_discrete_consistency_compares_two_jumps(student, frozen, teacher, batch, solver, step, h):
    s, t, start = batch.s, batch.t, batch.at(batch.s).point
    u = s + h * (t - s)
    moved = step(teacher).jump(s, u, start)
    for other in (frozen, teacher):
        apart = squared_norm(student.jump(s, t, start) - other.jump(u, t, moved).detach())
        stopped = None if other is frozen else other
        found = discrete_consistency(student, batch, teacher, stopped, h, 3, solver)
        assert (found - apart * 8 / (h * (t - s) ** 2)).abs().max() > 1e-3
        first = replace(batch, progress=0.0)
        same(student, discrete_consistency(student, first, teacher, stopped, h, 3, solver),
             apart / (h * (t - s) ** 2), 1e-10)  # fmt: skip


def test_heuns_step_is_the_samplers(teacher, batch):
    s, t, x = batch.s, batch.t, batch.x0
    first = teacher.velocity(s, x)
    second = teacher.velocity(t, x + (t - s)[:, None] * first)
    close(HeunMap(teacher).jump(s, t, x), x + (t - s)[:, None] * (first + second) / 2, 1e-14)


@pytest.mark.parametrize("solver", ["euler", "heun"])
def test_discrete_consistency_approaches_consistency(student, teacher, batch, solver):
    limit = gradient(consistency(student, batch, teacher), student)
    error = [
        (gradient(discrete_consistency(student, batch, teacher, None, h, 0, solver), student) - limit).norm()
        for h in (1e-4, 1e-5)
    ]
    assert error[1] < 1e-3 * limit.norm() and 9 < error[0] / error[1] < 11


@INTERPOLANTS
def test_consistency_training_approaches_meanflow(student, interpolant):
    batch = network_batch(interpolant)
    limit = gradient(meanflow(student, batch), student)
    error = [
        (gradient(consistency_training(student, batch, None, h, 0), student) - limit).norm()
        for h in (1e-4, 1e-5)
    ]
    assert error[1] < 1e-3 * limit.norm() and 9 < error[0] / error[1] < 11


@INTERPOLANTS
def test_consistency_training_takes_the_interpolants_step(student, frozen, teacher, interpolant):
    batch, h = network_batch(interpolant), 0.25
    u = batch.s + h * (batch.t - batch.s)
    for other in (frozen, teacher):
        target = other.jump(u, batch.t, batch.at(u).point).detach()
        apart = squared_norm(student.jump(batch.s, batch.t, batch.at(batch.s).point) - target)
        stopped = None if other is frozen else other
        found = consistency_training(student, batch, stopped, h, halvings=0)
        same(student, found, apart / (h * (batch.t - batch.s) ** 2), 1e-9)
    diagonal = replace(batch, s=batch.t)
    close(h * consistency_training(student, diagonal, None, h, 0) / h**2, si(student, diagonal), 1e-11)


@pytest.mark.parametrize("progress, halved", [(0.0, 0), (0.32, 0), (0.34, 1), (0.99, 2), (1.0, 2)])
def test_steps_are_halved_at_equal_intervals(student, teacher, batch, progress, halved):
    now, fixed = replace(batch, progress=progress), 0.5 / 2**halved
    same(student, discrete_consistency(student, now, teacher, halvings=2),
         discrete_consistency(student, batch, teacher, h=fixed, halvings=0), 0)  # fmt: skip
    same(student, consistency_training(student, now, halvings=2),
         consistency_training(student, batch, h=fixed, halvings=0), 0)  # fmt: skip


def test_the_distance_is_pseudo_huber(student, teacher, batch):
    c, h = 0.3, 0.5
    for residual, given in ((discrete_consistency, (teacher,)), (consistency_training, ())):
        plain = residual(student, batch, *given, h=h, halvings=0)
        found = residual(student, batch, *given, h=h, halvings=0, c=c)
        same(student, found, ((plain * h + c * c).sqrt() - c) / h, 1e-9)


@pytest.mark.parametrize("solver, power", [("euler", 3), ("heun", 5)])
def test_at_the_true_map_the_teachers_error_remains(world, solver, power):
    """The chord's error is of the solver's order q, the target's h times that, its square over h h^(2q+1)."""
    batch = batch_of(world, strip=0.3)
    few, many = (discrete_consistency(world, batch, world, None, h, 0, solver).mean() for h in (0.25, 0.125))
    assert 0.75 < (few / many) / 2**power < 1.35
    straight = StraightFlow(1.5 * torch.eye(3, dtype=torch.float64), vector(1.0, 2.0, 3.0))
    coupled = replace(batch, x1=straight.end(batch.x0), interpolant=LINEAR, z=None)
    assert discrete_consistency(straight, coupled, straight, solver=solver).max() < 1e-20
    assert consistency_training(straight, coupled).max() < 1e-20


def test_steps_have_a_length(student, teacher, batch):
    with pytest.raises(ValueError, match=r"h must be a number from 1e-06 to 1, not 0"):
        discrete_consistency(student, batch, teacher, h=0.0)
    with pytest.raises(ValueError, match=r"halvings must be a number from 0 to 20, not 21"):
        consistency_training(student, batch, halvings=21)
    with pytest.raises(ValueError, match=r"solver must be one of heun, euler, not 'rk4'"):
        discrete_consistency(student, batch, teacher, solver="rk4")


def test_a_part_of_a_batch_is_as_far_in_training(batch):
    assert batch.progress == 1 and replace(batch, progress=0.25).part(2, 5).progress == 0.25
