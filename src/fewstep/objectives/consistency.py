r"""Consistency distillation in continuous time (arXiv 2406.07507, special cases).

$$ |v_{s,t}(I_s) - \mathrm{sg}[b_s(I_s) + (t-s)(\partial_s + b_s(I_s) \cdot \nabla) v_{s,t}(I_s)]|^2 $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch, per_sample
from .common import squared_norm


def consistency_residual(student: FlowMap, batch: Batch, start: Tensor, drift: Tensor) -> Tensor:
    """|v_{s,t}(x) - sg[drift + (t - s) (d/ds + drift . grad) v_{s,t}(x)]|^2 at x = `start`, (batch,)."""
    one, zero = torch.ones_like(batch.s), torch.zeros_like(batch.t)
    v, dv = student.average_velocity_pushforward(batch.s, batch.t, start, one, zero, drift)
    return squared_norm(v - (drift + per_sample(batch.t - batch.s, start) * dv).detach())


def consistency(student: FlowMap, batch: Batch, teacher: Velocity) -> Tensor:
    """The residual above with the teacher's velocity, drift = b_s(I_s), shape (batch,).

    Its gradient is that of |X_{s,t}(x_s) - sg X_{s+h,t}(x_s + h b_s)|^2 / (h (t - s)) as h -> 0: EMD with all
    but v_{s,t} stopped. With t = 1 throughout it trains a consistency model.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((consistency(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    start = batch.at(batch.s).point
    with torch.no_grad():
        drift = teacher.velocity(batch.s, start)
    return consistency_residual(student, batch, start, drift)
