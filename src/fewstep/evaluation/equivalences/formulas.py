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
from ...objectives.esd import esd
from ...objectives.imeanflow import imeanflow
from ...objectives.lmd import lmd
from ...objectives.lsd import lsd
from ...objectives.meanflow import meanflow
from ...objectives.pfmm import pfmm
from ...objectives.psd import psd
from ..eulerian_family import ALL, DRAWN, OWN, TRANSPORT
from ..eulerian_family import loss as family_loss
from .check import F64, Case


def _column(time: Tensor) -> Tensor:
    return time[:, None]


def _between(batch: Batch, s: Tensor) -> Tensor:
    return _column(1 - s) * batch.x0 + _column(s) * batch.x1


def _along(function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> Tensor:
    derivative: Tensor = torch.func.jvp(function, at, along)[1]
    return derivative


def _total(v: Callable[..., Tensor], s: Tensor, t: Tensor, x: Tensor, drift: Tensor) -> Tensor:
    """(d/ds + drift . grad) v_{s,t}(x)."""
    return _along(v, (s, t, x), (torch.ones_like(s), torch.zeros_like(t), drift))


def _pulled(own: Case, warmth: float) -> tuple[Tensor, Tensor]:
    """v_{s,t}(I_s), and AYF's g = v_{s,t} - b_s - w (t - s) (d/ds + b_s . grad) v_{s,t}, stopped."""
    v, s, t = own.student.average_velocity, own.batch.s, own.batch.t
    x = _between(own.batch, s)
    drift = own.teacher.average_velocity(s, s, x)
    value = v(s, t, x)
    return value, (value - drift - warmth * _column(t - s) * _total(v, s, t, x, drift)).detach()


def align_your_flow(own: Case) -> tuple[Tensor, Tensor]:
    v, g = _pulled(own, 1)
    return (v - (v - g).detach()).square().sum(1), consistency(own.student, own.batch, own.teacher)


def normalised(own: Case) -> tuple[Tensor, Tensor]:
    """Half-way through the warm-up."""
    (v, g), c = _pulled(own, 0.5), 0.1
    g = g / (torch.linalg.vector_norm(g, dim=1, keepdim=True) + c)
    ours = consistency(own.student, replace(own.batch, progress=0.2), own.teacher, c, 0.4)
    return (v - (v - g).detach()).square().sum(1), ours


def boot(own: Case) -> tuple[Tensor, Tensor]:
    """d/dt [t v_{0,t}(x0)] = b_t(x0 + t v_{0,t}(x0)), the signal's equation, as a regression learns it."""
    s, t, x0 = torch.zeros_like(own.batch.t), own.batch.t, own.batch.x0

    def signal(end: Tensor) -> Tensor:
        return _column(end) * own.student.average_velocity(s, end, x0)

    v, b = own.student.average_velocity(s, t, x0), own.teacher.average_velocity
    wrong = _along(signal, (t,), (torch.ones_like(t),)) - b(t, t, x0 + signal(t))
    theirs = (v - (v - wrong).detach()).square().sum(1)
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
    residual = (drift + _column(t - s) * (slope + carried) - v(s, t, x)).detach()
    beyond = (2 * residual * _column(t - s) * (slope - slope.detach())).sum(1)
    return emd(own.student, batch, own.teacher, "semi") - beyond, consistency(own.student, batch, own.teacher)


def mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    u, batch = own.student.average_velocity, own.batch
    s, t, velocity = batch.s, batch.t, batch.x1 - batch.x0
    x = _between(batch, s)
    target = (velocity + _column(t - s) * _total(u, s, t, x, velocity)).detach()
    return (u(s, t, x) - target).square().sum(1), meanflow(own.student, batch)


def improved_mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    u, batch, s, t = own.student.average_velocity, own.batch, own.batch.s, own.batch.t
    x = _between(batch, s)
    predicted = u(s, t, x) - (_column(t - s) * _total(u, s, t, x, u(s, s, x).detach())).detach()
    return (predicted - (batch.x1 - batch.x0)).square().sum(1), imeanflow(own.student, batch)


def trajectory(own: Case) -> tuple[Tensor, Tensor]:
    """CTM's G of the state x / s at the noise level (1 - s) / s, brought back to this library's state."""
    s, t, x, g = (0.9 * own.batch.s), 0.9 * own.batch.t, own.batch.x0, own.student.network
    level, end = (1 - s) / s, (1 - t) / t
    ratio = _column(end / level)
    landed = ratio * (x / _column(s)) + (1 - ratio) * g(s, t, x)
    return _column(t) * landed, DataPredictionFlowMap(g).jump(s, t, x)


def mean_flow_of_the_family(own: Case) -> tuple[Tensor, Tensor]:
    return family_loss(own.student, own.batch, DRAWN, DRAWN, ALL), meanflow(own.student, own.batch)


def improved_mean_flow_of_the_family(own: Case) -> tuple[Tensor, Tensor]:
    return family_loss(own.student, own.batch, DRAWN, OWN, ALL), imeanflow(own.student, own.batch)


def esd_of_the_family(own: Case) -> tuple[Tensor, Tensor]:
    return family_loss(own.student, own.batch, OWN, OWN, TRANSPORT), esd(own.student, own.batch)


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
    theirs = (v(s, s + d, x) - (first + second).detach() / 2).square().sum(1)
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
    theirs = (0.25 / (1 - s)).square() * (predicted - target.detach()).square().sum(1)
    return theirs, pfmm(own.student, batch, EulerMap(own.teacher), jumps=2)


def terminal_velocity(own: Case) -> tuple[Tensor, Tensor]:
    batch, s, t = own.batch, own.batch.s, own.batch.t
    x = _between(batch, s)

    def displaced(end: Tensor) -> Tensor:
        return x + _column(end - s) * own.student.average_velocity(s, end, x)

    moved = _along(displaced, (t,), (torch.ones_like(t),))
    terminal = own.ema.average_velocity(t, t, displaced(t))
    return (moved - terminal.detach()).square().sum(1), lsd(own.student, batch, own.ema)


def split_mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    batch, s, t = own.batch, own.batch.s, own.batch.t
    x, u = batch.at(s).point, own.student.average_velocity
    r = batch.g * s + (1 - batch.g) * t
    first = u(s, r, x)
    second = u(r, t, x + _column(r - s) * first)
    both = (_column(r - s) * first + _column(t - r) * second) / _column(t - s)
    return (u(s, t, x) - both.detach()).square().sum(1), psd(own.student, batch, split="uniform")


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
