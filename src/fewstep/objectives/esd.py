r"""Eulerian self-distillation (arXiv 2505.18825, ESD).

$$ |\partial_s X_{s,t}(I_s) + \mathrm{sg}(\nabla X_{s,t}(I_s)\, v_{s,s}(I_s))|^2 $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import Gradient, one_of, squared_norm


def esd(
    student: FlowMap, batch: Batch, stopped: FlowMap | None = None, gradient: Gradient = "semi"
) -> Tensor:
    """|d/ds X_{s,t}(I_s) + sg(grad X_{s,t}(I_s) v_{s,s}(I_s))|^2, shape (batch,).

    EMD with the student's own diagonal as its teacher; off the diagonal, beside `si` on it. `stopped` is the
    map read under sg, the student itself when None. `gradient` "full" stops v_{s,s} alone.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((esd(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    one_of("gradient", gradient, Gradient)
    start, frozen = batch.at(batch.s).point, student if stopped is None else stopped
    with torch.no_grad():
        b = frozen.velocity(batch.s, start)
    if gradient == "full":
        return squared_norm(student.jump_following(batch.s, batch.t, start, b).tangent)
    with torch.no_grad():
        transport = frozen.jump_along(batch.s, batch.t, start, b).tangent
    return squared_norm(student.jump_ds(batch.s, batch.t, start).tangent + transport)
