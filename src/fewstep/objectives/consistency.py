r"""Consistency distillation in continuous time (arXiv 2406.07507), and AYF-EMD (arXiv 2506.14603).

$$ |v_{s,t}(I_s) - \mathrm{sg}[b_s(I_s) + (t-s)(\partial_s + b_s(I_s) \cdot \nabla) v_{s,t}(I_s)]|^2 $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch
from .common import Share, consistency_residual


def consistency(
    student: FlowMap, batch: Batch, teacher: Velocity, normalise: float = 0.0, warmup: Share = 0.0
) -> Tensor:
    """|v_{s,t}(I_s) - sg[b_s + (t - s) (d/ds + b_s . grad) v_{s,t}(I_s)]|^2, b_s = b_s(I_s), shape (batch,).

    Its gradient is that of |X_{s,t}(x_s) - sg X_{s+h,t}(x_s + h b_s)|^2 / (h (t - s)) as h -> 0: EMD with all
    but v_{s,t} stopped. With t = 1 throughout it trains a consistency model. Align Your Flow normalises the
    residual r to r / (|r| + c), c = `normalise`, and lets (t - s) (...) grow from 0 over the share `warmup`.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((consistency(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    start = batch.at(batch.s).point
    with torch.no_grad():
        b = teacher.velocity(batch.s, start)
    return consistency_residual(student, batch, start, b, b, normalise, warmup)
