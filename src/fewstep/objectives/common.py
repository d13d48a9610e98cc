"""What objectives share."""

from typing import Annotated, Any, Literal, get_args

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch, per_sample

# what settings can be, numbers with the least and the largest; the schema of params.yaml reads signatures
Gradient = Literal["full", "semi"]
Solver = Literal["heun", "euler"]
Share = Annotated[float, 0, 1]
Step = Annotated[float, 1e-6, 1]  # a step in time, which losses divide by
Count = Annotated[int, 1, 1000]
Halvings = Annotated[int, 0, 20]


def squared_norm(residual: Tensor) -> Tensor:
    """|r|^2 summed over everything but the batch: (batch, ...) -> (batch,)."""
    return residual.square().flatten(1).sum(1)


def distance(residual: Tensor, c: float) -> Tensor:
    """The pseudo-Huber distance sqrt(|r|^2 + c^2) - c, and at c = 0 |r|^2: (batch, ...) -> (batch,)."""
    squared = squared_norm(residual)
    return (squared + c * c).sqrt() - c if c else squared


def laplace_kernel(a: Tensor, b: Tensor, c: float) -> Tensor:
    """exp(-|a - b| / (c D)), D the number of dimensions: (batch, ...) -> (batch,)."""
    return torch.exp(-torch.linalg.vector_norm((a - b).flatten(1), dim=1) / (c * a[0].numel()))


def stopped_jump(flow_map: FlowMap, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
    """X_{s,t}(x) with the weights stopped and x not: the gradient goes through the map and not into it."""
    weights = {name: value.detach() for name, value in flow_map.named_parameters()}
    jump: Tensor = torch.func.functional_call(flow_map, weights, (s, t, x))
    return jump


def consistency_residual(
    student: FlowMap,
    batch: Batch,
    start: Tensor,
    drift: Tensor,
    velocity: Tensor,
    normalise: float = 0.0,
    warmup: float = 0.0,
) -> Tensor:
    """|v_{s,t}(x) - sg[velocity + w (t - s) (d/ds + drift . grad) v_{s,t}(x)]|^2 at x = `start`, (batch,).

    w = 1, or min(1, progress / `warmup`). At a `normalise` c above 0 the residual r, stopped, is divided by
    |r| + c, so that no sample weighs more than another: |v - sg(v - r / (|r| + c))|^2.
    """
    within("warmup", warmup, Share)
    one, zero = torch.ones_like(batch.s), torch.zeros_like(batch.t)
    v, dv = student.average_velocity_pushforward(batch.s, batch.t, start, one, zero, drift)
    if warmup:
        dv = min(1.0, batch.progress / warmup) * dv
    target = (velocity + per_sample(batch.t - batch.s, start) * dv).detach()
    if normalise:
        r = v.detach() - target
        target = v.detach() - r / per_sample(squared_norm(r).sqrt() + normalise, r)
    return squared_norm(v - target)


def shortened(h: float, halvings: int, progress: float) -> float:
    """The step `h` halved as often as `progress` asks, `halvings` times in all, at equal intervals."""
    within("h", h, Step)
    within("halvings", halvings, Halvings)
    return float(h / 2 ** min(int(progress * (halvings + 1)), halvings))


def discrete_residual(
    student: FlowMap, frozen: FlowMap, batch: Batch, phi: Tensor, h: float, c: float
) -> Tensor:
    """d(v_{s,t}(I_s) - sg[h phi + (1 - h) v_{u,t}(I_s + (u - s) phi)]) / h, u = s + h (t - s), (batch,)."""
    start, step = batch.at(batch.s).point, h * (batch.t - batch.s)
    with torch.no_grad():
        rest = frozen.average_velocity(batch.s + step, batch.t, start + per_sample(step, start) * phi)
        target = h * phi + (1 - h) * rest
    return distance(student.average_velocity(batch.s, batch.t, start) - target, c) / h


def one_of(name: str, value: str, choices: Any) -> None:
    """Raise ValueError unless `value` is one of `choices`, which are a Literal."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, not '{value}'")


def within(name: str, value: float, limits: Any) -> None:
    """Raise ValueError unless `value` lies within `limits`, which are `Share`, `Step` or the like."""
    _, least, most = get_args(limits)
    if not least <= value <= most:
        raise ValueError(f"{name} must be a number from {least:g} to {most:g}, not {value:g}")
