"""Stochastic interpolant / flow matching: the velocity on the diagonal."""

from __future__ import annotations

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch
from .common import squared_norm


def si(student: FlowMap, batch: Batch) -> Tensor:
    """|v_{t,t}(I_t) - dI_t/dt|^2, shape (batch,); `batch.s` is not used.

    Its minimiser is b_t(x) = E[dI_t/dt | I_t = x] (Flow Map Matching, arXiv 2406.07507, section 2). The
    residual is noisy: at the minimiser its conditional mean is zero, not its value.
    """
    path = batch.at(batch.t)
    return squared_norm(student.velocity(batch.t, path.point) - path.velocity)
