r"""Lagrangian self-distillation (arXiv 2505.18825, LSD).

$$ |\partial_t X_{s,t}(I_s) - \mathrm{sg}\, v_{t,t}(X_{s,t}(I_s))|^2 $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def lsd(student: FlowMap, batch: Batch, stopped: FlowMap | None = None) -> Tensor:
    """|d/dt X_{s,t}(I_s) - sg v_{t,t}(X_{s,t}(I_s))|^2, shape (batch,).

    LMD with the student's own diagonal as its teacher; off the diagonal, beside `si` on it. `stopped` is the
    map read under sg, the student itself when None.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((lsd(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    jump = student.jump_dt(batch.s, batch.t, batch.at(batch.s).point)
    frozen = student if stopped is None else stopped
    with torch.no_grad():
        b = frozen.velocity(batch.t, jump.point)
    return squared_norm(jump.tangent - b)
