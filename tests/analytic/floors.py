"""What docs/losses.md is computed with: every loss at the exact flow map, on two worlds.

On the Gaussian world each is an integral over times; on the checkerboard a quadrature over space and time,
or a Monte Carlo mean.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from fewstep.flows.exact import checkerboard
from fewstep.flows.exact.checkerboard import DATA_SCALE, EDGES, FILLED, CheckerboardMap
from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.flow_map import FlowMap, Jump
from fewstep.flows.interpolants import LINEAR, Batch
from fewstep.flows.samplers import euler
from fewstep.flows.times import Times
from fewstep.objectives import bind
from fewstep.objectives.scflow import losses
from fewstep.objectives.scflow.reversed_time import Reversed, between

from .exact import F64, seeded, vector

RATIO = vector(4.0, 0.25)  # the variances of the data, those of the noise being 1
GAUSSIAN = GaussianFlow(
    torch.zeros(2, dtype=F64), torch.eye(2, dtype=F64), vector(1.0, -1.0), torch.diag(RATIO), LINEAR
)
DELTA, TRUNCATION, HUBER = 0.1, 0.4, 0.01
TEACHERS = ("lmd", "emd", "pfmm", "consistency", "reflow", "discrete_consistency", "ctm")
# the rows whose objective has other settings than its own: discrete ones at their first and longest step
OPTIONS = {"discrete_consistency": {"halvings": 0}, "consistency_training": {"halvings": 0}}
ZERO = ("lmd", "emd", "pfmm", "lsd", "esd", "psd", "consistency")


class ExactCheckerboard(CheckerboardMap):
    """The checkerboard's exact map with the derivatives that objectives ask for."""

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return (self.jump(s, t, x) - x) / (t - s)[:, None]

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> Jump:
        return Jump(*torch.func.jvp(self.jump, (s, t, x), (ds, dt, dx)))


BOARD = ExactCheckerboard(substeps=50)


def at_zero_and_one(count: int) -> tuple[Tensor, Tensor]:
    return torch.zeros(count, dtype=F64), torch.ones(count, dtype=F64)


def euler_end(flow: FlowMap, x0: Tensor, steps: int) -> Tensor:
    return euler(flow, x0, steps).points


def gauss_legendre(count: int = 60) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1]; nodes as a column, for one column a data variance."""
    node, weight = (torch.from_numpy(k) for k in np.polynomial.legendre.leggauss(count))
    return (node[:, None] + 1) / 2, weight[:, None] / 2


# The Gaussian world: integrals over times -----------------------------------------------------------------


def c(t: Tensor) -> Tensor:
    """The variances c_t = (1 - t)^2 + r t^2 of I_t."""
    return (1 - t) ** 2 + RATIO * t**2


def slope(t: Tensor) -> Tensor:
    """b_t(x) - E b_t = slope (x - m_t)."""
    return (RATIO * t - (1 - t)) / c(t)


def huber(variance: Tensor) -> Tensor:
    """E[sqrt(y^2 + HUBER^2)] - HUBER of y ~ N(0, variance), by Bessel functions, a mean over dimensions."""
    variance = variance.clamp(min=1e-9)
    a = HUBER**2 / (4 * variance)
    bessel = torch.special.scaled_modified_bessel_k0(a) + torch.special.scaled_modified_bessel_k1(a)
    return (HUBER**2 / (2 * variance.sqrt() * math.sqrt(2 * math.pi)) * bessel - HUBER).mean(1)


def scflow_on_the_gaussian() -> dict[str, float]:
    """The three distances, at f(z, t) = X_{1-t,1}(z): differences of affine functions of a Gaussian."""
    middles = [(torch.arange(count, dtype=F64) + 0.5) / count for count in (1000, 100)]
    t, u = torch.cartesian_prod(*middles).split(1, 1)
    s = 1 - t

    def to_data(time: Tensor) -> Tensor:
        return (RATIO / c(time)).sqrt()

    down, up = u * t.clamp(max=DELTA), u * s.clamp(max=DELTA)
    forward = (to_data(s) - to_data(s + down) * (1 + down * slope(s))) ** 2 * c(s)
    backward = (to_data(s) - to_data(s - up) * (1 - up * slope(s))) ** 2 * c(s)
    from_data = 2 * RATIO - 2 * to_data(s) * s * RATIO
    root = RATIO.sqrt()
    straight = RATIO * ((s * root + t) / c(s).sqrt() - 1) ** 2
    return {
        "scflow consistency": huber(forward).mean().item(),
        "scflow truncated": huber(torch.where(t - down < TRUNCATION, from_data, forward)).mean().item(),
        "scflow bidirectional": huber(backward).mean().item(),
        "scflow reflow": straight.mean().item(),
    }


def gain(s: Tensor, t: Tensor) -> Tensor:
    """The slope of X_{s,t}."""
    return (c(t) / c(s)).sqrt()


def chord(s: Tensor, t: Tensor) -> Tensor:
    """The slope of v_{s,t}."""
    return (gain(s, t) - 1) / (t - s)


def heun_slope(s: Tensor, t: Tensor) -> Tensor:
    """The slope of the average velocity of Heun's step."""
    return (slope(s) + slope(t) * (1 + (t - s) * slope(s))) / 2


def variance(x0: Tensor, x1: Tensor) -> Tensor:
    """That of x0 and x1 times these."""
    return x0**2 + RATIO * x1**2


def contrasted(floor: float, spread: float, weight: float = 0.05) -> float:
    """E|b - dI|^2 - weight E|b - dI'|^2, where the first is `floor`, `spread` that of dI about its mean."""
    return floor - weight * (2 * spread - floor)


def steps_on_the_gaussian(h: float = 0.5) -> dict[str, float]:
    """The residuals of objectives that take steps, affine in x0 and x1; (s, t) forward, g uniform."""
    node, weight = (k[:, 0] for k in gauss_legendre(24))
    s, t, g = torch.cartesian_prod(node, node, node)[..., None].unbind(1)
    density = torch.cartesian_prod(weight, weight, weight).prod(1)[:, None] * 2 * t
    s = s * t
    u = s + h * (t - s)
    phi, rest = heun_slope(s, u), (1 - h) * chord(u, t)
    discrete = (chord(s, t) - h * phi - rest * (1 + (u - s) * phi)) ** 2 * c(s) / h
    training = variance(chord(s, t) * (1 - s) + h - rest * (1 - u), chord(s, t) * s - h - rest * u) / h
    reached, step = torch.ones_like(s), g * (t - s) / 4
    for k in range(4):
        reached = reached * (1 + step * heun_slope(s + k * step, s + (k + 1) * step))
    apart = gain(t, torch.ones_like(t)) * (gain(s, t) - gain(s + 4 * step, t) * reached)
    values = {"discrete_consistency": discrete, "consistency_training": training, "ctm": apart**2 * c(s)}
    return {name: (density * value).sum().item() for name, value in values.items()}


def velocity_consistency_on_the_gaussian(delta: float = 1e-3, alpha: float = 1e-5) -> float:
    """Two segments: the next point is the target, and from the threshold 0.9 on the end of the segment."""
    t = (torch.arange(200_000, dtype=F64)[:, None] + 0.5) / 200_000
    end, r = torch.where(t < 0.5, 0.5, 1.0), (t + delta).clamp(max=1)
    now, later = (1 + (end - time) * slope(time) for time in (t, r))
    ahead = variance(now * (1 - t) - later * (1 - r), now * t - later * r)
    apart = torch.where(r < 0.9, ahead, (end - t) ** 2 * RATIO / c(t))
    alike = variance(slope(t) * (1 - t) - slope(r) * (1 - r), slope(t) * t - slope(r) * r)
    alike = alpha * torch.where((t < 0.9) & (end - t > 1.01 * delta), alike, 0.0)
    return (apart + alike).sum(1).mean().item()


def gaussian_floors() -> dict[str, float]:
    """What the page's column holds, but for the zeros: no objective is evaluated."""
    t, weight = gauss_legendre()
    spread = RATIO / c(t)  # the variance of dI given I, as (x0, x1) -> (I, dI) has determinant 1
    s = t[:, None] * t  # (s / t, t, dimension): s uniform below t, which has density 2 t
    carried = (weight[:, None] * weight * 2 * t * RATIO / c(s) * c(t) / c(s)).sum()
    end = torch.ones(2, dtype=F64)
    for k in range(8):
        end = end * (1 + slope(vector(k / 8)) / 8)
    bend = (slope(t) * (1 - t + t * end) - (end - 1)) ** 2
    closed = math.pi / 2 * RATIO.sqrt().sum().item()
    assert abs((weight * spread).sum().item() - closed) < 1e-12
    found = {name: closed for name in ("si", "fmm", "eulerian")}
    found |= {"fmm, forward": (weight * 2 * t * spread).sum().item(), "meanflow": carried.item()}
    found |= {"reflow": (weight * bend).sum().item(), **scflow_on_the_gaussian(), **steps_on_the_gaussian()}
    found["velocity_consistency"] = velocity_consistency_on_the_gaussian()
    found["contrastive"] = contrasted(closed, (1 + RATIO).sum().item())
    found["imeanflow"] = 2 * closed - found["fmm, forward"]  # s has density 2 (1 - s), where t has 2 t
    return found | {"scflow adversarial": math.log(2), "scflow discriminator": 2 * math.log(2)}


# The checkerboard -----------------------------------------------------------------------------------------


def grid(count: int, half: float) -> tuple[Tensor, float]:
    line = torch.linspace(-half, half, count, dtype=F64)
    return torch.cartesian_prod(line, line), (2 * half / (count - 1)) ** 2


def density(t: float, x: Tensor) -> Tensor:
    """The density of I_t, from the normal distribution function."""
    edges, normal = torch.tensor(EDGES, dtype=F64), torch.distributions.Normal(0.0, 1.0)
    bound = normal.cdf((x[..., None] - t * edges) / (DATA_SCALE * (1 - t)))
    mass = (bound[..., :-1] - bound[..., 1:]) / t
    return sum(mass[:, 0, i] * mass[:, 1, j] for i, j in FILLED) / (len(FILLED) * 0.25)


def conditional_variances() -> tuple[float, float]:
    """E|dI - b|^2 = 4/3 - E|b|^2 for t uniform, and for t of density 2 t, by quadrature over the plane."""
    node, weight = gauss_legendre(12)
    kept = []
    for t in node[:, 0].tolist():
        x, area = grid(151, 1 + 4 * DATA_SCALE * (1 - t) if t > 0.3 else 5 * DATA_SCALE)
        b = BOARD.velocity(torch.full((len(x),), t, dtype=F64), x)
        kept.append(4 / 3 - (density(t, x) * b.square().sum(1)).sum().item() * area)
    variance = vector(*kept)[:, None]
    return (weight * variance).sum().item(), (weight * 2 * node * variance).sum().item()


def meanflow_from_noise(t: float, substeps: int, count: int = 61) -> float:
    """MeanFlow's expected loss at s = 0 and one t, E|grad X_{0,t}|^2 / 3, on a quarter of a grid of ends.

    (x0, x1) are independent, so the variance of dI given I_0 is that of x1, 1/3 a coordinate.
    """
    y, area = grid(count, 1.3)
    above, left = y[:, 1] - y[:, 0], y[:, 1] + y[:, 0]
    share = (1 + above.sign()) * (1 + left.sign())  # four times, and half on the diagonals
    y, share = y[share > 0], share[share > 0]
    end, start = torch.full((len(y),), t, dtype=F64), torch.zeros(len(y), dtype=F64)
    back = CheckerboardMap(substeps=substeps)
    columns = [
        torch.func.jvp(lambda x: back.jump(end, start, x), (y,), (unit.expand_as(y),))[1]
        for unit in torch.eye(2, dtype=F64)
    ]
    forth = torch.linalg.pinv(torch.stack(columns, 2))
    return ((share * density(t, y) * forth.square().sum((1, 2))).sum() * area / 3).item()


# The objectives at the exact maps --------------------------------------------------------------------------


class ToData(FlowMap):
    """The velocity whose one Euler step from time s to 1 is the exact jump: SCFlow's exact f."""

    def __init__(self, exact: FlowMap):
        super().__init__()
        self.exact = exact

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        return self.exact.average_velocity(t, torch.ones_like(t), x)


def ends(flow: FlowMap, count: int, seed: int) -> tuple[Tensor, Tensor]:
    if flow is GAUSSIAN:
        return GAUSSIAN.sample(count, seeded(seed))
    noise = torch.randn(count, 2, generator=seeded(seed), dtype=F64)
    return DATA_SCALE * noise, checkerboard.sample(count, seeded(seed + 1)).double()


DIAGONAL = ("si", "reflow", "contrastive", "velocity_consistency")
REGIONS = dict.fromkeys(DIAGONAL, "diagonal") | {"fmm": "square", "eulerian": "square"}


def draw(name: str, flow: FlowMap, count: int, latest: float, seed: int) -> tuple[str, Batch]:
    """The objective of the page's row `name` and a batch from the row's law of times, cut at `latest`."""
    objective, _, region = name.partition(", ")
    uniform = torch.rand(4, count, generator=seeded(seed + 2), dtype=F64)
    s, t = Times(region or REGIONS.get(objective, "forward")).draw(uniform[:3])
    return objective, Batch(*ends(flow, count, seed), s * latest, t * latest, uniform[3])


def evaluate(name: str, flow: FlowMap, count: int, latest: float = 1.0, seed: int = 1) -> Tensor:
    """The objective in the page's row `name` at the exact map of `flow`, one value a sample."""
    objective, batch = draw(name, flow, count, latest, seed)
    options = OPTIONS.get(name, {})
    return bind(objective, options, flow if objective in TEACHERS else None)(flow, batch)


def velocity_residual(name: str, flow: FlowMap, count: int, latest: float = 1.0, seed: int = 1) -> Tensor:
    """|b_t(I_t) - dI_t|^2 on the batch of `evaluate`."""
    return bind("si", {}, None)(flow, draw(name, flow, count, latest, seed)[1])


def evaluate_scflow(flow: FlowMap, count: int, seed: int = 1) -> dict[str, Tensor]:
    """SCFlow's losses with `flow` as teacher and its exact f as student and target; D is 0, as at p = q."""
    z1, z0 = ends(flow, count, seed)
    t, u_down, u_up = torch.rand(3, count, generator=seeded(seed + 2), dtype=F64)
    student, z = Reversed(ToData(flow)), between(z0, z1, t)
    move = losses.moves(Reversed(flow), z, t, u_down, u_up, DELTA)
    predicted, one_step = student.f(z, t), student.f(z1, torch.ones_like(t))
    down, up = student.f(move.down, move.t_down), student.f(move.up, move.t_up)

    def critic(latents: Tensor, parts: int = 1) -> Tensor:
        return (0 * latents).sum(1)

    return {
        "scflow consistency": losses.truncated_consistency(predicted, z0, down, move.t_down, 0.0, HUBER),
        "scflow truncated": losses.truncated_consistency(predicted, z0, down, move.t_down, TRUNCATION, HUBER),
        "scflow bidirectional": losses.bidirectional_consistency(predicted, up, HUBER),
        "scflow reflow": losses.reflow(student, one_step, z1, t),
        "scflow adversarial": losses.adversarial(critic, one_step),
        "scflow discriminator": losses.discriminator(critic, z0, one_step, 1.0).detach(),
    }
