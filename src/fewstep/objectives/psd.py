r"""Progressive self-distillation: one jump matches two of its own (arXiv 2505.18825, PSD).

$$ |v_{s,t}(I_s) - \mathrm{sg}[(1-g)\, v_{s,u}(I_s) + g\, v_{u,t}(X_{s,u}(I_s))]|^2, \quad u = gs + (1-g)t $$
"""

from typing import Literal

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch, per_sample
from .common import one_of, squared_norm

Split = Literal["midpoint", "uniform"]


def psd(student: FlowMap, batch: Batch, stopped: FlowMap | None = None, split: Split = "midpoint") -> Tensor:
    """|v_{s,t}(I_s) - sg[(1 - g) v_{s,u}(I_s) + g v_{u,t}(X_{s,u}(I_s))]|^2, u = g s + (1 - g) t, (batch,).

    `split` is "midpoint" (PSD-M, g = 1/2) or "uniform" (PSD-U, g = `batch.g`). PFMM divided by (t - s)^2 with
    the student as its own teacher. `stopped` is the map read under sg, the student itself when None.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((psd(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    one_of("split", split, Split)
    s, t = batch.s, batch.t
    g = torch.full_like(s, 0.5) if split == "midpoint" else batch.g
    u = g * s + (1 - g) * t
    start, frozen = batch.at(s).point, student if stopped is None else stopped
    with torch.no_grad():
        first = frozen.average_velocity(s, u, start)
        second = frozen.average_velocity(u, t, start + per_sample(u - s, start) * first)
        target = per_sample(1 - g, start) * first + per_sample(g, start) * second
    return squared_norm(student.average_velocity(s, t, start) - target)
