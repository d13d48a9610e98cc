"""Progressive self-distillation: one jump matches two of its own."""

from __future__ import annotations

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch, per_sample
from .common import one_of, squared_norm


def psd(student: FlowMap, batch: Batch, stopped: FlowMap | None = None, split: str = "midpoint") -> Tensor:
    """|v_{s,t}(I_s) - sg[(1 - g) v_{s,u}(I_s) + g v_{u,t}(X_{s,u}(I_s))]|^2, u = g s + (1 - g) t, shape (batch,).

    arXiv 2505.18825, PSD. `split` is "midpoint" (PSD-M, g = 1/2) or "uniform" (PSD-U, g ~ U(0, 1), taken from
    `batch.g`). The bracket is the average velocity of the two jumps, so this is a PFMM residual divided by
    (t - s)^2, with the student as its own teacher. `stopped` is the map read under sg; the student when None.
    """
    one_of("split", split, ("midpoint", "uniform"))
    s, t = batch.s, batch.t
    g = torch.full_like(s, 0.5) if split == "midpoint" else batch.g
    u = g * s + (1 - g) * t
    start, frozen = batch.at(s).point, student if stopped is None else stopped
    with torch.no_grad():
        first = frozen.average_velocity(s, u, start)
        second = frozen.average_velocity(u, t, start + per_sample(u - s, start) * first)
        target = per_sample(1 - g, start) * first + per_sample(g, start) * second
    return squared_norm(student.average_velocity(s, t, start) - target)
