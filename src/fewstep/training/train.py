"""Train the methods of an experiment, every seed, on every core, resuming whatever is on disk.

A run is cut into slices, each from a stored state to the next, so that many runs share two cores evenly and a
killed one loses one slice at most.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass, replace
from functools import partial
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import networks
from ..data.formats.archives import folder_of
from ..settings.tiers import Compute
from ..storage.checkpoint import CheckpointError, check_weights, load_checkpoint, save_checkpoint, with_prefix
from ..storage.files import write_atomically
from ..storage.progress import Progress
from .experiment import Experiment
from .job import Job, advance, marker, read_state
from .pool import pool, spread
from .processes import Processes
from .published_weights import misfit
from .state import EMA, STUDENT
from .weights import load_log, weights_file, without_ema_file

SLICES = 12


@dataclass(frozen=True)
class Run:
    """One training among several; `after` are the places in the list of those that train its teachers."""

    steps: int
    # its job and fingerprint, which are known once its teachers' weights are there
    open: Callable[[], tuple[Job, str]]
    publish: Callable[[Job, str], object]
    after: tuple[int, ...] = ()


def _slices(steps: int) -> list[int]:
    """The steps after which a run stores its state: every twelfth of it, between 50 and 5,000 steps apart."""
    size = max(min(-(-steps // SLICES), 5000), 50)
    return [*range(size, steps, size), steps]


def _to_come(job: Job, mark: str) -> list[int]:
    """The slices that the state on disk has not reached; none for a finished run, which is left untouched."""
    done = read_state(job, mark)[1]["step"] if job.state.exists() else 0
    return [until for until in _slices(job.method.steps) if until > done]


def _reached(job: Job) -> int:
    """The step at which the run on disk stands, by its progress marker."""
    try:
        return int(marker(job.state).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0


def _advance(processes: Processes, turns: Sequence[tuple[Job, str, int]]) -> float:
    """In a process of a pool, or of several that train together: every job to its step; returns seconds."""
    started = time.monotonic()
    for job, mark, until in turns:
        advance(job, mark, until, processes=processes)
        if processes.is_main:
            write_atomically(marker(job.state), str(until).encode())
    return time.monotonic() - started


def _in_turn(runs: Sequence[Run], compute: Compute, bar: Progress) -> None:
    """One run after the other, in this process or by several that train it together."""
    before = 0
    for run in runs:
        job, mark = run.open()
        turns = [(job, mark, until) for until in _to_come(job, mark)]
        if turns and compute.processes > 1:
            watch = partial(lambda job, base: bar.update(base + _reached(job)), job, before)
            spread(_advance, (turns,), compute.processes, compute.device, watch)
        elif turns:
            for turn in turns:
                advance(*turn, lambda step, base=before: bar.update(base + step))
        run.publish(job, mark)
        before += run.steps
        bar.update(before)


class _Schedule:
    """Runs side by side, a slice at a time: which may go on, and how many seconds each still takes.

    A run's pace is what its last slice took a step; before its first, that of the slowest.
    """

    def __init__(self, runs: Sequence[Run]):
        self.runs = runs
        self.jobs: dict[int, tuple[Job, str]] = {}
        self.to_come: dict[int, list[int]] = {}
        self.pace: dict[int, float] = {}
        self.finished: set[int] = set()
        self.open()

    def open(self) -> None:
        """Open the runs whose teacher is there, and publish those with nothing left to do."""
        for k, run in enumerate(self.runs):
            if k not in self.jobs and self.finished.issuperset(run.after):
                self.jobs[k] = run.open()
                self.to_come[k] = _to_come(*self.jobs[k])
            if k in self.jobs and not self.to_come[k] and k not in self.finished:
                run.publish(*self.jobs[k])
                self.finished.add(k)

    def _steps(self, k: int) -> int:
        """The steps of the slices that run `k` has still before it."""
        slices = [0, *_slices(self.runs[k].steps)]
        return slices[-1] - slices[-1 - len(self.to_come.get(k, slices[1:]))]

    def left(self, k: int) -> float:
        """Seconds left of run `k` and of the longest chain that waits for it, which must start first."""
        chain = [self.left(other) for other, run in enumerate(self.runs) if k in run.after]
        pace = self.pace.get(k, max(self.pace.values(), default=1.0))
        return pace * self._steps(k) + max(chain, default=0.0)

    def advanced(self, k: int, seconds: float) -> None:
        """Take note that run `k` did its next slice in `seconds`."""
        before = self._steps(k)
        self.to_come[k].pop(0)
        self.pace[k] = seconds / (before - self._steps(k))
        self.open()


def _side_by_side(runs: Sequence[Run], workers: int, bar: Progress) -> None:
    """All runs, at most `workers` at a time, those that will take longest first."""
    schedule, running = _Schedule(runs), {}
    if len(schedule.finished) == len(runs):
        return
    with pool(min(workers, len(runs))) as executor:
        while len(schedule.finished) < len(runs):
            idle = [k for k, slices in schedule.to_come.items() if slices and k not in running.values()]
            for k in sorted(idle, key=schedule.left, reverse=True)[: workers - len(running)]:
                turn = (*schedule.jobs[k], schedule.to_come[k][0])
                running[executor.submit(_advance, Processes(), [turn])] = k
            for future in wait(running, timeout=1.0, return_when=FIRST_COMPLETED)[0]:
                schedule.advanced(running.pop(future), future.result())
            bar.update(sum(_reached(job) for job, _ in schedule.jobs.values()))


def train_all(runs: Sequence[Run], compute: Compute, label: str) -> None:
    """Train and publish every run, resuming from the states on disk; a run stands behind that of its teacher.

    At most `compute.workers` advance at a time, a slice each; on a GPU, and with `compute.processes` above 1,
    one run follows the other. The bits are the same.
    """
    with Progress(sum(run.steps for run in runs), label) as bar:
        if 1 in (compute.workers, len(runs)) or compute.processes > 1 or compute.device == "cuda":
            _in_turn(runs, compute, bar)
        else:
            _side_by_side(runs, compute.workers, bar)


def publish(job: Job, mark: str, path: Path, network: str = EMA) -> None:
    """Write the averaged weights and the log of the finished run, of fingerprint `mark`, to `path`.

    With `network` STUDENT it is the weights of the last step, not averaged.

    Raises CheckpointError for a state of another run, one that is not finished, or weights that do not fit.
    """
    tensors, info = read_state(job, mark)
    step, steps = info["step"], job.method.steps
    if step != steps:
        raise CheckpointError(f"{job.state} stands at step {step} of {steps}: finish the training first")
    chosen = with_prefix(tensors, f"{network}.")
    _check(chosen, job.network.model_dump(), job.source.shape, job.state)
    weights = {f"weights.{name}": value for name, value in chosen.items()}
    columns = zip(info["columns"], tensors["log"].unbind(1), strict=True)
    log = {f"log.{name}": column.contiguous() for name, column in columns}
    described = {"fingerprint": info["fingerprint"], "network": job.network.model_dump()}
    described |= {"shape": list(job.source.shape), "data": job.training.data}
    described |= {"seed": job.seed, "steps": steps, "drawn": steps * job.training.batch}
    save_checkpoint(path, weights | log, described)


def _check(weights: Mapping, network: Mapping, shape: Sequence[int], path: Path) -> None:
    """Raise CheckpointError unless `weights`, read from `path`, are finite and of that network."""
    with torch.device("meta"):
        built = networks.build(network, tuple(shape))
    check_weights(built, weights, path)


def job(experiment: Experiment, method: str, seed: int) -> tuple[Job, str]:
    """A method's training from one seed, and its fingerprint; FileNotFoundError before its teacher is there.

    States are kept below the tier's `states` folder, by fingerprint: a run whose settings or code changed
    starts afresh, and going back to the old ones finds it where it was.
    """
    own = experiment.settings.method(method)
    files = [experiment.workspace.read(weights_file(experiment, name, seed)) for name in own.teachers]
    teacher, weak = (*files, None, None)[:2]
    device, folder = experiment.compute.device, experiment.data_folder
    draft = Job(experiment.settings.training, own, seed, Path(), teacher, device, folder, weak)
    mark = draft.fingerprint()
    state = experiment.workspace.write(f"states/{experiment.name}/{method}/seed-{seed}-{mark}.safetensors")
    return replace(draft, state=state), mark


def _copy_weights(experiment: Experiment, method: str, file: Path) -> None:
    """The weights in `file` as the method's, for every seed; CheckpointError for those of another network."""
    settings = experiment.settings
    tensors, info = load_checkpoint(file)
    network = (settings.method(method).network or settings.training.network).model_dump()
    if problem := misfit(file, info, network, experiment.source.shape, experiment.name):
        raise CheckpointError(f"{problem}: convert the right file, or change params.yaml")
    _check(with_prefix(tensors, "weights."), network, experiment.source.shape, file)
    for seed in settings.training.seeds:
        path = experiment.workspace.write(weights_file(experiment, method, seed))
        save_checkpoint(path, tensors, info | {"seed": seed})


def _in_order(experiment: Experiment, methods: Sequence[str]) -> list[str]:
    """`methods`, each behind its teacher."""
    teachers = {m: set(experiment.settings.method(m).teachers) & set(methods) for m in methods}
    try:
        return list(TopologicalSorter(teachers).static_order())
    except CycleError as error:
        names = ", ".join(error.args[1][1:])
        raise ValueError(f"the methods {names} of {experiment.name} are each other's teachers") from None


def train(experiment: Experiment, *methods: str) -> dict[str, dict[int, Path]]:
    """Train `methods` for all their seeds, side by side; returns the files of flow maps by method and seed.

    A method whose settings name a file of weights takes these. One whose teacher is among `methods` starts
    when the teacher's weights are written.
    """
    settings, workspace = experiment.settings, experiment.workspace
    runs: list[Run] = []
    places: dict[tuple[str, int], int] = {}
    for method in _in_order(experiment, methods):
        own = settings.method(method)
        if own.weights:
            folder, _, name = own.weights.partition("/")
            _copy_weights(experiment, method, folder_of(folder) / name)
            continue
        for seed in settings.training.seeds:
            places[method, seed] = len(runs)
            target = workspace.write(weights_file(experiment, method, seed))
            opened, published = partial(job, experiment, method, seed), partial(publish, path=target)
            after = tuple(places[name, seed] for name in own.teachers if (name, seed) in places)
            runs.append(Run(own.steps, opened, published, after))
    if runs:
        label = f"training {experiment.name} {methods[0] if len(methods) == 1 else ''}".rstrip()
        train_all(runs, experiment.compute.of(settings.training), label)
    return {
        m: {seed: workspace.read(weights_file(experiment, m, seed)) for seed in settings.training.seeds}
        for m in methods
    }


def publish_without_ema(experiment: Experiment) -> None:
    """Write the weights of the last step, not averaged, of the methods in `metrics.sensitivity`.

    They have been trained here; of one whose weights were taken from a file there are no others.
    """
    settings = experiment.settings
    for method in settings.metrics.sensitivity or ():
        for seed in settings.training.seeds if settings.method(method).weights is None else ():
            path = experiment.workspace.write(without_ema_file(experiment, method, seed))
            publish(*job(experiment, method, seed), path, STUDENT)


def summary(experiment: Experiment, files: dict[str, dict[int, Path]]) -> pd.DataFrame:
    """One row a method and seed: steps, samples drawn, mean loss of the last tenth, median gradient norm.

    Of weights that were taken from a file, only which file.
    """
    rows = {}
    for method, seeds in files.items():
        own = experiment.settings.method(method)
        for seed, path in seeds.items():
            if own.weights:
                rows[own.label, f"seed {seed}"] = {"weights from": own.weights}
                continue
            log = load_log(path)
            drawn, last = own.steps * experiment.settings.training.batch, max(own.steps // 10, 1)
            rows[own.label, f"seed {seed}"] = {
                "steps": own.steps,
                "samples drawn": f"{drawn:,}",
                "loss, last tenth": round(float(log["loss"][-last:].mean()), 4),
                "gradient norm, median": round(float(np.median(log["gradient_norm"])), 4),
            }
    return pd.DataFrame(rows).T
