r"""Flow matching, or stochastic interpolant: the velocity on the diagonal (arXiv 2406.07507, section 2).

$$ |v_{t,t}(I_t) - \dot I_t|^2 $$
"""

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def si(student: FlowMap, batch: Batch) -> Tensor:
    """|v_{t,t}(I_t) - dI_t/dt|^2, shape (batch,); `batch.s` is not used.

    Its minimiser is b_t(x) = E[dI_t/dt | I_t = x], where the residual is a variance and not zero.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((si(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    path = batch.at(batch.t)
    return squared_norm(student.velocity(batch.t, path.point) - path.velocity)
