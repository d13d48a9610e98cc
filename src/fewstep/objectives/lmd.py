r"""Lagrangian map distillation (arXiv 2406.07507, Cor. 3.7), and AYF-LMD (arXiv 2506.14603).

$$ |\partial_t X_{s,t}(I_s) - b_t(X_{s,t}(I_s))|^2 $$
"""

from typing import Literal

from torch import Tensor

from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch
from .common import one_of, squared_norm

Gradient = Literal["full", "semi", "value"]


def lmd(student: FlowMap, batch: Batch, teacher: Velocity, gradient: Gradient = "full") -> Tensor:
    """|d/dt X_{s,t}(I_s) - b_t(X_{s,t}(I_s))|^2, shape (batch,).

    The end of each jump must move as the teacher says that a particle there moves. `gradient` is "full";
    "semi", which detaches the teacher's input; or "value", Align Your Flow's, which stops all but v_{s,t} in
    d/dt X_{s,t} = v_{s,t} + (t - s) d/dt v_{s,t}.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((lmd(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    one_of("gradient", gradient, Gradient)
    start = batch.at(batch.s).point
    jump = student.jump_dt(batch.s, batch.t, start)
    where = jump.point if gradient == "full" else jump.point.detach()
    residual = jump.tangent - teacher.velocity(batch.t, where)
    if gradient == "value":
        v = student.average_velocity(batch.s, batch.t, start)
        residual = v - (v - residual).detach()
    return squared_norm(residual)
