"""Flow maps: X_{s,t}(x) = x + (t - s) v_{s,t}(x)  (Flow Map Matching, arXiv 2406.07507, Eq. 4.1).

X_{s,t} carries a point of the flow from time s to time t; its diagonal v_{t,t} is the velocity b_t, so that a
teacher is a flow map too. Times have shape (batch,), points (batch, ...).
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from .interpolants import per_sample

LEAST_REST = 0.05  # what 1 - s is held above where a prediction of data is divided by it


@dataclass(frozen=True)
class Jump:
    """A jump X_{s,t}(x) and its derivative along a direction of (s, t, x); both (batch, ...)."""

    point: Tensor
    tangent: Tensor


class Velocity(Protocol):
    """What an objective may ask of a velocity teacher: b_t(x)."""

    def velocity(self, t: Tensor, x: Tensor) -> Tensor: ...


class FlowMap(nn.Module):
    """The parameterisation. A subclass gives `average_velocity`; everything else follows from it.

    >>> class Decay(FlowMap):  # dx/dt = -x, so X_{s,t}(x) = x exp(s - t)
    ...     def average_velocity(self, s, t, x):
    ...         return x * (torch.expm1(s - t) / (t - s))[:, None]
    >>> jump = Decay().jump_dt(torch.zeros(1), torch.ones(1), torch.ones(1, 1))
    >>> jump.point, jump.tangent
    (tensor([[0.3679]]), tensor([[-0.3679]]))
    """

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x), (batch, ...)."""
        raise NotImplementedError(f"{type(self).__name__} must define average_velocity(s, t, x)")

    def average_velocity_pushforward(
        self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor
    ) -> tuple[Tensor, Tensor]:
        """v_{s,t}(x) and its derivative along (ds, dt, dx), from one forward-mode pass."""
        return torch.func.jvp(self.average_velocity, (s, t, x), (ds, dt, dx))  # type: ignore[return-value]

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        """The diagonal: b_t(x) = v_{t,t}(x)."""
        return self.average_velocity(t, t, x)

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """X_{s,t}(x)."""
        return x + per_sample(t - s, x) * self.average_velocity(s, t, x)

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """X_{s,t}(x): what torch.func.functional_call calls with other weights."""
        return self.jump(s, t, x)

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> Jump:
        """X_{s,t}(x) with its derivative along (ds, dt, dx), dX = dx + (dt - ds) v_{s,t}(x) + (t - s) dv."""
        v, dv = self.average_velocity_pushforward(s, t, x, ds, dt, dx)
        span = per_sample(t - s, x)
        return Jump(x + span * v, dx + per_sample(dt - ds, x) * v + span * dv)

    def jump_dt(self, s: Tensor, t: Tensor, x: Tensor) -> Jump:
        """X_{s,t}(x) and d/dt X_{s,t}(x), the Lagrangian derivative."""
        return self.pushforward(s, t, x, torch.zeros_like(s), torch.ones_like(t), torch.zeros_like(x))

    def jump_ds(self, s: Tensor, t: Tensor, x: Tensor) -> Jump:
        """X_{s,t}(x) and d/ds X_{s,t}(x) at fixed x."""
        return self.jump_following(s, t, x, torch.zeros_like(x))

    def jump_along(self, s: Tensor, t: Tensor, x: Tensor, dx: Tensor) -> Jump:
        """X_{s,t}(x) and grad X_{s,t}(x) dx, the spatial derivative along `dx` (batch, ...)."""
        return self.pushforward(s, t, x, torch.zeros_like(s), torch.zeros_like(t), dx)

    def jump_following(self, s: Tensor, t: Tensor, x: Tensor, dx: Tensor) -> Jump:
        """X_{s,t}(x) and d/ds X + grad X dx, the Eulerian derivative, in one pass with tangents (1, dx)."""
        return self.pushforward(s, t, x, torch.ones_like(s), torch.zeros_like(t), dx)


class NetworkFlowMap(FlowMap):
    """A flow map whose v_{s,t} is a network called as network(s, t, x).

    Where the network has `pushforward(s, t, x, ds, dt, dx) -> (v, dv)`, it takes torch.func.jvp's place.

    >>> network = MLP((2,), width=16, depth=2, activation="silu", frequencies=[1], time_frequencies=[1])
    >>> NetworkFlowMap(network).jump(torch.zeros(8), torch.ones(8), torch.randn(8, 2)).shape
    torch.Size([8, 2])
    """

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        v: Tensor = self.network(s, t, x)
        return v

    def average_velocity_pushforward(
        self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor
    ) -> tuple[Tensor, Tensor]:
        own = getattr(self.network, "pushforward", super().average_velocity_pushforward)
        v, dv = own(s, t, x, ds, dt, dx)
        return v, dv


class DataPredictionFlowMap(NetworkFlowMap):
    """A flow map whose network predicts data g_{s,t}(x): v_{s,t}(x) = (g_{s,t}(x) - x) / max(1 - s, 0.05).

    Up to s = 0.95, X_{s,t}(x) = ((1 - t) x + (t - s) g_{s,t}(x)) / (1 - s): the parameterisation of
    consistency trajectory models (arXiv 2310.02279), and of pixel MeanFlow (arXiv 2601.22158).

    >>> flow = DataPredictionFlowMap(lambda s, t, x: torch.ones_like(x))
    >>> flow.jump(torch.zeros(1), torch.ones(1) / 2, torch.zeros(1, 2))
    tensor([[0.5000, 0.5000]])
    """

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        v: Tensor = (self.network(s, t, x) - x) / per_sample((1 - s).clamp(min=LEAST_REST), x)
        return v

    def average_velocity_pushforward(
        self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor
    ) -> tuple[Tensor, Tensor]:
        g, dg = NetworkFlowMap(self.network).average_velocity_pushforward(s, t, x, ds, dt, dx)
        rest = per_sample((1 - s).clamp(min=LEAST_REST), x)
        v, shrinks = (g - x) / rest, torch.where(1 - s > LEAST_REST, ds, torch.zeros_like(ds))
        return v, (dg - dx + per_sample(shrinks, x) * v) / rest


class EulerMap(FlowMap):
    """One Euler step of a velocity as a (crude) flow map: X_{s,t}(x) = x + (t - s) b_s(x).

    Right to second order in t - s: what progressive distillation starts from.

    >>> flow = EulerMap(StraightFlow(torch.eye(2), torch.ones(2)))
    >>> flow.jump(torch.zeros(1), torch.ones(1), torch.zeros(1, 2))
    tensor([[1., 1.]])
    """

    def __init__(self, velocity: Velocity):
        super().__init__()
        self.base = velocity

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.base.velocity(s, x)


class HeunMap(FlowMap):
    """One Heun step of a velocity as a flow map: v_{s,t}(x) = (b_s(x) + b_t(x + (t - s) b_s(x))) / 2.

    Right to third order in t - s.

    >>> flow = HeunMap(StraightFlow(torch.eye(2), torch.ones(2)))
    >>> flow.jump(torch.zeros(1), torch.ones(1), torch.zeros(1, 2))
    tensor([[1., 1.]])
    """

    def __init__(self, velocity: Velocity):
        super().__init__()
        self.base = velocity

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        first = self.base.velocity(s, x)
        return (first + self.base.velocity(t, x + per_sample(t - s, x) * first)) / 2
