r"""Progressive flow map matching: one jump matches several of a teacher map (arXiv 2406.07507, PFMM).

$$ |X_{s,t}(I_s) - (Y_{t_{K-1},t} \circ \dots \circ Y_{s,t_1})(I_s)|^2 $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def pfmm(student: FlowMap, batch: Batch, teacher: FlowMap, jumps: int = 2) -> Tensor:
    """|X_{s,t}(I_s) - (Y_{t_{K-1},t} o ... o Y_{s,t_1})(I_s)|^2, shape (batch,).

    Y is the teacher *map*, good for short jumps, K = `jumps` and t_k = s + (k / K) (t - s). Raises ValueError
    for less than one jump.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((pfmm(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    if jumps < 1:
        raise ValueError(f"jumps must be at least 1, not {jumps}")
    start = batch.at(batch.s).point
    with torch.no_grad():
        target, span = start, (batch.t - batch.s) / jumps
        for k in range(jumps):
            target = teacher.jump(batch.s + k * span, batch.s + (k + 1) * span, target)
    return squared_norm(student.jump(batch.s, batch.t, start) - target)
