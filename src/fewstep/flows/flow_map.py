"""Flow maps: X_{s,t}(x) = x + (t - s) v_{s,t}(x)  (Flow Map Matching, arXiv 2406.07507, Eq. 4.1).

X_{s,t} carries a point of the probability flow from time s to time t. The form makes X_{s,s}(x) = x hold
by construction, and its diagonal v_{t,t} is the velocity b_t of the flow, so a teacher is a flow map too.
Times have shape (batch,), points (batch, ...).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .interpolants import per_sample


@dataclass(frozen=True)
class Jump:
    """A jump X_{s,t}(x) and its derivative along a direction of (s, t, x); both (batch, ...)."""

    point: Tensor
    tangent: Tensor


class Velocity(Protocol):
    """What an objective may ask of a velocity teacher: b_t(x)."""

    def velocity(self, t: Tensor, x: Tensor) -> Tensor: ...


class FlowMap(nn.Module):
    """The parameterisation. A subclass gives `average_velocity`; everything else follows from it."""

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x), (batch, ...)."""
        raise NotImplementedError(f"{type(self).__name__} must define average_velocity(s, t, x)")

    def average_velocity_pushforward(
        self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor
    ) -> tuple[Tensor, Tensor]:
        """v_{s,t}(x) and its derivative along (ds, dt, dx), from one forward-mode pass."""
        return torch.func.jvp(self.average_velocity, (s, t, x), (ds, dt, dx))

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """The diagonal: b_t(x) = v_{t,t}(x)."""
        return self.average_velocity(t, t, x)

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """X_{s,t}(x)."""
        return x + per_sample(t - s, x) * self.average_velocity(s, t, x)

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> Jump:
        """X_{s,t}(x) with its derivative along (ds, dt, dx):

        dX = dx + (dt - ds) v_{s,t}(x) + (t - s) dv.
        """
        v, dv = self.average_velocity_pushforward(s, t, x, ds, dt, dx)
        span = per_sample(t - s, x)
        return Jump(x + span * v, dx + per_sample(dt - ds, x) * v + span * dv)

    def jump_dt(self, s: Tensor, t: Tensor, x: Tensor) -> Jump:
        """X_{s,t}(x) and d/dt X_{s,t}(x), the Lagrangian derivative."""
        zero, one = torch.zeros_like(s), torch.ones_like(t)
        return self.pushforward(s, t, x, zero, one, torch.zeros_like(x))

    def jump_ds(self, s: Tensor, t: Tensor, x: Tensor) -> Jump:
        """X_{s,t}(x) and d/ds X_{s,t}(x) at fixed x."""
        one, zero = torch.ones_like(s), torch.zeros_like(t)
        return self.pushforward(s, t, x, one, zero, torch.zeros_like(x))

    def jump_along(self, s: Tensor, t: Tensor, x: Tensor, dx: Tensor) -> Jump:
        """X_{s,t}(x) and grad X_{s,t}(x) dx, the spatial derivative along `dx` (batch, ...)."""
        zero = torch.zeros_like(s)
        return self.pushforward(s, t, x, zero, zero, dx)

    def jump_following(self, s: Tensor, t: Tensor, x: Tensor, dx: Tensor) -> Jump:
        """X_{s,t}(x) and d/ds X + grad X dx, the Eulerian derivative, in one pass with tangents (1, dx)."""
        one, zero = torch.ones_like(s), torch.zeros_like(t)
        return self.pushforward(s, t, x, one, zero, dx)


class NetworkFlowMap(FlowMap):
    """A flow map whose v_{s,t} is a network called as network(s, t, x).

    A network that offers `pushforward(s, t, x, ds, dt, dx) -> (v, dv)` has it used in place of torch.func.jvp.
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.network(s, t, x)

    def average_velocity_pushforward(
        self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor
    ) -> tuple[Tensor, Tensor]:
        own = getattr(self.network, "pushforward", None)
        if own is None:
            return super().average_velocity_pushforward(s, t, x, ds, dt, dx)
        return own(s, t, x, ds, dt, dx)


class EulerMap(FlowMap):
    """One Euler step of a velocity as a (crude) flow map: X_{s,t}(x) = x + (t - s) b_s(x).

    It is right to second order in t - s, which is what progressive distillation starts from.
    """

    def __init__(self, velocity: FlowMap):
        super().__init__()
        self.base = velocity

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.base.velocity(s, x)
