r"""Lagrangian map distillation (arXiv 2406.07507, Cor. 3.7).

$$ |\partial_t X_{s,t}(I_s) - b_t(X_{s,t}(I_s))|^2 $$
"""

from torch import Tensor

from ..flows.flow_map import FlowMap, Velocity
from ..flows.interpolants import Batch
from .common import one_of, squared_norm


def lmd(student: FlowMap, batch: Batch, teacher: Velocity, gradient: str = "full") -> Tensor:
    """|d/dt X_{s,t}(I_s) - b_t(X_{s,t}(I_s))|^2, shape (batch,).

    The end of each jump must move as the teacher says that a particle there moves. `gradient` is "full", or
    "semi", which detaches the teacher's input.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((lmd(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    one_of("gradient", gradient, ("full", "semi"))
    jump = student.jump_dt(batch.s, batch.t, batch.at(batch.s).point)
    where = jump.point if gradient == "full" else jump.point.detach()
    return squared_norm(jump.tangent - teacher.velocity(batch.t, where))
