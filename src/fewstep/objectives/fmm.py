r"""Flow map matching: a flow map learned from data alone, without a teacher (arXiv 2406.07507, Prop. 3.11).

$$ |\partial_t X_{s,t}(X_{t,s}(I_t)) - \dot I_t|^2 + |X_{s,t}(X_{t,s}(I_t)) - I_t|^2 $$
"""

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def fmm(student: FlowMap, batch: Batch, invertibility: float = 1.0) -> Tensor:
    """|d/dt X_{s,t}(X_{t,s}(I_t)) - dI_t/dt|^2 + |X_{s,t}(X_{t,s}(I_t)) - I_t|^2, shape (batch,).

    A jump from t to s and back must end where it began (second term, times `invertibility`) and move as the
    interpolant does (first term; d/dt acts on the end time of the outer jump alone). (s, t) in [0, 1]^2.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((fmm(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    path = batch.at(batch.t)
    back = student.jump(batch.t, batch.s, path.point)
    there = student.jump_dt(batch.s, batch.t, back)
    moves, returns = squared_norm(there.tangent - path.velocity), squared_norm(there.point - path.point)
    return moves + invertibility * returns
