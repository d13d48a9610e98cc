"""Objectives that compare in data space, in pairs, in segments or with other samples; data prediction."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from fewstep.flows.exact.straight import StraightFlow
from fewstep.flows.flow_map import DataPredictionFlowMap, FlowMap, NetworkFlowMap
from fewstep.flows.interpolants import INTERPOLANTS, LINEAR, STOCHASTIC, Batch
from fewstep.objectives.common import squared_norm, stopped_jump
from fewstep.objectives.contrastive import contrastive
from fewstep.objectives.ctm import ctm
from fewstep.objectives.imm import imm
from fewstep.objectives.si import si
from fewstep.objectives.velocity_consistency import velocity_consistency

from .exact import (
    BUMPS,
    F64,
    Opaque,
    Perturbed,
    batch_of,
    central,
    close,
    gaussian,
    gradient,
    hermite_batch,
    line,
    network_batch,
    randn,
    random_network,
    seeded,
    vector,
)  # fmt: skip
from .test_equivalences import same

LINES = pytest.mark.parametrize("interpolant", INTERPOLANTS)
STRAIGHT = StraightFlow(torch.tensor([[1.5, 0.3], [-0.2, 0.8]], dtype=F64), vector(1.0, -2.0))


def coupled(batch: Batch) -> Batch:
    """The batch with the straight flow's own data."""
    return replace(batch, x1=STRAIGHT.end(batch.x0))


# Consistency trajectory models ----------------------------------------------------------------------------


def test_a_stopped_jump_hands_the_gradient_to_its_point_alone(student, frozen, batch):
    x = batch.x0.clone().requires_grad_()
    found, plain = stopped_jump(student, batch.s, batch.t, x), frozen.jump(batch.s, batch.t, x)
    close(found, plain, 0)
    assert not gradient(squared_norm(found), student).any()
    mine, theirs = (torch.autograd.grad(squared_norm(y).sum(), x)[0] for y in (found, plain))
    close(mine, theirs, 0)
    assert mine.norm() > 1 and all(value.requires_grad for value in student.parameters())


def test_ctm_compares_in_data_space_through_the_stopped_map(student, frozen, teacher, batch):
    s, t, g, one = batch.s, batch.t, batch.g, torch.ones_like(batch.t)
    start, other = batch.at(s).point, random_network(seed=8).requires_grad_(False)
    for stopped, map_ in ((None, frozen), (other, other)):
        u, moved = s + g * (t - s), start
        for k in range(3):
            now, step = s + k * (u - s) / 3, (u - s) / 3
            first = teacher.velocity(now, moved)
            second = teacher.velocity(now + step, moved + step[:, None] * first)
            moved = moved + step[:, None] * (first + second) / 2
        target = map_.jump(t, one, map_.jump(u, t, moved))
        apart = map_.jump(t, one, student.jump(s, t, start)) - target
        same(student, ctm(student, batch, teacher, stopped, steps=3), squared_norm(apart))


def test_ctm_is_zero_at_the_true_map_up_to_the_teachers_steps(world):
    batch = batch_of(world, strip=0.5)
    few, many, most = (ctm(world, batch, world, steps=steps).mean() for steps in (4, 8, 64))
    assert 12 < few / many < 20 and most < 1e-3 * many
    assert ctm(Perturbed(world, BUMPS["shift"], 0.1), batch, world).mean() > 100 * few
    straight = coupled(network_batch())
    assert ctm(STRAIGHT, straight, STRAIGHT).max() < 1e-20


# Inductive moment matching --------------------------------------------------------------------------------


def laplace(mean: float, variance: Tensor, c: float) -> Tensor:
    """E exp(-|d| / c) of d ~ N(mean, variance)."""
    normal, sd = torch.distributions.Normal(0.0, 1.0), variance.sqrt()
    sides = (torch.exp(sign * mean / c) * normal.cdf(-sign * mean / sd - sd / c) for sign in vector(1, -1))
    return torch.exp(variance / (2 * c * c)) * sum(sides)


def pairs(world, s: float, t: float, count: int = 40_000) -> Batch:
    x0, x1 = world.sample(count, seeded(1))
    z = randn(count, 1, seed=2) if world.interpolant.noisy else None
    times = (torch.full((count,), k, dtype=F64) for k in (s, t, 0.5))
    return Batch(x0, x1, *times, world.interpolant, z)


class Shifted(FlowMap):
    """The exact map, its ends moved by `by`."""

    def __init__(self, exact: FlowMap, by: float):
        super().__init__()
        self.exact, self.by = exact, by

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.exact.jump(s, t, x) + self.by


@LINES
@pytest.mark.parametrize("by", [0.0, 0.4, -0.8])
def test_imm_estimates_the_mmd_of_the_two_laws_without_bias(interpolant, by):
    world, s, t, c = line(interpolant), 0.3, 0.8, 0.7
    batch = pairs(world, s, t)
    found = imm(Shifted(world, by), batch, world, h=0.4, c=c)
    assert torch.equal(found[: len(found) // 2], found[len(found) // 2 :])
    found = found[: len(found) // 2]
    at_t = world.interpolant.coefficients(vector(t))
    variance = at_t.alpha**2 * world.c0[0] + at_t.beta**2 * world.c1[0] + at_t.gamma**2
    zero = laplace(vector(0.0), 2 * variance, c)
    mmd = 2 * zero - 2 * laplace(vector(by), 2 * variance, c)
    assert abs(found.mean() - mmd) < 4 * found.std() / len(found) ** 0.5
    assert mmd > 0.02 if by else mmd.abs() < 1e-12
    assert found.min() < -0.01, "the statistic of a pair can be negative"


@LINES
@pytest.mark.parametrize("bump", BUMPS)
def test_imms_gradient_vanishes_in_the_mean_at_the_true_map(interpolant, bump):
    world = line(interpolant)
    batch = pairs(world, 0.3, 0.8)

    def at(theta: Tensor) -> Tensor:
        return imm(Perturbed(world, BUMPS[bump], theta.item()), batch, world)[: len(batch.x0) // 2].detach()

    for theta, sign in ((0.0, 0), (0.5, 1), (-0.5, -1)):
        slope = central(at, torch.tensor(theta, dtype=F64), h=1e-4)
        mean, error = slope.mean(), slope.std() / len(slope) ** 0.5
        assert (mean * sign > 4 * error) if sign else (mean.abs() < 4 * error)


def test_imm_stops_the_later_jump_and_shares_the_times(student, frozen, batch):
    half, h, c = len(batch.s) // 2, 0.25, 0.7
    s, t = batch.s[:half].repeat(2), batch.t[:half].repeat(2)
    r = s + h * (t - s)
    y = student.jump(s, t, batch.at(s).point)

    def k(a: Tensor, b: Tensor) -> Tensor:
        return torch.exp(-(a - b).square().sum(1).sqrt() / (2 * c))

    other = random_network(seed=8).requires_grad_(False)
    for stopped, map_ in ((None, frozen), (other, other)):
        z = map_.jump(r, t, batch.at(r).point)
        (y0, y1), (z0, z1) = y.chunk(2), z.chunk(2)
        pair = k(y0, y1) + k(z0, z1) - k(y0, z1) - k(y1, z0)
        same(student, imm(student, batch, stopped, h, c), torch.cat([pair, pair]))
    with pytest.raises(ValueError, match=r"imm compares samples in pairs, and was given 15: give an even"):
        imm(student, batch.part(0, 15))
    with pytest.raises(ValueError, match=r"h must be a number from 1e-06 to 1, not 0"):
        imm(student, batch, h=0.0)


# Contrastive flow matching --------------------------------------------------------------------------------


class Contrasted(FlowMap):
    """(b_t(x) - lam m_t) / (1 - lam), m_t = E[dI_t]."""

    def __init__(self, world, weight: float):
        super().__init__()
        self.world, self.weight = world, weight

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        c = self.world.interpolant.coefficients(t)
        mean = c.d_alpha[:, None] * self.world.m0 + c.d_beta[:, None] * self.world.m1
        return (self.world.velocity(t, x) - self.weight * mean) / (1 - self.weight)


@LINES
@pytest.mark.parametrize("bump", BUMPS)
def test_the_contrastive_minimiser_is_the_velocity_moved_and_rescaled(interpolant, bump):
    """Every other sample is the negative of the next, with the mean and variance of all others."""
    world, weight = line(interpolant), 0.3
    for time in (0.0, 0.35, 0.9):
        batch, total = hermite_batch(world, time, time)
        count, spread = len(batch.x0), seeded(4)
        # negatives at m ± sd: the gradient is linear in them, so that two are enough
        sign = (2 * torch.randint(2, (3, count, 1), generator=spread) - 1).to(F64)
        ends = ((world.m0, world.c0, batch.x0, 0), (world.m1, world.c1, batch.x1, 1))
        results = []
        for flip in (1, -1):
            x0, x1 = (
                torch.stack([mean + flip * sign[k] * cov.sqrt()[0], own], 1).flatten(0, 1)
                for mean, cov, own, k in ends
            )
            z = None if batch.z is None else torch.stack([flip * sign[2], batch.z], 1).flatten(0, 1)
            times = torch.full((2 * count,), time, dtype=F64)
            results.append(Batch(x0, x1, times, times, times, world.interpolant, z))

        def slope(theta: float) -> Tensor:
            student = Perturbed(Contrasted(world, weight), BUMPS[bump], theta)
            loss = sum((total * contrastive(student, own, weight)[1::2]).sum() for own in results) / 2
            return torch.autograd.grad(loss, student.theta)[0]

        assert slope(0.0).abs() < 1e-8 and slope(0.3) > 0.02 and slope(-0.3) < -0.02, time


def test_contrastive_without_weight_is_the_velocity_loss_and_can_be_negative(student):
    for batch in (network_batch(), network_batch(STOCHASTIC)):
        same(student, contrastive(student, batch, weight=0.0), si(student, batch))
        rolled = (None if end is None else end.roll(1, 0) for end in (batch.x0, batch.x1, batch.z))
        other = batch.interpolant.at(batch.t, *rolled).velocity
        v = student.velocity(batch.t, batch.at(batch.t).point)
        same(student, contrastive(student, batch, 0.5), si(student, batch) - 0.5 * squared_norm(v - other))
    assert contrastive(STRAIGHT, coupled(network_batch()), 0.9).max() < 0
    with pytest.raises(ValueError, match=r"weight must be a number from 0 to 0.99, not 1"):
        contrastive(student, network_batch(), weight=1.0)


# Consistency flow matching --------------------------------------------------------------------------------


class Segments(FlowMap):
    """The velocity whose step from t to the end of its segment, of K, is the exact jump."""

    def __init__(self, exact: FlowMap, segments: int):
        super().__init__()
        self.exact, self.segments = exact, segments

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.exact.average_velocity(t, ((t * self.segments).floor() + 1) / self.segments, x)


@pytest.mark.parametrize("progress", [0.0, 0.3, 0.4])
@pytest.mark.parametrize("segments", [1, 2, 5])
def test_velocity_consistency_is_zero_for_straight_paths(progress, segments):
    batch = replace(coupled(network_batch()), progress=progress)
    assert velocity_consistency(STRAIGHT, batch, segments, alpha=1.0).max() < 1e-20
    assert velocity_consistency(Perturbed(STRAIGHT, BUMPS["shift"], 0.1), batch, segments).min() > 1e-9


@pytest.mark.parametrize("segments", [1, 2, 5])
def test_its_first_phase_is_flow_matching_weighed_by_what_is_left_of_the_segment(student, batch, segments):
    first = replace(batch, progress=0.33)
    diagonal = replace(batch, t=batch.s)
    left = ((batch.s * segments).floor() + 1) / segments - batch.s
    found = velocity_consistency(student, first, segments, alpha=1.0)
    same(student, found, left**2 * si(student, diagonal), 1e-10)
    assert (velocity_consistency(student, batch, segments, alpha=1.0) - found).abs().max() > 1e-4


def test_its_second_phase_has_the_next_point_as_target_up_to_the_threshold(student, frozen):
    t = vector(0.1, 0.49, 0.4999, 0.6, 0.7999, 0.9, 1.0)
    batch, delta, alpha = network_batch(count=7), 0.02, 0.3
    batch = replace(batch, s=t)
    # r at or above the threshold 0.81: the segment's end; less than 1.01 delta of it: no second term
    end, r = vector(0.5, 0.5, 0.5, 1, 1, 1, 1), vector(0.12, 0.51, 0.5199, 0.62, 0.8199, 0.92, 1)
    now, later, last = (batch.at(time).point for time in (t, r, end))
    v, w = student.velocity(t, now), frozen.velocity(r, later)
    ahead = later + (end - r)[:, None] * w
    target = torch.where((r < 0.81)[:, None], ahead, last)
    alike = vector(1, 0, 0, 1, 1, 0, 0) * squared_norm(v - w)
    wanted = squared_norm(now + (end - t)[:, None] * v - target) + alpha * alike
    same(student, velocity_consistency(student, batch, 2, delta, alpha, threshold=0.81), wanted)
    with pytest.raises(ValueError, match=r"delta must be a number from 1e-06 to 1, not 0"):
        velocity_consistency(student, batch, delta=0.0)


@LINES
@pytest.mark.parametrize("bump", BUMPS)
def test_its_minimiser_is_exact_in_one_step_a_segment_as_delta_vanishes(interpolant, bump):
    """Without the second term, zero for straight paths alone, the mean gradient is of order delta^2."""
    world = line(interpolant)

    def slope(theta: float, delta: float, t: float) -> Tensor:
        student = Perturbed(Segments(world, 2), BUMPS[bump], theta)
        batch, weight = hermite_batch(world, t, t)
        loss = (weight * velocity_consistency(student, batch, 2, delta, alpha=0.0)).sum()
        return torch.autograd.grad(loss, student.theta)[0]

    for t in (0.1, 0.3, 0.6):
        few, many = (slope(0.0, delta, t) for delta in (2e-3, 1e-3))
        assert abs(many) < 1e-5 and (abs(many) < 1e-14 or 3.5 < few / many < 4.5), t
        assert slope(0.3, 1e-3, t) > 20 * max(abs(many), 1e-7)


# Data prediction ------------------------------------------------------------------------------------------


def test_a_prediction_of_data_is_ctms_outer_parameterisation(student, batch):
    """G_{s,t}(x) = ((1 - t) / (1 - s)) x + ((t - s) / (1 - s)) g_{s,t}(x), as long as 1 - s > 0.05."""
    flow = DataPredictionFlowMap(student.network)
    s, t, x = batch.s.clamp(max=0.94), batch.t, batch.x0
    g = student.network(s, t, x)
    one = torch.ones_like(s)
    close(flow.jump(s, t, x), ((1 - t) / (1 - s))[:, None] * x + ((t - s) / (1 - s))[:, None] * g, 1e-12)
    close(flow.jump(s, one, x), student.network(s, one, x), 1e-12)
    late = torch.full_like(s, 0.99)
    close(flow.velocity(late, x), (student.network(late, late, x) - x) / 0.05, 1e-12)


@pytest.mark.parametrize("s", [0.3, 0.96])
@pytest.mark.parametrize("opaque", [False, True], ids=["own pushforward", "jvp"])
def test_the_derivative_of_a_prediction_of_data(student, batch, s, opaque):
    network = Opaque(student.network) if opaque else student.network
    flow, where = DataPredictionFlowMap(network), (torch.full_like(batch.s, s), batch.t, batch.x0)
    along = (randn(16, seed=1), randn(16, seed=2), randn(16, 2, seed=3))
    found = flow.average_velocity_pushforward(*where, *along)
    for mine, theirs in zip(found, torch.func.jvp(flow.average_velocity, where, along)):
        close(mine, theirs, 1e-12)
    h = torch.tensor(0.0, dtype=F64)
    moved = central(lambda h: flow.average_velocity(*(a + h * d for a, d in zip(where, along))), h)
    close(found[1], moved, 1e-6)


def test_the_exact_maps_prediction_of_data_gives_the_exact_map():
    world = gaussian("linear", "general")

    def ends(s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return x + (1 - s)[:, None] * world.average_velocity(s, t, x)

    batch = batch_of(world)
    s, x = batch.s.clamp(max=0.95), batch.at(batch.s.clamp(max=0.95)).point
    close(DataPredictionFlowMap(ends).jump(s, batch.t, x), world.jump(s, batch.t, x), 1e-10)
    assert issubclass(DataPredictionFlowMap, NetworkFlowMap) and LINEAR.name in INTERPOLANTS
