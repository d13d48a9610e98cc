"""Rectified flow: a velocity that is straight between noise and what a teacher makes of it."""

from __future__ import annotations

import torch
from torch import Tensor

from ..flows.conditioning import first
from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch, per_sample
from .common import squared_norm


def reflow(student: FlowMap, batch: Batch, teacher: Velocity, steps: int = 8, times: int = 1) -> Tensor:
    """|v_{s,s}((1 - s) x0 + s y) - (y - x0)|^2, y = the teacher's Euler solution from x0 in `steps` steps, shape (batch,).

    Rectified flow (arXiv 2209.03003), linear between the coupled ends whatever the batch's interpolant. With s uniform the
    minimiser is the 2-rectified flow; with s = 0 alone it is the distillation of the teacher into one step. Each y serves
    `times` samples of the batch, which differ in s; the batch's own data are not used. Zero, sample by sample, when
    student and teacher are the same exact straight flow. Raises ValueError unless `times` divides the batch.
    """
    count = len(batch.x0)
    if steps < 1 or times < 1 or count % times:
        raise ValueError(
            f"reflow needs steps and times of 1 or more, and times ({times}) that divide its share of a batch ({count})"
        )
    # with several samples a solution, those of one text too come round after round
    teacher, student = (first(flow_map, count // times) for flow_map in (teacher, student))
    with torch.no_grad():
        x0 = y = batch.x0[: count // times]
        for k in range(steps):
            y = y + teacher.velocity(torch.full_like(batch.s[: len(y)], k / steps), y) / steps
        x0, y = (torch.cat([end] * times) for end in (x0, y))
    s = per_sample(batch.s, x0)
    return squared_norm(student.velocity(batch.s, (1 - s) * x0 + s * y) - (y - x0))
