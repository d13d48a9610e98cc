r"""Improved MeanFlow: MeanFlow along the network's own velocity (arXiv 2512.02012).

$$ |v_{s,t}(I_s) - \dot I_s - (t-s)\, \mathrm{sg}[(\partial_s + v_{s,s}(I_s) \cdot \nabla) v_{s,t}(I_s)]|^2 $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import consistency_residual


def imeanflow(student: FlowMap, batch: Batch) -> Tensor:
    """|v_{s,t}(I_s) - dI_s - (t - s) sg[(d/ds + v_{s,s} . grad) v_{s,t}(I_s)]|^2, v_{s,s} at I_s, (batch,).

    MeanFlow whose derivative follows v_{s,s}, stopped, and not dI_s: at the exact map the residual is that of
    the velocity loss `si` at time s, whatever t, and its value says how far the map is from it.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((imeanflow(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    path = batch.at(batch.s)
    with torch.no_grad():
        own = student.velocity(batch.s, path.point)
    return consistency_residual(student, batch, path.point, own, path.velocity)
