"""Consistency training in continuous time, also known as MeanFlow."""

from __future__ import annotations

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .consistency import consistency_residual


def meanflow(student: FlowMap, batch: Batch) -> Tensor:
    """Continuous-time consistency with the interpolant's own velocity, drift = dI_s/ds, shape (batch,).

    |v_{s,t}(I_s) - sg[dI_s + (t - s) (d/ds + dI_s . grad) v_{s,t}(I_s)]|^2: `consistency` with b_s replaced by
    dI_s, whose conditional mean it is. Needs no teacher; at s = t it is the velocity loss `si`.
    """
    path = batch.at(batch.s)
    return consistency_residual(student, batch, path.point, path.velocity)
