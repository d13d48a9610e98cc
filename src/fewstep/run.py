"""The one training loop, for one network. It knows terms, not methods: what is minimised comes from params.yaml.

`advance` starts from the state on disk and leaves a new one, so a run that is killed goes on from its last state
and ends with the same bits.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Sequence

import torch
from torch import Tensor

from . import data, networks, objectives, optimisers, precision
from .checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from .files import write_atomically
from .experiments import Method, Network, Optimiser, Training
from .fingerprint import fingerprint
from .flow_map import EulerMap, FlowMap
from .interpolants import INTERPOLANTS, Batch
from .parallel import one_thread
from .several import Processes
from .times import Times
from .trained import load_flow_map

# Modules that read settings and name files: they decide no number but through the settings, which count by value
SETTINGS = tuple(f"{__package__}.{name}" for name in ("experiments", "study", "workspace"))


@dataclass(frozen=True)
class Job:
    """One network to train: settings, seed, the teacher's weights file if any, and where its state is kept."""

    training: Training
    method: Method
    seed: int
    state: Path
    teacher: Path | None = None
    device: str = "cpu"

    @property
    def network(self) -> Network:
        """The method's own network, or the one that the methods share."""
        return self.method.network or self.training.network

    @property
    def optimiser(self) -> Optimiser:
        """The method's own optimiser, or the one that the methods share."""
        return self.method.optimiser or self.training.optimiser

    def fresh(self) -> FlowMap:
        """An untrained flow map, its weights drawn from the seed and nothing else."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            built = networks.build(self.network.model_dump(), data.load(self.training.data).shape).to(self.device)
        return precision.prepared(built, self.training)

    @property
    def modules(self) -> list[str]:
        """The modules that train it: this one, and those that the settings name."""
        named = [f"{objectives.__name__}.{term.objective}" for term in self.method.terms]
        return [__name__, *named, f"{data.__name__}.{self.training.data}", f"{networks.__name__}.{self.network.kind}"]

    def fingerprint(self) -> str:
        """What the result depends on; a state on disk with another fingerprint is of another run."""
        teacher = load_checkpoint(self.teacher)[1]["fingerprint"] if self.teacher else None
        # without what is not said: a setting that is added later, and not used, changes nothing
        shared = self.training.model_dump(exclude={"seeds"}, exclude_none=True)
        own = self.method.model_dump(exclude={"label"}, exclude_none=True)
        return fingerprint([shared, own, self.seed, teacher], self.modules, SETTINGS)


@dataclass
class State:
    """Everything that changes while a run trains, and so everything that a checkpoint holds."""

    student: FlowMap
    average: FlowMap
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    log: Tensor  # (steps, 2): the loss and the norm of its gradient
    step: int = 0
    stage: FlowMap | None = field(default=None)  # the map that stands in for the teacher in a staged run

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors."""
        named = {f"student.{k}": v for k, v in self.student.state_dict().items()}
        named |= {f"average.{k}": v for k, v in self.average.state_dict().items()}
        if self.stage is not None:
            named |= {f"stage.{k}": v for k, v in self.stage.state_dict().items()}
        for k, buffers in self.optimiser.state_dict()["state"].items():
            named |= {f"optimiser.{k}.{name}": value for name, value in buffers.items()}
        return named | {"generator": self.generator.get_state(), "log": self.log}

    def restore(self, tensors: dict[str, Tensor], step: int, path: Path) -> None:
        """Take everything back from `tensors`, as it was after `step` steps."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        load_weights(self.student, under("student."), path)
        load_weights(self.average, under("average."), path)
        if stage := under("stage."):
            load_weights(self.stage, stage, path)
        own, weights = self.optimiser.state_dict(), list(self.student.parameters())
        for name, value in under("optimiser.").items():
            index, _, buffer = name.partition(".")
            like = weights[int(index)]
            # in the weight's layout, which a file does not keep and the fused Adam takes for granted
            own["state"].setdefault(int(index), {})[buffer] = torch.empty_like(like).copy_(value) if value.shape == like.shape else value
        self.optimiser.load_state_dict(own)
        self.generator.set_state(tensors["generator"].cpu())
        self.log.copy_(tensors["log"])
        self.step = step


def draw_batch(training: Training, term_times: Sequence[Times], sizes: Sequence[int], progress: float, generator: torch.Generator) -> Batch:
    """One batch: noise, data, and for each term its share of the time pairs."""
    source, interpolant = data.load(training.data), INTERPOLANTS[training.interpolant]
    device, count = generator.device, sum(sizes)
    x1 = source.sample(count, generator)
    x0 = torch.randn(x1.shape, generator=generator, device=device) * source.scale
    uniform = torch.rand(4, count, generator=generator, device=device)
    z = torch.randn(x1.shape, generator=generator, device=device) if interpolant.noisy else None
    pairs = [times.draw(u, progress) for times, u in zip(term_times, uniform[:3].split(list(sizes), 1))]
    s, t = (torch.cat(end) for end in zip(*pairs))
    x0, x1, z = (x if x is None else precision.laid_out(x, training) for x in (x0, x1, z))
    return Batch(x0, x1, s, t, uniform[3], interpolant, z)


def rate(settings: Optimiser, step: int, steps: int) -> float:
    """The step size at `step` of `steps`: a linear warm-up, then a straight line down to zero, or

    rate / sqrt(max(step / hold, 1)) (arXiv 2505.18825).
    """
    warm = settings.warmup * steps
    if step < warm:
        return settings.rate * (step + 1) / (warm + 1)
    if settings.schedule == "inverse_sqrt":
        return settings.rate / max(step / settings.hold, 1.0) ** 0.5
    return settings.rate * (steps - step) / (steps - warm)


def memory(settings: Optimiser, step: int, steps: int) -> float:
    """How much of the averaged weights is kept at `step`: a horizon of `average * steps` steps.

    A young average would remember the initial weights, so its horizon grows with the run.
    """
    horizon = max(settings.average * steps, 1.0)
    return min(1 - 1 / horizon, (1 + step) / (10 + step))


def _start(job: Job, teacher: FlowMap | None) -> State:
    student = job.fresh()
    if job.method.start == "teacher":
        student.load_state_dict(teacher.state_dict())
    average = job.fresh()
    average.load_state_dict(student.state_dict())
    stage = job.fresh().requires_grad_(False) if job.method.teacher_as == "stages" else None
    settings = job.optimiser
    optimiser = optimisers.build(settings.kind, student.parameters(), settings.rate)
    generator = torch.Generator(job.device).manual_seed(job.seed)
    return State(student, average.requires_grad_(False), optimiser, generator, torch.zeros(job.method.steps, 2), 0, stage)


class _Loop:
    """The part of a run that does not change: bound objectives, their shares and times, and the teacher."""

    def __init__(self, job: Job, state: State, teacher: FlowMap | None, processes: Processes):
        self.job, self.state, self.teacher, self.processes = job, state, teacher, processes
        self.terms, batch = job.method.terms, job.training.batch
        self.sizes = [round(term.share * batch) for term in self.terms[:-1]]
        self.sizes.append(batch - sum(self.sizes))
        if max(self.sizes) < processes.count:
            raise ValueError(f"{processes.count} processes cannot share the samples of a batch of {batch}: lower compute.processes")
        self.times = [term.times.build() for term in self.terms]
        self.weights = list(state.student.parameters())
        self.means = list(state.average.parameters())
        self.doublings = max(times.doublings for times in self.times)
        self.stage_bound = -1
        self.residuals: list = []

    def bind(self, progress: float) -> None:
        """Bind the objectives to their teacher, which a staged run replaces by the student as it goes."""
        stage = min(int(progress * (self.doublings + 1)), self.doublings) if self.job.method.teacher_as == "stages" else 0
        if stage == self.stage_bound:
            return
        fresh = stage > 0 and self.state.step == self._first_step(stage)
        if fresh:
            self.state.stage.load_state_dict(self.state.average.state_dict())
        teacher = self.teacher
        if self.job.method.teacher_as != "velocity":
            teacher = EulerMap(self.teacher) if stage == 0 else self.state.stage
        stopped = self.state.average if self.job.method.stopped == "average" else None
        self.residuals = [objectives.bind(term.objective, term.options, teacher, stopped) for term in self.terms]
        self.stage_bound = stage

    def _first_step(self, stage: int) -> int:
        steps = self.job.method.steps
        return next(k for k in range(steps + 1) if min(int(k / steps * (self.doublings + 1)), self.doublings) == stage)

    def step(self) -> None:
        """One optimisation step."""
        job, state, settings = self.job, self.state, self.job.optimiser
        progress = state.step / job.method.steps
        self.bind(progress)
        batch = draw_batch(job.training, self.times, self.sizes, progress, state.generator)
        loss, start = 0.0, 0
        with precision.evaluating(job.training, job.device):
            for term, residual, size in zip(self.terms, self.residuals, self.sizes):
                first, stop = self.processes.share(start, size)
                if first < stop:
                    loss = loss + term.weight * residual(state.student, batch.part(first, stop)).sum()
                start += size
        loss = loss / start
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.processes.sum(loss.detach(), self.weights)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, settings.clip)
        for group in state.optimiser.param_groups:
            group["lr"] = rate(settings, state.step, job.method.steps)
        state.optimiser.step()
        keep = memory(settings, state.step, job.method.steps)
        torch._foreach_lerp_(self.means, self.weights, 1 - keep)
        state.log[state.step, 0], state.log[state.step, 1] = loss, norm
        state.step += 1


def marker(state: Path) -> Path:
    """The small file beside a state that says how far its run has come."""
    return state.with_suffix(".step")


def advance(job: Job, mark: str, until: int, tick: Callable[[int], None] | None = None, processes: Processes = Processes()) -> int:
    """Bring a run from its state on disk, or from nothing, to step `until`; store it and return the step.

    `mark` is the job's fingerprint. `tick(step)` is called about once a second; without it the step goes to a
    small file beside the state, for the process that waits. Several `processes` that train one network each call it
    alike, and the main one stores. Raises CheckpointError for a damaged state.
    """
    with one_thread(), precision.products(job.training):
        teacher = precision.prepared(load_flow_map(job.teacher, job.device), job.training) if job.teacher else None
        state = _start(job, teacher)
        if job.state.exists():
            tensors, info = load_checkpoint(job.state)
            if info["fingerprint"] != mark:
                raise CheckpointError(f"{job.state} belongs to another run (fingerprint {info['fingerprint']}, not {mark}): delete it")
            state.restore(tensors, info["step"], job.state)
        loop, said = _Loop(job, state, teacher, processes), time.monotonic()
        while state.step < until:
            loop.step()
            if processes.is_main and time.monotonic() - said > 1:
                said = time.monotonic()
                tick(state.step) if tick else write_atomically(marker(job.state), str(state.step).encode())
        if not torch.isfinite(state.log[: state.step, 0]).all():
            raise FloatingPointError(f"the training of {job.state.stem} diverged: its loss is not finite; lower optimiser.rate")
        if processes.is_main:
            save_checkpoint(job.state, state.tensors(), {"fingerprint": mark, "step": state.step})
        processes.wait()
    return state.step


