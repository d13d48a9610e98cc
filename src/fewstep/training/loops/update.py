"""What the loops share: how a run starts, the student's update, its learning rate and its EMA."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

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


def add_network(job: Job, state: State, name: str, make: Callable[[], nn.Module]) -> None:
    """Add a network that learns beside the student, by the same optimiser settings, drawn from the seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(job.seed)
        network = make().to(job.device)
    own = job.optimiser
    optimiser = optimisers.build(own.kind, network.parameters(), own.lr, own.weight_decay or 0.0)
    state.networks[name], state.optimisers[name] = network, optimiser


def update_student(
    job: Job,
    state: State,
    processes: Processes,
    loss: Tensor,
    shown: Tensor | None = None,
    beside: Sequence[str] = (),
) -> dict[str, Tensor]:
    """One step of the student down the gradient of `loss`, a scalar, and of its EMA.

    Networks `beside` it learn from the same loss, each with a norm of its own to clip. Returns what is logged
    by column: the loss, or `shown` in its place, over all processes, and the norm of the student's gradient
    before clipping.
    """
    settings, at, learning = job.optimiser, (state.step, job.method.steps), (STUDENT, *beside)
    weights, ema = state.weights[STUDENT], state.weights[EMA]
    for name in learning:
        state.optimisers[name].zero_grad(set_to_none=True)
    loss.backward()
    shown = (loss if shown is None else shown).detach()
    shown = processes.sum(shown, [weight for name in learning for weight in state.weights[name]])
    norms = [torch.nn.utils.clip_grad_norm_(state.weights[name], settings.clip_norm) for name in learning]
    for name in learning:
        for group in state.optimisers[name].param_groups:
            group["lr"] = learning_rate(settings, *at)
        state.optimisers[name].step()
    torch._foreach_lerp_(ema, weights, 1 - ema_decay(settings, *at))
    return {LOSS: shown, NORM: norms[0]}
