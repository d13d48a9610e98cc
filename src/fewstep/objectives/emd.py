"""Eulerian map distillation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch
from .common import one_of, squared_norm


def emd(student: FlowMap, batch: Batch, teacher: Velocity, gradient: str = "semi") -> Tensor:
    """|d/ds X_{s,t}(I_s) + grad X_{s,t}(I_s) b_s(I_s)|^2, shape (batch,)  (arXiv 2406.07507, EMD).

    Where the flow lands must not depend on where along the trajectory one starts. `gradient` is "full", or
    "semi": the transport term grad X b_s is held fixed (stop-gradient) and only d/ds X is learned from. Zero,
    sample by sample, at the teacher's flow map.
    """
    one_of("gradient", gradient, ("full", "semi"))
    start = batch.at(batch.s).point
    with torch.no_grad():
        b = teacher.velocity(batch.s, start)
    if gradient == "full":
        return squared_norm(student.jump_following(batch.s, batch.t, start, b).tangent)
    with torch.no_grad():
        transport = student.jump_along(batch.s, batch.t, start, b).tangent
    return squared_norm(student.jump_ds(batch.s, batch.t, start).tangent + transport)
