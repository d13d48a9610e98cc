"""The formulas of other papers in this library's notation, each beside the function that it is, or nearly is.

Noise is at time 0 and data at time 1: a paper that has them the other way round is turned, t = 1 - theirs,
and its velocity changes sign.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from ..flows.exact.gaussian import GaussianFlow
from ..flows.flow_map import EulerMap
from ..flows.interpolants import LINEAR
from ..objectives.consistency import consistency
from ..objectives.emd import emd
from ..objectives.esd import esd
from ..objectives.lsd import lsd
from ..objectives.meanflow import meanflow
from ..objectives.pfmm import pfmm
from ..objectives.psd import psd
from . import eulerian_family
from .equivalences import F64, Case, Equivalence


def _column(time: Tensor) -> Tensor:
    return time[:, None]


def _along(function: Callable[..., Tensor], at: tuple[Tensor, ...], along: tuple[Tensor, ...]) -> Tensor:
    derivative: Tensor = torch.func.jvp(function, at, along)[1]
    return derivative


def _stopped(value: Tensor) -> Tensor:
    return value.detach()


def _align_your_flow(own: Case) -> tuple[Tensor, Tensor]:
    v, b, batch = own.student.average_velocity, own.teacher.average_velocity, own.batch
    s, t = batch.s, batch.t
    x = _column(1 - s) * batch.x0 + _column(s) * batch.x1
    drift = b(s, s, x)
    total = _along(v, (s, t, x), (torch.ones_like(s), torch.zeros_like(t), drift))
    g = _stopped(v(s, t, x) - drift - _column(t - s) * total)
    theirs = (v(s, t, x) - _stopped(v(s, t, x) - g)).square().sum(1)
    return theirs, consistency(own.student, batch, own.teacher)


def _semigradient_of_emd(own: Case) -> tuple[Tensor, Tensor]:
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


def _mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    u, batch = own.student.average_velocity, own.batch
    s, t, velocity = batch.s, batch.t, batch.x1 - batch.x0
    x = _column(1 - s) * batch.x0 + _column(s) * batch.x1
    total = _along(u, (s, t, x), (torch.ones_like(s), torch.zeros_like(t), velocity))
    theirs = (u(s, t, x) - _stopped(velocity + _column(t - s) * total)).square().sum(1)
    return theirs, meanflow(own.student, batch)


def _member(
    target: str, direction: str, stop: str, ours: Callable[..., Tensor]
) -> Callable[[Case], tuple[Tensor, Tensor]]:
    def sides(own: Case) -> tuple[Tensor, Tensor]:
        return eulerian_family.loss(own.student, own.batch, target, direction, stop), ours(
            own.student, own.batch
        )

    return sides


def _shortcut(own: Case) -> tuple[Tensor, Tensor]:
    """With d = 2^-k and s on the grid of d."""
    count = len(own.batch.s)
    d = 0.5 ** torch.arange(count, dtype=F64).remainder(4)
    s = torch.floor(own.batch.s / d) * d
    batch = replace(own.batch, s=s, t=s + d)
    x = _column(1 - s) * batch.x0 + _column(s) * batch.x1
    v, averaged = own.student.average_velocity, own.ema.average_velocity
    first = averaged(s, s + d / 2, x)
    second = averaged(s + d / 2, s + d, x + _column(d / 2) * first)
    theirs = (v(s, s + d, x) - _stopped(first + second) / 2).square().sum(1)
    return theirs, psd(own.student, batch, own.ema, "midpoint")


def _progressive(own: Case) -> tuple[Tensor, Tensor]:
    """N = 4 steps; the denoiser whose single step lands where the teacher's two half-steps do."""
    s = torch.floor(4 * own.batch.s) / 4
    batch, half = replace(own.batch, s=s, t=s + 0.25), torch.full_like(s, 0.125)
    x = _column(1 - s) * batch.x0 + _column(s) * batch.x1
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


def _terminal_velocity(own: Case) -> tuple[Tensor, Tensor]:
    batch, s, t = own.batch, own.batch.s, own.batch.t
    x = _column(1 - s) * batch.x0 + _column(s) * batch.x1

    def displaced(end: Tensor) -> Tensor:
        return x + _column(end - s) * own.student.average_velocity(s, end, x)

    moved = _along(displaced, (t,), (torch.ones_like(t),))
    terminal = own.ema.average_velocity(t, t, displaced(t))
    return (moved - _stopped(terminal)).square().sum(1), lsd(own.student, batch, own.ema)


def _split_mean_flow(own: Case) -> tuple[Tensor, Tensor]:
    batch, s, t = own.batch, own.batch.s, own.batch.t
    x, u = batch.at(s).point, own.student.average_velocity
    r = batch.g * s + (1 - batch.g) * t
    first = u(s, r, x)
    second = u(r, t, x + _column(r - s) * first)
    both = (_column(r - s) * first + _column(t - r) * second) / _column(t - s)
    return (u(s, t, x) - _stopped(both)).square().sum(1), psd(own.student, batch, split="uniform")


def _contrastive(own: Case) -> tuple[Tensor, Tensor]:
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


ARXIV = "[arXiv {0}](https://arxiv.org/abs/{0})".format
TOTAL = r"(\partial_s + b_s \cdot \nabla)\, v_{s,t}(I_s)"

ENTRIES = (
    Equivalence(
        "AYF-EMD, without normalisation and fully warmed up, is consistency distillation",
        f"Align Your Flow, {ARXIV('2506.14603')}",
        rf"\big|v_{{s,t}} - \mathrm{{sg}}\,(v_{{s,t}} - g)\big|^2,\quad g = v_{{s,t}} - b_s - (t-s) {TOTAL}",
        rf"\big|v_{{s,t}} - \mathrm{{sg}}\,[b_s + (t-s) {TOTAL}]\big|^2",
        _align_your_flow,
    ),
    Equivalence(
        "EMD's semigradient is consistency distillation and one term more",
        f"Flow Map Matching, {ARXIV('2406.07507')}",
        r"\big|\partial_s X_{s,t} + \mathrm{sg}\,(\nabla X_{s,t}\, b_s)\big|^2",
        rf"\big|v_{{s,t}} - \mathrm{{sg}}\,[b_s + (t-s) {TOTAL}]\big|^2",
        _semigradient_of_emd,
        r"2\, \mathrm{sg}\,(r) \cdot (t-s)\, \partial_s v_{s,t}(I_s),\quad "
        r"r = \partial_s X_{s,t} + \nabla X_{s,t}\, b_s",
    ),
    Equivalence(
        "MeanFlow is consistency training in continuous time",
        f"MeanFlow, {ARXIV('2505.13447')}",
        r"\big|u - \mathrm{sg}\,(\dot I_s + (t-s)\, \tfrac{\mathrm d u}{\mathrm d s})\big|^2",
        r"\big|v_{s,t} - \mathrm{sg}\,[\dot I_s + (t-s)(\partial_s + \dot I_s \cdot \nabla) v_{s,t}]\big|^2",
        _mean_flow,
    ),
    Equivalence(
        "MeanFlow is the Eulerian family with target dI, direction dI, all but v stopped",
        f"MeanFlow, {ARXIV('2505.13447')}",
        r"\big|v_{s,t} - \mathrm{sg}\,[\dot I_s + (t-s)(\partial_s + \dot I_s \cdot \nabla) v_{s,t}]\big|^2",
        r"\big|v_{s,t} - \text{target} - (t-s)(\partial_s + \text{direction} \cdot \nabla) v_{s,t}\big|^2",
        _member(eulerian_family.DRAWN, eulerian_family.DRAWN, eulerian_family.ALL, meanflow),
    ),
    Equivalence(
        "ESD is the Eulerian family with target and direction v_ss, and d/ds v free",
        f"Self-distillation, {ARXIV('2505.18825')}",
        r"\big|\partial_s X_{s,t} + \mathrm{sg}\,(\nabla X_{s,t}\, v_{s,s})\big|^2",
        r"\big|v_{s,t} - \text{target} - (t-s)(\partial_s + \text{direction} \cdot \nabla) v_{s,t}\big|^2",
        _member(eulerian_family.OWN, eulerian_family.OWN, eulerian_family.TRANSPORT, esd),
    ),
    Equivalence(
        "a shortcut model is PSD-M on a dyadic grid, with an averaged target",
        f"Shortcut models, {ARXIV('2410.12557')}",
        r"\big|v(x, s, d) - \mathrm{sg}\,\tfrac12[\bar v(x, s, \tfrac d2) "
        r"+ \bar v(x', s + \tfrac d2, \tfrac d2)]\big|^2",
        r"\big|v_{s,t} - \mathrm{sg}\,\tfrac12[\bar v_{s,u} + \bar v_{u,t}(\bar X_{s,u})]\big|^2,\quad "
        r"u = \tfrac{s+t}2",
        _shortcut,
    ),
    Equivalence(
        "SplitMeanFlow is PSD-U",
        f"SplitMeanFlow, {ARXIV('2507.16884')}",
        r"(t-s)\, u_{s,t} = \mathrm{sg}\,[(r-s)\, u_{s,r} + (t-r)\, u_{r,t}]",
        r"\big|v_{s,t} - \mathrm{sg}\,[(1-g)\, v_{s,u} + g\, v_{u,t}(X_{s,u})]\big|^2,\quad u = gs + (1-g)t",
        _split_mean_flow,
    ),
    Equivalence(
        "progressive distillation is PFMM with two jumps on a grid",
        f"Progressive distillation, {ARXIV('2202.00512')}",
        r"w\, \big|D - \tilde D\big|^2,\quad \tilde D\text{: one step lands where two half-steps do},\ "
        r"w = \big(\tfrac{t-s}{1-s}\big)^2",
        r"\big|X_{s,t}(I_s) - (Y_{u,t} \circ Y_{s,u})(I_s)\big|^2,\quad Y = \text{the teacher's Euler step}",
        _progressive,
    ),
    Equivalence(
        "terminal velocity matching is LSD with an averaged target",
        f"TVM, {ARXIV('2511.19797')}",
        r"\big|\tfrac{\mathrm d}{\mathrm d t} f(x, s, t) - \mathrm{sg}\, \bar u(f(x, s, t), t, t)\big|^2",
        r"\big|\partial_t X_{s,t}(I_s) - \mathrm{sg}\, \bar v_{t,t}(X_{s,t}(I_s))\big|^2",
        _terminal_velocity,
    ),
    Equivalence(
        "contrastive flow matching rescales and shifts the velocity",
        f"Contrastive flow matching, {ARXIV('2506.05350')}",
        r"\arg\min_v \mathbb E |v - \dot I|^2 - \lambda\, \mathbb E |v - \dot I'|^2",
        r"(b_t - \lambda\, m)/(1 - \lambda),\quad m = \mathbb E[x_1 - x_0]",
        _contrastive,
    ),
)
