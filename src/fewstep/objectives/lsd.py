"""Lagrangian self-distillation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def lsd(student: FlowMap, batch: Batch, stopped: FlowMap | None = None) -> Tensor:
    """|d/dt X_{s,t}(I_s) - sg v_{t,t}(X_{s,t}(I_s))|^2, shape (batch,)  (arXiv 2505.18825, LSD).

    LMD with the student's own diagonal as its teacher, stopped (sg). Used off the diagonal, beside the velocity
    loss `si` on it. `stopped` is the map read under sg; the student itself when None.
    """
    jump = student.jump_dt(batch.s, batch.t, batch.at(batch.s).point)
    frozen = student if stopped is None else stopped
    with torch.no_grad():
        b = frozen.velocity(batch.t, jump.point)
    return squared_norm(jump.tangent - b)
