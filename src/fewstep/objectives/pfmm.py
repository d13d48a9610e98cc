"""Progressive flow map matching: one jump of the student matches several of a teacher map."""

from __future__ import annotations

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def pfmm(student: FlowMap, batch: Batch, teacher: FlowMap, jumps: int = 2) -> Tensor:
    """|X_{s,t}(I_s) - (Y_{t_{K-1},t} o ... o Y_{s,t_1})(I_s)|^2, shape (batch,)  (arXiv 2406.07507, PFMM).

    Y is the teacher *map*, good for short jumps, K = `jumps`, and t_k = s + (k / K) (t - s). Zero, sample by
    sample, when student and teacher are the same exact flow map.
    """
    if jumps < 1:
        raise ValueError(f"jumps must be at least 1, not {jumps}")
    start = batch.at(batch.s).point
    with torch.no_grad():
        target, span = start, (batch.t - batch.s) / jumps
        for k in range(jumps):
            target = teacher.jump(batch.s + k * span, batch.s + (k + 1) * span, target)
    return squared_norm(student.jump(batch.s, batch.t, start) - target)
