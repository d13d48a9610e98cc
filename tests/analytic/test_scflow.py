"""The losses of SCFlow at exact flows, against formulas written out, and what their gradients reach."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.exact.straight import StraightFlow
from fewstep.flows.flow_map import EulerMap, FlowMap
from fewstep.flows.interpolants import LINEAR, Batch
from fewstep.flows.samplers import euler, jumps, stochastic
from fewstep.objectives.reflow import reflow as rectified
from fewstep.objectives.scflow import losses
from fewstep.objectives.scflow.reversed_time import Reversed, between

from .exact import F64, MEANS, close, randn, seeded, uniform, vector

C = 0.01
A = torch.tensor([[1.4, 0.3, 0.0], [-0.2, 0.7, 0.1], [0.1, 0.0, 1.9]], dtype=F64)
STRAIGHT = StraightFlow(A, vector(0.5, -0.3, 0.2))
CURVED = GaussianFlow(
    torch.zeros(3, dtype=F64), torch.eye(3, dtype=F64), MEANS[1], torch.diag(vector(0.3, 2.0, 0.05)), LINEAR
)
COUNT = 64


def draws(flow) -> tuple[torch.Tensor, ...]:
    """z0, z1, t, u_down, u_up: on the straight flow coupled, on the curved one independent."""
    z1 = randn(COUNT, 3, seed=1)
    z0 = flow.end(z1) if isinstance(flow, StraightFlow) else flow.sample(COUNT, seeded(2))[1]
    return z0, z1, *(uniform(COUNT, low=0, high=1, seed=k) for k in (3, 4, 5))


def consistency(flow: FlowMap, delta: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Consistency (not truncated), bidirectional and reflow with `flow` as student, target and teacher,
    (batch,) each."""
    z0, z1, t, u_down, u_up = draws(flow)
    exact, z = Reversed(flow), between(z0, z1, t)
    move = losses.moves(exact, z, t, u_down, u_up, delta)
    predicted = exact.f(z, t)
    down, up = exact.f(move.down, move.t_down), exact.f(move.up, move.t_up)
    one_step = exact.f(z1, torch.ones_like(t))
    return (
        losses.truncated_consistency(predicted, z0, down, move.t_down, 0.0, C),
        losses.bidirectional_consistency(predicted, up, C),
        losses.reflow(exact, one_step, z1, t),
    )


def test_the_straight_flow_is_straight():
    x0, t = randn(COUNT, 3, seed=1), uniform(COUNT, low=0, high=1, seed=2)
    on_the_way = between(STRAIGHT.end(x0), x0, 1 - t)
    close(STRAIGHT.start(t, on_the_way), x0, 1e-10)
    close(euler(STRAIGHT, x0, 1).points, STRAIGHT.end(x0), 1e-10)
    close(euler(STRAIGHT, x0, 7).points, jumps(STRAIGHT, x0, 3).points, 1e-10)
    assert (euler(CURVED, x0, 1).points - euler(CURVED, x0, 64).points).abs().max() > 0.1


def test_time_is_converted_at_the_border():
    """f(z, t) is one Euler step of the house from 1 - t to the data, and z_t the house's interpolant at 1 -
    t."""
    z0, z1, t, *_ = draws(CURVED)
    close(between(z0, z1, t), LINEAR.at(1 - t, z1, z0).point, 1e-14)
    z = between(z0, z1, t)
    close(Reversed(CURVED).f(z, t), EulerMap(CURVED).jump(1 - t, torch.ones_like(t), z), 1e-12)
    close(Reversed(STRAIGHT).v(z1, torch.ones_like(t)), z1 - STRAIGHT.end(z1), 1e-12)


def test_on_a_straight_flow_every_loss_of_the_exact_map_is_zero():
    for loss in consistency(STRAIGHT, 0.3):
        assert loss.shape == (COUNT,)
        close(loss, torch.zeros(COUNT, dtype=F64), 1e-12)


def test_on_a_curved_flow_consistency_vanishes_with_the_threshold_and_reflow_does_not():
    coarse, fine, finest = (consistency(CURVED, delta) for delta in (0.3, 0.003, 3e-5))
    for k in (0, 1):
        means = [losses_of[k].mean() for losses_of in (coarse, fine, finest)]
        assert means[0] > 3e-3 and means[1] < means[0] / 100 and means[2] < means[1] / 1000
    # reflow does not depend on the threshold at all
    assert coarse[2].mean() > 0.05 and torch.equal(coarse[2], finest[2])


def test_moves_follow_the_teacher_from_one_call():
    class Counted(FlowMap):
        calls = 0

        def velocity(self, t, x):
            self.calls += 1
            return CURVED.velocity(t, x)

    teacher = Counted()
    z0, z1, t, u_down, u_up = draws(CURVED)
    z = between(z0, z1, t)
    move = losses.moves(Reversed(teacher), z, t, u_down, u_up, 0.1)
    assert teacher.calls == 1
    for k in range(COUNT):
        down, up = u_down[k] * min(t[k], 0.1), u_up[k] * min(1 - t[k], 0.1)
        v = -CURVED.velocity((1 - t[k])[None], z[k][None])[0]
        close(move.down[k], z[k] - down * v, 1e-12)
        close(move.up[k], z[k] + up * v, 1e-12)
        assert move.t_down[k] == t[k] - down and move.t_up[k] == t[k] + up
    assert (
        (move.t_down >= 0).all()
        and (move.t_up <= 1).all()
        and (move.t_down < t).all()
        and (move.t_up > t).all()
    )


def test_truncation_takes_the_data_below_its_time():
    z0, predicted, target = (randn(4, 3, seed=k) for k in (1, 2, 3))
    t_down = vector(0.0, 0.39, 0.4, 0.9)
    loss = losses.truncated_consistency(predicted, z0, target, t_down, 0.4, C)
    expected = [
        losses.pseudo_huber(predicted[k : k + 1], (z0 if k < 2 else target)[k : k + 1], C)[0]
        for k in range(4)
    ]
    close(loss, torch.stack(expected), 1e-14)


def test_pseudo_huber_is_its_formula():
    x, y = randn(3, 2, 4, seed=1), randn(3, 2, 4, seed=2)
    for k in range(3):
        close(
            losses.pseudo_huber(x, y, 0.05)[k],
            sum(((a - b) ** 2 + 0.0025) ** 0.5 - 0.05 for a, b in zip(x[k].flatten(), y[k].flatten())) / 8,
            1e-12,
        )
    near, far = losses.pseudo_huber(x, x + 1e-4, C), losses.pseudo_huber(x, x + 10, C)
    close(near, torch.full((3,), 1e-8 / (2 * C), dtype=F64), 1e-4)
    close(far, torch.full((3,), 10 - C, dtype=F64), 1e-5)


class Affine(FlowMap):
    """A velocity with two parameters."""

    def __init__(self, slope: float):
        super().__init__()
        self.slope, self.shift = (
            nn.Parameter(torch.tensor(slope, dtype=F64)),
            nn.Parameter(torch.tensor(0.1, dtype=F64)),
        )

    def average_velocity(self, s, t, x):
        return self.slope * x * (1 + t[:, None]) + self.shift


def test_reflow_is_its_formula_and_holds_the_one_step_result_fixed():
    student = Affine(0.4)
    z1, t = randn(COUNT, 3, seed=1), uniform(COUNT, low=0, high=1, seed=2)
    one_step = Reversed(student).f(z1, torch.ones_like(t))
    losses.reflow(Reversed(student), one_step, z1, t).sum().backward()
    got = student.slope.grad.clone(), student.shift.grad.clone()
    fixed, slope, shift = (
        one_step.detach(),
        student.slope.detach().clone().requires_grad_(),
        student.shift.detach().clone().requires_grad_(),
    )
    z = (1 - t)[:, None] * fixed + t[:, None] * z1
    f = z + t[:, None] * (slope * z * (2 - t)[:, None] + shift)
    expected = torch.autograd.grad((f - fixed).square().mean(1).sum(), (slope, shift))
    close(torch.stack(got), torch.stack(expected), 1e-10)


def test_targets_get_no_gradient():
    student, target = Affine(0.4), Affine(0.7)
    z0, z1, t, u_down, u_up = draws(CURVED)
    z = between(z0, z1, t)
    move = losses.moves(Reversed(CURVED), z, t, u_down, u_up, 0.1)
    predicted, down = Reversed(student).f(z, t), Reversed(target).f(move.down, move.t_down)
    (
        losses.truncated_consistency(predicted, z0, down, move.t_down, 0.4, C)
        + losses.bidirectional_consistency(predicted, down, C)
    ).sum().backward()
    assert target.slope.grad is None and student.slope.grad.abs() > 0


def critic(z: torch.Tensor, parts: int = 1) -> torch.Tensor:
    return (z.square().sum(1) * 0.3 + z[:, 0]).sin()


def test_the_discriminators_loss_is_its_formula():
    z0, made = randn(5, 3, seed=1), randn(5, 3, seed=2).requires_grad_()
    loss = losses.discriminator(critic, z0, made, 0.7)
    h, slope = 1e-6, torch.zeros(5, 3, dtype=F64)
    for k in range(3):
        step = torch.zeros(3, dtype=F64)
        step[k] = h
        slope[:, k] = (critic(z0 + step) - critic(z0 - step)) / (2 * h)
    plain = (1 + torch.exp(-critic(z0))).log() + (1 + torch.exp(critic(made))).log()
    close(loss, plain + 0.35 * slope.square().sum(1), 1e-7)
    close(losses.discriminator(critic, z0, made, 0.0), plain, 1e-12)
    loss.sum().backward() if loss.requires_grad else None
    assert made.grad is None, "the predictions are held fixed"


def test_the_generators_loss_does_not_saturate():
    made = randn(5, 3, seed=2).requires_grad_()
    loss = losses.adversarial(critic, made)
    close(loss, (1 + torch.exp(-critic(made))).log(), 1e-12)
    loss.sum().backward()
    assert made.grad.abs().max() > 0


def test_rectified_flow_of_an_exact_straight_flow_is_zero_and_of_a_curved_one_is_not():
    x0, s = randn(COUNT, 3, seed=1), uniform(COUNT // 2, low=0, high=1, seed=2)
    batch = Batch(
        x0,
        randn(COUNT, 3, seed=3),
        torch.cat([s, 1 - s]),
        torch.ones(COUNT, dtype=F64),
        torch.zeros(COUNT, dtype=F64),
    )
    close(rectified(STRAIGHT, batch, STRAIGHT, steps=3, times=2), torch.zeros(COUNT, dtype=F64), 1e-12)
    assert rectified(CURVED, batch, CURVED, steps=64).mean() > 0.05
    # by hand, with times = 2: the second half of the batch has the couples of the first
    y = euler(CURVED, x0[: COUNT // 2], 3).points
    got = rectified(STRAIGHT, batch, CURVED, steps=3, times=2)
    for k in (0, 5, COUNT // 2 + 5):
        own0, own1, time = x0[k % (COUNT // 2)], y[k % (COUNT // 2)], batch.s[k]
        v = STRAIGHT.velocity(time[None], ((1 - time) * own0 + time * own1)[None])[0]
        close(got[k], (v - (own1 - own0)).square().sum(), 1e-10)
    with pytest.raises(ValueError, match="times that divide its share"):
        rectified(STRAIGHT, batch, CURVED, times=3)


def test_the_stochastic_sampler_without_fresh_noise_is_eulers_on_a_straight_flow():
    x0 = randn(COUNT, 3, seed=1)
    plain = stochastic(STRAIGHT, x0, 4, 0.0, seeded(1), scale=1.0)
    close(plain.points, STRAIGHT.end(x0), 1e-10)
    assert plain.nfe == 4
    # by hand on the curved flow, two steps: the noise at the middle is (1 - beta) x0 + beta e
    e, half = torch.randn(COUNT, 3, generator=seeded(1), dtype=F64), torch.full((COUNT,), 0.5, dtype=F64)
    first = x0 + CURVED.velocity(torch.zeros(COUNT, dtype=F64), x0)
    x = 0.5 * first + 0.5 * (0.7 * x0 + 0.3 * e)
    drawn = stochastic(CURVED, x0, 2, 0.3, seeded(1), scale=1.0).points
    close(drawn, x + 0.5 * CURVED.velocity(half, x), 1e-12)
