r"""Consistency training (arXiv 2303.01469), with steps that shorten as in ECT (arXiv 2406.14548).

$$ d(v_{s,t}(I_s) - \mathrm{sg}[h \tfrac{I_u-I_s}{u-s} + (1-h)\, v_{u,t}(I_u)]) / h, \quad u = s + h(t-s) $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch, per_sample
from .common import Halvings, Step, discrete_residual, shortened


def consistency_training(
    student: FlowMap, batch: Batch, stopped: FlowMap | None = None, h: Step = 0.5, halvings: Halvings = 7,
    c: float = 0.0,
) -> Tensor:  # fmt: skip
    """The loss above, `discrete_consistency` with I_u for the teacher's step from I_s, shape (batch,).

    It has the gradient of `meanflow` as h -> 0, and at h = 1 regresses v_{s,t} on the interpolant's chord.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((consistency_training(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8))) < 1e-6).all())
    True
    """
    h, frozen = shortened(h, halvings, batch.progress), student if stopped is None else stopped
    path, span = batch.at(batch.s), per_sample(h * (batch.t - batch.s), batch.x0)
    moved = batch.at(batch.s + h * (batch.t - batch.s)).point - path.point
    chord = torch.where(span == 0, path.velocity, moved / span.where(span != 0, torch.ones_like(span)))
    return discrete_residual(student, frozen, batch, chord, h, c)
