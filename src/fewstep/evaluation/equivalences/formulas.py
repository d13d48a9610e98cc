"""The formulas of other papers in this library's notation, each beside the function that it is, or nearly is.

Noise is at time 0 and data at time 1: a paper that has them the other way round is turned, t = 1 - theirs,
and its velocity changes sign.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ...flows.exact.gaussian import GaussianFlow
from ...flows.flow_map import DataPredictionFlowMap, EulerMap
from ...flows.interpolants import LINEAR, Batch
from ...objectives.consistency import consistency
from ...objectives.emd import emd
from ...objectives.imeanflow import imeanflow
from ...objectives.lmd import lmd
from ...objectives.lsd import lsd
from ...objectives.meanflow import meanflow
from ...objectives.pfmm import pfmm
from ...objectives.psd import psd
from .. import eulerian_family
from .check import F64, Case


def _column(time: Tensor) -> Tensor:
    return time[:, None]


def _between(batch: Batch, s: Tensor) -> Tensor:
    return _column(1 - s) * batch.x0 + _column(s) * batch.x1


def _along(function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> Tensor:
    derivative: Tensor = torch.func.jvp(function, at, along)[1]
    return derivative


def _stopped(value: Tensor) -> Tensor:
    return value.detach()


def align_your_flow(own: Case) -> tuple[Tensor, Tensor]:
    v, b, batch = own.student.average_velocity, own.teacher.average_velocity, own.batch
    s, t = batch.s, batch.t
    x = _between(batch, s)
    drift = b(s, s, x)
    total = _along(v, (s, t, x), (torch.ones_like(s), torch.zeros_like(t), drift))
    g = _stopped(v(s, t, x) - drift - _column(t - s) * total)
    theirs = (v(s, t, x) - _stopped(v(s, t, x) - g)).square().sum(1)
    return theirs, consistency(own.student, batch, own.teacher)


def normalised(own: Case) -> tuple[Tensor, Tensor]:
    """Half-way through the warm-up."""
    v, b, c, batch = own.student.average_velocity, own.teacher.average_velocity, 0.1, own.batch
    s, t = batch.s, batch.t
    x = _between(batch, s)
    drift = b(s, s, x)
    total = _along(v, (s, t, x), (torch.ones_like(s), torch.zeros_like(t), drift))
    g = _stopped(v(s, t, x) - drift - 0.5 * _column(t - s) * total)
    g = g / (torch.linalg.vector_norm(g, dim=1, keepdim=True) + c)
    theirs = (v(s, t, x) - _stopped(v(s, t, x) - g)).square().sum(1)
    return theirs, consistency(own.student, replace(batch, progress=0.2), own.teacher, c, 0.4)


def boot(own: Case) -> tuple[Tensor, Tensor]:
    """d/dt [t v_{0,t}(x0)] = b_t(x0 + t v_{0,t}(x0)), the signal's equation, as a regression learns it."""
    s, t, x0 = torch.zeros_like(own.batch.t), own.batch.t, own.batch.x0

    def signal(end: Tensor) -> Tensor:
        return _column(end) * own.student.average_velocity(s, end, x0)

    v, b = own.student.average_velocity(s, t, x0), own.teacher.average_velocity
    wrong = _along(signal, (t,), (torch.ones_like(t),)) - b(t, t, x0 + signal(t))
    theirs = (v - _stopped(v - wrong)).square().sum(1)
    return theirs, lmd(own.student, replace(own.batch, s=s), own.teacher, "value")


def semigradient_of_emd(own: Case) -> tuple[Tensor, Tensor]:
    """EMD's literal semigradient less the term that it holds beyond consistency distillation's."""
    v, batch = own.student.average_velocity, own.batch
    s, t = batch.s, batch.t
    x = batch.at(s).point
    drift = own.teacher.velocity(s, x)
    one, zero, still = torch.ones_like(s), torch.zeros_like(s), torch.zeros_like(x)
    slope = _along(v, (s, t, x), (one, zero, still))
    carried = _along(v, (s, t, x), (zero, zero, drift))
    residual = _stopped(drift + _column(t - s) * (slope + carried) - v(s, t, x))
    beyond = (2 * residual * _column(t - s) * (slope - _stopped(slope))).sum(1)
    return emd(own.student, batch, own.teacher, "semi") - beyond, consistency(own.student, batch, own.teacher)


def mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    u, batch = own.student.average_velocity, own.batch
    s, t, velocity = batch.s, batch.t, batch.x1 - batch.x0
    x = _between(batch, s)
    total = _along(u, (s, t, x), (torch.ones_like(s), torch.zeros_like(t), velocity))
    theirs = (u(s, t, x) - _stopped(velocity + _column(t - s) * total)).square().sum(1)
    return theirs, meanflow(own.student, batch)


def improved_mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    u, batch, s, t = own.student.average_velocity, own.batch, own.batch.s, own.batch.t
    x = _between(batch, s)
    total = _along(u, (s, t, x), (torch.ones_like(s), torch.zeros_like(t), _stopped(u(s, s, x))))
    predicted = u(s, t, x) - _stopped(_column(t - s) * total)
    return (predicted - (batch.x1 - batch.x0)).square().sum(1), imeanflow(own.student, batch)


def trajectory(own: Case) -> tuple[Tensor, Tensor]:
    """CTM's G of the state x / s at the noise level (1 - s) / s, brought back to this library's state."""
    s, t, x, g = (0.9 * own.batch.s), 0.9 * own.batch.t, own.batch.x0, own.student.network
    level, end = (1 - s) / s, (1 - t) / t
    ratio = _column(end / level)
    landed = ratio * (x / _column(s)) + (1 - ratio) * g(s, t, x)
    return _column(t) * landed, DataPredictionFlowMap(g).jump(s, t, x)


def member(
    target: str, direction: str, stop: str, ours: Callable[..., Tensor]
) -> Callable[[Case], tuple[Tensor, Tensor]]:
    def sides(own: Case) -> tuple[Tensor, Tensor]:
        return eulerian_family.loss(own.student, own.batch, target, direction, stop), ours(
            own.student, own.batch
        )

    return sides


def shortcut(own: Case) -> tuple[Tensor, Tensor]:
    """With d = 2^-k and s on the grid of d."""
    count = len(own.batch.s)
    d = 0.5 ** torch.arange(count, dtype=F64).remainder(4)
    s = torch.floor(own.batch.s / d) * d
    batch = replace(own.batch, s=s, t=s + d)
    x = _between(batch, s)
    v, averaged = own.student.average_velocity, own.ema.average_velocity
    first = averaged(s, s + d / 2, x)
    second = averaged(s + d / 2, s + d, x + _column(d / 2) * first)
    theirs = (v(s, s + d, x) - _stopped(first + second) / 2).square().sum(1)
    return theirs, psd(own.student, batch, own.ema, "midpoint")


def progressive(own: Case) -> tuple[Tensor, Tensor]:
    """N = 4 steps; the denoiser whose single step lands where the teacher's two half-steps do."""
    s = torch.floor(4 * own.batch.s) / 4
    batch, half = replace(own.batch, s=s, t=s + 0.25), torch.full_like(s, 0.125)
    x = _between(batch, s)
    teacher = own.teacher.average_velocity

    def denoiser(velocity: Tensor, time: Tensor, point: Tensor) -> Tensor:
        return point + _column(1 - time) * velocity

    def ddim(data: Tensor, time: Tensor, step: Tensor, point: Tensor) -> Tensor:
        return _column((1 - time - step) / (1 - time)) * point + _column(step / (1 - time)) * data

    middle = ddim(denoiser(teacher(s, s, x), s, x), s, half, x)
    end = ddim(denoiser(teacher(s + half, s + half, middle), s + half, middle), s + half, half, middle)
    target = (end - _column((0.75 - s) / (1 - s)) * x) / _column(0.25 / (1 - s))
    predicted = denoiser(own.student.average_velocity(s, batch.t, x), s, x)
    theirs = (0.25 / (1 - s)).square() * (predicted - _stopped(target)).square().sum(1)
    return theirs, pfmm(own.student, batch, EulerMap(own.teacher), jumps=2)


def terminal_velocity(own: Case) -> tuple[Tensor, Tensor]:
    batch, s, t = own.batch, own.batch.s, own.batch.t
    x = _between(batch, s)

    def displaced(end: Tensor) -> Tensor:
        return x + _column(end - s) * own.student.average_velocity(s, end, x)

    moved = _along(displaced, (t,), (torch.ones_like(t),))
    terminal = own.ema.average_velocity(t, t, displaced(t))
    return (moved - _stopped(terminal)).square().sum(1), lsd(own.student, batch, own.ema)


def split_mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    batch, s, t = own.batch, own.batch.s, own.batch.t
    x, u = batch.at(s).point, own.student.average_velocity
    r = batch.g * s + (1 - batch.g) * t
    first = u(s, r, x)
    second = u(r, t, x + _column(r - s) * first)
    both = (_column(r - s) * first + _column(t - r) * second) / _column(t - s)
    return (u(s, t, x) - _stopped(both)).square().sum(1), psd(own.student, batch, split="uniform")


def contrastive(own: Case) -> tuple[Tensor, Tensor]:
    """The least squares of |a x + c - dI|^2 - lam |a x + c - dI'|^2 in a Gaussian world, by its moments."""
    lam, m0, m1, v0, v1 = 0.05, 0.2, -0.6, 0.8, 0.35
    t, x = own.batch.t, own.batch.x0[:, :1]
    mean, m = (1 - t) * m0 + t * m1, m1 - m0
    variance, covariance = (1 - t) ** 2 * v0 + t**2 * v1, t * v1 - (1 - t) * v0
    # (1 - lam) (a E[x^2] + c E[x]) = E[dI x] - lam m E[x] and (1 - lam) (a E[x] + c) = (1 - lam) m
    matrix = torch.stack(
        [torch.stack([variance + mean**2, mean], 1), torch.stack([mean, torch.ones_like(t)], 1)], 1
    )
    right = torch.stack([covariance + m * mean - lam * m * mean, torch.full_like(t, (1 - lam) * m)], 1)
    a, c = torch.linalg.solve((1 - lam) * matrix, right).unbind(1)
    line = [torch.tensor([k], dtype=F64) for k in (m0, v0, m1, v1)]
    flow = GaussianFlow(line[0], line[1][None], line[2], line[3][None], LINEAR)
    return _column(a) * x + _column(c), (flow.velocity(t, x) - lam * m) / (1 - lam)
