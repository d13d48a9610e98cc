r"""Contrastive flow matching: away from the velocities of other samples (arXiv 2506.05350).

$$ |v_{t,t}(I_t) - \dot I_t|^2 - \lambda |v_{t,t}(I_t) - \dot I'_t|^2, \quad I' \text{ of another sample} $$
"""

from dataclasses import replace
from typing import Annotated

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm, within

Repulsion = Annotated[float, 0, 0.99]  # at 1 nothing holds the velocity


def contrastive(student: FlowMap, batch: Batch, weight: Repulsion = 0.05) -> Tensor:
    """|v_{t,t}(I_t) - dI_t|^2 - weight |v_{t,t}(I_t) - dI'_t|^2, I' of the sample before, shape (batch,).

    By definition negative for some samples, and below zero in the mean where `weight` outweighs the velocity
    loss. The minimiser is (b_t - weight E[dI_t]) / (1 - weight), not b_t; captions are not looked at.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((contrastive(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))).abs() < 1e-6).all())
    True
    """
    within("weight", weight, Repulsion)
    path, z = batch.at(batch.t), None if batch.z is None else batch.z.roll(1, 0)
    other = replace(batch, x0=batch.x0.roll(1, 0), x1=batch.x1.roll(1, 0), z=z).at(batch.t).velocity
    v = student.velocity(batch.t, path.point)
    return squared_norm(v - path.velocity) - weight * squared_norm(v - other)
