r"""The direct Eulerian estimator, without a teacher (arXiv 2406.07507, Eulerian form of Prop. 3.11).

$$ |\nabla X_{s,t}(X_{t,s}(I_t))\, \partial_t X_{t,s}(I_t) + \dot I_t|^2 $$
"""

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def eulerian(student: FlowMap, batch: Batch, invertibility: float = 0.0) -> Tensor:
    """|grad X_{s,t}(X_{t,s}(I_t)) d_t X_{t,s}(I_t) + dI_t/dt|^2, shape (batch,).

    d_t X_{t,s}(I_t) is in the *start* time t at a fixed point, -grad X_{t,s} b_t, so that the product is
    -b_t(I_t). `invertibility` weighs FMM's second term |X_{s,t}(X_{t,s}(I_t)) - I_t|^2.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((eulerian(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    path = batch.at(batch.t)
    back = student.jump_ds(batch.t, batch.s, path.point)
    there = student.jump_along(batch.s, batch.t, back.point, back.tangent)
    moves, returns = squared_norm(there.tangent + path.velocity), squared_norm(there.point - path.point)
    return moves + invertibility * returns
