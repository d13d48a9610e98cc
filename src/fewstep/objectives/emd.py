r"""Eulerian map distillation (arXiv 2406.07507, EMD).

$$ |\partial_s X_{s,t}(I_s) + \nabla X_{s,t}(I_s)\, b_s(I_s)|^2 $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch
from .common import Gradient, one_of, squared_norm


def emd(student: FlowMap, batch: Batch, teacher: Velocity, gradient: Gradient = "semi") -> Tensor:
    """|d/ds X_{s,t}(I_s) + grad X_{s,t}(I_s) b_s(I_s)|^2, shape (batch,).

    Where the flow lands must not depend on where along the trajectory one starts. `gradient` is "full", or
    "semi", which stops the transport term grad X b_s.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((emd(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    one_of("gradient", gradient, Gradient)
    start = batch.at(batch.s).point
    with torch.no_grad():
        b = teacher.velocity(batch.s, start)
    if gradient == "full":
        return squared_norm(student.jump_following(batch.s, batch.t, start, b).tangent)
    with torch.no_grad():
        transport = student.jump_along(batch.s, batch.t, start, b).tangent
    return squared_norm(student.jump_ds(batch.s, batch.t, start).tangent + transport)
