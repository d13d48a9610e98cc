"""The direct Eulerian estimator: the Eulerian equation without a teacher."""

from __future__ import annotations

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def eulerian(student: FlowMap, batch: Batch, invertibility: float = 0.0) -> Tensor:
    """|grad X_{s,t}(X_{t,s}(I_t)) d_t X_{t,s}(I_t) + dI_t/dt|^2, shape (batch,).

    Flow Map Matching, arXiv 2406.07507, the Eulerian counterpart of Prop. 3.11. In d_t X_{t,s}(I_t) the
    derivative is in the *start* time t, at a fixed point: by the Eulerian equation it equals
    -grad X_{t,s} b_t, and the chain rule on X_{s,t}(X_{t,s}(x)) = x turns the product into -b_t(I_t).
    `invertibility` adds that weight times FMM's |X_{s,t}(X_{t,s}(I_t)) - I_t|^2.
    """
    path = batch.at(batch.t)
    back = student.jump_ds(batch.t, batch.s, path.point)
    there = student.jump_along(batch.s, batch.t, back.point, back.tangent)
    residual = squared_norm(there.tangent + path.velocity)
    if invertibility:
        residual = residual + invertibility * squared_norm(there.point - path.point)
    return residual
