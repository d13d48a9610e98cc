"""The one training loop. It knows terms, not methods: what is minimised comes in from params.yaml.

A run is cut into slices. Each slice starts from the state on disk and leaves a new state, so a run that is
killed goes on from its last slice and ends with the same bits, and several seeds share two cores evenly.
"""

from __future__ import annotations

import time
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Sequence

import torch
from torch import Tensor

from . import data, networks, objectives
from .checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint, write_atomically
from .experiments import Compute, Method, Optimiser, Training
from .fingerprint import fingerprint
from .flow_map import EulerMap, FlowMap
from .interpolants import INTERPOLANTS, Batch
from .parallel import one_thread, pool
from .progress import Progress

SLICES = 12


@dataclass(frozen=True)
class Job:
    """One network to train: settings, seed, the teacher's weights file if any, and where its state is kept."""

    training: Training
    method: Method
    seed: int
    state: Path
    teacher: Path | None = None
    device: str = "cpu"

    def fingerprint(self) -> str:
        """What the result depends on; a state on disk with another fingerprint is of another run."""
        teacher = load_checkpoint(self.teacher)[1]["fingerprint"] if self.teacher else None
        shared = self.training.model_dump(exclude={"seeds"})
        named = [f"{objectives.__name__}.{term.objective}" for term in self.method.terms]
        return fingerprint([shared, self.method.model_dump(exclude={"label"}), self.seed, teacher], [__name__, *named])


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
        own = self.optimiser.state_dict()
        for name, value in under("optimiser.").items():
            index, _, buffer = name.partition(".")
            own["state"].setdefault(int(index), {})[buffer] = value
        self.optimiser.load_state_dict(own)
        self.generator.set_state(tensors["generator"].cpu())
        self.log.copy_(tensors["log"])
        self.step = step


def build(training: Training, seed: int) -> FlowMap:
    """A fresh flow map with the experiment's network, its weights drawn from `seed` and nothing else."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return networks.build(training.network.model_dump(), data.load(training.data).shape)


def load_flow_map(path: Path, device: str = "cpu") -> FlowMap:
    """The trained flow map stored in `path`; raises CheckpointError when the file is absent, damaged or foreign."""
    tensors, info = load_checkpoint(Path(path))
    if "network" not in info:
        raise CheckpointError(f"{path} is no trained flow map: its header names no network")
    flow_map = networks.build(info["network"], tuple(info["shape"]))
    load_weights(flow_map, {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}, Path(path))
    return flow_map.to(device).requires_grad_(False).eval()


def draw_batch(training: Training, term_times: Sequence, sizes: Sequence[int], progress: float, generator: torch.Generator) -> Batch:
    """One batch: noise, data, and for each term its share of the time pairs."""
    source, interpolant = data.load(training.data), INTERPOLANTS[training.interpolant]
    device, count = generator.device, sum(sizes)
    x1 = source.sample(count, generator)
    x0 = torch.randn(x1.shape, generator=generator, device=device) * source.scale
    uniform = torch.rand(4, count, generator=generator, device=device)
    z = torch.randn(x1.shape, generator=generator, device=device) if interpolant.noisy else None
    pairs = [times.draw(u, progress) for times, u in zip(term_times, uniform[:3].split(list(sizes), 1))]
    s, t = (torch.cat(end) for end in zip(*pairs))
    return Batch(x0, x1, s, t, uniform[3], interpolant, z)


def rate(settings: Optimiser, step: int, steps: int) -> float:
    """The step size at `step`: a linear warm-up, then a cosine down to zero."""
    warm = settings.warmup * steps
    if step < warm:
        return settings.rate * (step + 1) / (warm + 1)
    through = (step - warm) / max(steps - warm, 1)
    return settings.rate * 0.5 * float(1 + torch.cos(torch.tensor(torch.pi * through, dtype=torch.float64)))


def _start(job: Job, teacher: FlowMap | None) -> State:
    student = build(job.training, job.seed).to(job.device)
    if job.method.start == "teacher":
        student.load_state_dict(teacher.state_dict())
    average = build(job.training, job.seed).to(job.device)
    average.load_state_dict(student.state_dict())
    stage = build(job.training, job.seed).to(job.device).requires_grad_(False) if job.method.teacher_as == "stages" else None
    # fused: one pass over the weights, several times faster on the CPU than the loop over tensors
    optimiser = torch.optim.Adam(student.parameters(), lr=job.training.optimiser.rate, betas=(0.9, 0.99), fused=True)
    generator = torch.Generator(job.device).manual_seed(job.seed)
    return State(student, average.requires_grad_(False), optimiser, generator, torch.zeros(job.method.steps, 2), 0, stage)


class _Loop:
    """The part of a run that does not change: bound objectives, their shares and times, and the teacher."""

    def __init__(self, job: Job, state: State, teacher: FlowMap | None):
        self.job, self.state, self.teacher = job, state, teacher
        self.terms, batch = job.method.terms, job.training.batch
        self.sizes = [round(term.share * batch) for term in self.terms[:-1]]
        self.sizes.append(batch - sum(self.sizes))
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
        self.residuals = [objectives.bind(term.objective, term.options, teacher) for term in self.terms]
        self.stage_bound = stage

    def _first_step(self, stage: int) -> int:
        steps = self.job.method.steps
        return next(k for k in range(steps + 1) if min(int(k / steps * (self.doublings + 1)), self.doublings) == stage)

    def step(self) -> None:
        """One optimisation step."""
        job, state, settings = self.job, self.state, self.job.training.optimiser
        progress = state.step / job.method.steps
        self.bind(progress)
        batch = draw_batch(job.training, self.times, self.sizes, progress, state.generator)
        loss, start = 0.0, 0
        for residual, size in zip(self.residuals, self.sizes):
            loss = loss + residual(state.student, batch.part(start, start + size)).sum()
            start += size
        loss = loss / start
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.weights, settings.clip)
        for group in state.optimiser.param_groups:
            group["lr"] = rate(settings, state.step, job.method.steps)
        state.optimiser.step()
        # A young average would remember the initial weights: its memory grows with the run.
        keep = min(settings.average, (1 + state.step) / (10 + state.step))
        torch._foreach_lerp_(self.means, self.weights, 1 - keep)
        state.log[state.step, 0], state.log[state.step, 1] = loss.detach(), norm
        state.step += 1


def _slices(steps: int) -> list[int]:
    """The steps after which a run stores its state: every twelfth, and at least every 5,000."""
    size = min(-(-steps // SLICES), 5000)
    return [*range(size, steps, size), steps]


def _marker(state: Path) -> Path:
    return state.with_suffix(".step")


def advance(job: Job, mark: str, until: int, tick: Callable[[int], None] | None = None) -> int:
    """Bring a run from its state on disk, or from nothing, to step `until`; store it and return the step.

    `mark` is the job's fingerprint. `tick(step)` is called about once a second; without it the step goes to a
    small file beside the state, for the process that waits. Raises CheckpointError for a damaged state.
    """
    with one_thread():
        teacher = load_flow_map(job.teacher, job.device) if job.teacher else None
        state = _start(job, teacher)
        if job.state.exists():
            tensors, info = load_checkpoint(job.state)
            if info["fingerprint"] != mark:
                raise CheckpointError(f"{job.state} belongs to another run (fingerprint {info['fingerprint']}, not {mark}): delete it")
            state.restore(tensors, info["step"], job.state)
        loop, said = _Loop(job, state, teacher), time.monotonic()
        while state.step < until:
            loop.step()
            if time.monotonic() - said > 1:
                said = time.monotonic()
                tick(state.step) if tick else write_atomically(_marker(job.state), str(state.step).encode())
        if not torch.isfinite(state.log[: state.step, 0]).all():
            raise FloatingPointError(f"the training of {job.state.stem} diverged: its loss is not finite; lower optimiser.rate")
        save_checkpoint(job.state, state.tensors(), {"fingerprint": mark, "step": state.step})
    return state.step


def _reached(job: Job) -> int:
    """The step at which the run on disk stands, by its latest state or its progress marker."""
    try:
        return int(_marker(job.state).read_text())
    except (FileNotFoundError, ValueError):
        return 0


def train_all(jobs: Sequence[Job], compute: Compute, label: str) -> None:
    """Train every job to its end, at most `compute.workers` at a time, going on from the states on disk.

    The seeds advance in turn, a slice at a time, so that three of them keep two cores busy to the end.
    """
    marks = [job.fingerprint() for job in jobs]
    total = sum(job.method.steps for job in jobs)
    with Progress(total, label) as bar:
        if compute.workers == 1 or len(jobs) == 1 or compute.device == "cuda":
            before = 0
            for job, mark in zip(jobs, marks):
                for until in _slices(job.method.steps):
                    advance(job, mark, until, lambda step, base=before: bar.update(base + step))
                    bar.update(before + until)
                before += job.method.steps
            return
        with pool(min(compute.workers, len(jobs))) as executor:
            todo = {k: _slices(job.method.steps) for k, job in enumerate(jobs)}
            running: dict = {}
            while todo or running:
                # the seeds that have most left go first
                idle = sorted((k for k in todo if k not in running.values()), key=lambda k: -len(todo[k]))
                for k in idle[: compute.workers - len(running)]:
                    running[executor.submit(advance, jobs[k], marks[k], todo[k][0])] = k
                finished, _ = wait(running, timeout=1.0, return_when=FIRST_COMPLETED)
                for future in finished:
                    k = running.pop(future)
                    write_atomically(_marker(jobs[k].state), str(future.result()).encode())
                    todo[k] = todo[k][1:]
                    if not todo[k]:
                        del todo[k]
                bar.update(sum(_reached(job) for job in jobs))


def publish(job: Job, path: Path) -> None:
    """Write the finished run's averaged weights and its log to `path`: what the rest of the pipeline reads."""
    tensors, info = load_checkpoint(job.state)
    if info["step"] != job.method.steps:
        raise CheckpointError(f"{job.state} stands at step {info['step']} of {job.method.steps}: finish the training first")
    weights = {f"weights.{k.removeprefix('average.')}": v for k, v in tensors.items() if k.startswith("average.")}
    log = {"log.loss": tensors["log"][:, 0], "log.gradient_norm": tensors["log"][:, 1]}
    described = {
        "fingerprint": info["fingerprint"],
        "network": job.training.network.model_dump(),
        "shape": list(data.load(job.training.data).shape),
        "data": job.training.data,
        "seed": job.seed,
        "steps": job.method.steps,
        "drawn": job.method.steps * job.training.batch,
    }
    save_checkpoint(path, weights | log, described)
