"""What each sample of a term counts: by its own residual, or by a weight of (s, t) that is learned beside."""

import torch
from torch import Tensor

from ...networks.loss_weight import LossWeight
from ..job import Job
from ..state import State
from .update import add_network

LOSS_WEIGHT = "loss_weight"


def adaptive(residual: Tensor, power: float, offset: float) -> Tensor:
    """r sg[1 / (r + offset)^power], (batch,), for residuals r, squared norms (arXiv 2505.13447).

    At power 1 its gradient is that of log(r + offset): it does not depend on the scale of large residuals.
    """
    return residual * (residual.detach() + offset) ** -power


def learned(residual: Tensor, w: Tensor) -> Tensor:
    """e^-w r + w, (batch,), least at w = log r for a constant r (arXiv 2505.18825)."""
    return torch.exp(-w) * residual + w


def start(job: Job, state: State) -> None:
    """Add the weight's network to the state of a run that has not begun, if its method asks for one."""
    if job.method.learned_weight:
        add_network(job, state, LOSS_WEIGHT, LossWeight)
