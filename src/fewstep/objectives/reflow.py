r"""Rectified flow: a velocity that is straight from noise to a sample of the teacher (arXiv 2209.03003).

$$ |v_{s,s}((1-s)x_0 + sy) - (y - x_0)|^2, \quad y = \text{the Euler solution of the teacher from } x_0 $$
"""

import torch
from torch import Tensor

from ..flows.conditioning import first
from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch, per_sample
from .common import squared_norm


def reflow(student: FlowMap, batch: Batch, teacher: Velocity, steps: int = 8, times: int = 1) -> Tensor:
    """|v_{s,s}((1 - s) x0 + s y) - (y - x0)|^2, y the teacher's Euler solution in `steps` steps, (batch,).

    Linear whatever the batch's interpolant; its data are not used. With s uniform the minimiser is the
    2-rectified flow, with s = 0 the teacher distilled into one step. Each y serves `times` samples of the
    batch, which differ in s. Raises ValueError unless `times` divides the batch.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((reflow(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    count = len(batch.x0)
    if steps < 1 or times < 1 or count % times:
        needed = f"steps ({steps}) and times ({times}) of 1 or more, times that divide its share of a batch"
        raise ValueError(f"reflow needs {needed} ({count})")
    # of a batch's captions, those of one round
    student, teacher = first(student, count // times), first(teacher, count // times)
    with torch.no_grad():
        x0 = y = batch.x0[: count // times]
        for k in range(steps):
            y = y + teacher.velocity(torch.full_like(batch.s[: len(y)], k / steps), y) / steps
        x0, y = (torch.cat([end] * times) for end in (x0, y))
    s = per_sample(batch.s, x0)
    return squared_norm(student.velocity(batch.s, (1 - s) * x0 + s * y) - (y - x0))
