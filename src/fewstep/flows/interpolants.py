"""Interpolants between noise and data: I_t = alpha_t x0 + beta_t x1 + gamma_t z.

Noise x0 sits at time 0 and data x1 at time 1, so alpha_0 = beta_1 = 1 and alpha_1 = beta_0 =
gamma_0 = gamma_1 = 0 (Flow Map Matching, arXiv 2406.07507, section 2).
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import pi

import torch
from torch import Tensor


def per_sample(value: Tensor, like: Tensor) -> Tensor:
    """Shape a (batch,) tensor so that it multiplies `like`, of shape (batch, ...), sample by sample."""
    return value.reshape(value.shape + (1,) * (like.ndim - value.ndim))


@dataclass(frozen=True)
class Coefficients:
    """alpha, beta, gamma and their time derivatives, each of shape (batch,)."""

    alpha: Tensor
    beta: Tensor
    gamma: Tensor
    d_alpha: Tensor
    d_beta: Tensor
    d_gamma: Tensor


@dataclass(frozen=True)
class PathPoint:
    """A point of the interpolant and its velocity: I_t and dI_t/dt, both of shape (batch, ...)."""

    point: Tensor
    velocity: Tensor


@dataclass(frozen=True)
class Interpolant:
    """A named schedule: LINEAR, TRIGONOMETRIC or, with a gamma_t, STOCHASTIC.

    `coefficients(t)` takes times in [0, 1] of shape (batch,); `noisy` says whether gamma is not zero.

    >>> LINEAR.at(torch.tensor([0.5]), x0=torch.zeros(1, 2), x1=torch.ones(1, 2))
    PathPoint(point=tensor([[0.5000, 0.5000]]), velocity=tensor([[1., 1.]]))
    """

    name: str
    coefficients: Callable[[Tensor], Coefficients]
    noisy: bool = False

    def at(self, t: Tensor, x0: Tensor, x1: Tensor, z: Tensor | None = None) -> PathPoint:
        """I_t and dI_t/dt for times `t` (batch,), noise `x0`, data `x1` and latent noise `z` (batch, ...).

        Raises ValueError when the schedule has a gamma_t and no `z` is given.
        """
        c = self.coefficients(t)
        point = per_sample(c.alpha, x0) * x0 + per_sample(c.beta, x1) * x1
        velocity = per_sample(c.d_alpha, x0) * x0 + per_sample(c.d_beta, x1) * x1
        if self.noisy:
            if z is None:
                raise ValueError(
                    f"the interpolant '{self.name}' has a gamma_t: pass z, drawn from N(0, 1), with x0 and x1"
                )
            point = point + per_sample(c.gamma, z) * z
            velocity = velocity + per_sample(c.d_gamma, z) * z
        return PathPoint(point, velocity)


def _linear(t: Tensor) -> Coefficients:
    one, zero = torch.ones_like(t), torch.zeros_like(t)
    return Coefficients(1 - t, t, zero, -one, one, zero)


def _trigonometric(t: Tensor) -> Coefficients:
    angle, zero = t * (pi / 2), torch.zeros_like(t)
    cos, sin = torch.cos(angle), torch.sin(angle)
    return Coefficients(cos, sin, zero, -sin * (pi / 2), cos * (pi / 2), zero)


def _stochastic(t: Tensor) -> Coefficients:
    # its derivative vanishes at both ends, where that of sqrt(t (1 - t)) is infinite
    one = torch.ones_like(t)
    gamma, d_gamma = torch.sin(pi * t) ** 2 / 2, torch.sin(2 * pi * t) * (pi / 2)
    return Coefficients(1 - t, t, gamma, -one, one, d_gamma)


LINEAR = Interpolant("linear", _linear)
TRIGONOMETRIC = Interpolant("trigonometric", _trigonometric)
STOCHASTIC = Interpolant("stochastic", _stochastic, noisy=True)

INTERPOLANTS = {i.name: i for i in (LINEAR, TRIGONOMETRIC, STOCHASTIC)}


@dataclass(frozen=True)
class Batch:
    """Everything random in one training step; an objective is a pure function of it.

    x0, x1  noise and data, (batch, ...)
    s, t    start and end times in [0, 1], (batch,)
    g       a uniform number in [0, 1] for objectives that need a time between s and t, (batch,)
    z       latent noise of the interpolant, (batch, ...), or None
    progress  the share of training that is done, in [0, 1]

    >>> batch = Batch(torch.randn(8, 2), torch.ones(8, 2), s=torch.zeros(8), t=torch.rand(8), g=torch.rand(8))
    >>> batch.at(batch.t).point.shape
    torch.Size([8, 2])
    """

    x0: Tensor
    x1: Tensor
    s: Tensor
    t: Tensor
    g: Tensor
    interpolant: Interpolant = LINEAR
    z: Tensor | None = None
    progress: float = 1.0

    def at(self, time: Tensor) -> PathPoint:
        """I and dI/dt of this batch's couple (x0, x1) at `time` (batch,)."""
        return self.interpolant.at(time, self.x0, self.x1, self.z)

    def part(self, start: int, stop: int) -> "Batch":
        """The samples start..stop-1 as a batch of their own."""
        cut = slice(start, stop)
        z = None if self.z is None else self.z[cut]
        times = (self.s[cut], self.t[cut], self.g[cut])
        return Batch(self.x0[cut], self.x1[cut], *times, self.interpolant, z, self.progress)
