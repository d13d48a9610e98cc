r"""Inductive moment matching, for pairs of samples y, y' (arXiv 2503.07565, with M = 2).

$$ k(y, y') + k(z, z') - k(y, z') - k(y', z), \quad y = X_{s,t}(I_s), \ z = \mathrm{sg} X_{r,t}(I_r) $$
"""

from typing import Annotated

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import Step, laplace_kernel, within

Width = Annotated[float, 1e-6, 1_000_000]
GROUP = 2


def imm(
    student: FlowMap, batch: Batch, stopped: FlowMap | None = None, h: Step = 0.1, c: Width = 1.0
) -> Tensor:
    """The loss above, r = s + h (t - s), k(y, z) = exp(-|y - z| / (c D)), D dimensions, shape (batch,).

    Samples n and n + batch/2 are a pair: they share (s, t), of the first, and its statistic, an unbiased
    estimate of MMD^2 which can be negative. Unweighted; IMM's own c follows the times. `stopped` is the map
    under sg, the student itself when None. Raises ValueError for an odd batch.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((imm(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))).abs() < 1e-6).all())
    True
    """
    within("h", h, Step)
    within("c", c, Width)
    if len(batch.x0) % GROUP:
        raise ValueError(f"imm compares samples in pairs, and was given {len(batch.x0)}: give an even number")
    s, t = (time[: len(time) // 2].repeat(2) for time in (batch.s, batch.t))
    r, frozen = s + h * (t - s), student if stopped is None else stopped
    y, other = student.jump(s, t, batch.at(s).point).chunk(2)
    with torch.no_grad():
        z, another = frozen.jump(r, t, batch.at(r).point).chunk(2)
    near, far = laplace_kernel(y, other, c), laplace_kernel(y, another, c) + laplace_kernel(other, z, c)
    return (near + laplace_kernel(z, another, c) - far).repeat(2)
