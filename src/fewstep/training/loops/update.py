"""What both loops share: how a run starts, the student's update, its learning rate and its EMA."""

import torch
from torch import Tensor

from ...flows.flow_map import FlowMap
from ...settings.training import Optimiser
from .. import optimisers
from ..job import Job
from ..processes import Processes
from ..state import EMA, LOSS, NORM, STUDENT, State


def learning_rate(settings: Optimiser, step: int, steps: int) -> float:
    """The learning rate at `step` of `steps`: a linear warm-up, then as `schedule` says.

    A straight line to zero, lr / sqrt(max(step / decay_after, 1)) (arXiv 2505.18825), or a constant.
    """
    warm = settings.warmup * steps
    if step < warm:
        return settings.lr * (step + 1) / (warm + 1)
    if settings.schedule == "constant":
        return settings.lr
    if settings.schedule == "inverse_sqrt":
        return settings.lr / max(step / settings.decay_after, 1.0) ** 0.5
    return settings.lr * (steps - step) / (steps - warm)


def ema_decay(settings: Optimiser, step: int, steps: int) -> float:
    """The decay of the EMA at `step`: a horizon of `ema * steps` steps, growing while the run is young."""
    horizon = max(settings.ema * steps, 1.0)
    return min(1 - 1 / horizon, (1 + step) / (10 + step))


def initial_state(job: Job, start: FlowMap | None, columns: tuple[str, ...] = (LOSS, NORM)) -> State:
    """A student with the weights of `start`, or fresh ones, its EMA, and its optimiser."""
    student, ema = job.fresh(), job.fresh()
    if start is not None:
        student.load_state_dict(start.state_dict())
    ema.load_state_dict(student.state_dict())
    own, parameters = job.optimiser, student.parameters()
    optimiser = optimisers.build(own.kind, parameters, own.lr, own.weight_decay or 0.0)
    generator = torch.Generator(job.device).manual_seed(job.seed)
    log = torch.zeros(job.method.steps, len(columns))
    return State(
        {STUDENT: student, EMA: ema.requires_grad_(False)}, {STUDENT: optimiser}, generator, log, columns
    )


def update_student(job: Job, state: State, processes: Processes, loss: Tensor) -> dict[str, Tensor]:
    """One step of the student down the gradient of `loss`, a scalar, and of its EMA.

    Returns the loss over all processes, and the gradient's norm before clipping, by the log's columns.
    """
    settings, optimiser, at = job.optimiser, state.optimisers[STUDENT], (state.step, job.method.steps)
    weights, ema = state.weights[STUDENT], state.weights[EMA]
    optimiser.zero_grad(set_to_none=True)
    loss.backward()
    loss = processes.sum(loss.detach(), weights)
    norm = torch.nn.utils.clip_grad_norm_(weights, settings.clip_norm)
    for group in optimiser.param_groups:
        group["lr"] = learning_rate(settings, *at)
    optimiser.step()
    torch._foreach_lerp_(ema, weights, 1 - ema_decay(settings, *at))
    return {LOSS: loss, NORM: norm}
