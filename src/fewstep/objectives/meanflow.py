r"""Consistency training in continuous time, also known as MeanFlow (arXiv 2505.13447).

$$ |v_{s,t}(I_s) - \mathrm{sg}[\dot I_s + (t-s)(\partial_s + \dot I_s \cdot \nabla) v_{s,t}(I_s)]|^2 $$
"""

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import Share, consistency_residual


def meanflow(student: FlowMap, batch: Batch, normalise: float = 0.0, warmup: Share = 0.0) -> Tensor:
    """|v_{s,t}(I_s) - sg[dI_s + (t - s) (d/ds + dI_s . grad) v_{s,t}(I_s)]|^2, dI_s = dI_s/ds, (batch,).

    `consistency` with dI_s for b_s, its conditional mean; at s = t the velocity loss `si`. `normalise` and
    `warmup` are those of `consistency`; normalised noise has mean zero only where it is symmetric.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((meanflow(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    path = batch.at(batch.s)
    return consistency_residual(student, batch, path.point, path.velocity, path.velocity, normalise, warmup)
