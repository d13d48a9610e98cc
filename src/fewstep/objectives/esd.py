"""Eulerian self-distillation."""

from __future__ import annotations

from torch import Tensor

from ..flow_map import FlowMap
from ..interpolants import Batch
from .emd import emd


def esd(student: FlowMap, batch: Batch) -> Tensor:
    """|d/ds X_{s,t}(I_s) + sg(grad X_{s,t}(I_s) v_{s,s}(I_s))|^2, shape (batch,)  (arXiv 2505.18825, ESD).

    EMD's semigradient with the student's own diagonal as its teacher. Used off the diagonal, beside the
    velocity loss `si` on it.
    """
    return emd(student, batch, student, gradient="semi")
