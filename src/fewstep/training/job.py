"""One training run of one network: what decides its result, and how it goes on from its state on disk.

What a step does is a loop's affair (fewstep.training.loops). A run that is killed goes on from its last
state and ends with the same bits.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .. import data, networks, objectives
from ..data import DataSource
from ..flows.conditioning import Autoguided
from ..flows.flow_map import FlowMap
from ..networks import load_flow_map
from ..settings.networks import Network
from ..settings.training import Method, Optimiser, Training
from ..storage.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..storage.files import write_atomically
from ..storage.fingerprint import fingerprint
from . import loops, precision
from .processes import Processes


@dataclass(frozen=True)
class Job:
    """One network to train: settings, seed, the teacher's weights file if any, and where its state is kept.

    data_folder  the folder of the data, if a stage makes them
    weak         the weights file of the weaker teacher, if the method is autoguided
    """

    training: Training
    method: Method
    seed: int
    state: Path
    teacher: Path | None = None
    device: str = "cpu"
    data_folder: Path | None = None
    weak: Path | None = None

    @property
    def source(self) -> DataSource:
        return data.load(self.training.data, self.data_folder, networks.load_decoder)

    @property
    def network(self) -> Network:
        """The method's own network, or the one that the methods share."""
        return self.method.network or self.training.network

    @property
    def optimiser(self) -> Optimiser:
        """The method's own optimiser, or the one that the methods share."""
        return self.method.optimiser or self.training.optimiser

    def fresh(self) -> FlowMap:
        """An untrained flow map, its weights drawn from the seed."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            built = networks.build(self.network.model_dump(), self.source.shape).to(self.device)
        return precision.prepared(built, self.training)

    @property
    def modules(self) -> list[str]:
        """The modules that train it: this one, and those that the settings name."""
        named = [(objectives, term.objective) for term in self.method.terms]
        named += [(loops, self.method.loop), (data, self.training.data), (networks, self.network.kind)]
        return [__name__, *(f"{package.__name__}.{name}" for package, name in named)]

    def fingerprint(self) -> str:
        """What the result depends on; a state on disk with another fingerprint is of another run."""
        teacher = load_checkpoint(self.teacher)[1]["fingerprint"] if self.teacher else None
        # without what is not said: a setting that is added later, and not used, changes nothing
        shared = self.training.model_dump(exclude={"seeds"}, exclude_none=True)
        own = self.method.model_dump(exclude={"label"}, exclude_none=True)
        weak = [load_checkpoint(self.weak)[1]["fingerprint"]] if self.weak else []
        drawn = [data.prepared_checksum(self.data_folder)] if self.data_folder else []
        return fingerprint([shared, own, self.seed, teacher, *drawn, *weak], self.modules)


def marker(state: Path) -> Path:
    """The small file beside a state that says how far its run has come."""
    return state.with_suffix(".step")


def read_state(job: Job, mark: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and info of the run's state on disk; raises CheckpointError for another run's."""
    tensors, info = load_checkpoint(job.state)
    if info.get("fingerprint") != mark:
        other = f"another run (fingerprint {info.get('fingerprint')}, not {mark})"
        raise CheckpointError(f"{job.state} belongs to {other}: delete it")
    step, steps = info.get("step"), job.method.steps
    if type(step) is not int or not 0 <= step <= steps:
        raise CheckpointError(f"{job.state} stands at step {step} of {steps}: delete it")
    return tensors, info


def _prepared(job: Job, path: Path | None) -> FlowMap | None:
    """The flow map in `path`, if any, as the job's settings of precision want it."""
    return precision.prepared(load_flow_map(path, job.device), job.training) if path else None


def advance(
    job: Job, mark: str, until: int, tick: Callable | None = None, processes: Processes = Processes()
) -> int:
    """Bring a run from its state on disk, or from nothing, to step `until`; store it and return the step.

    `mark` is the job's fingerprint. `tick(step)` is called about once a second; without it the step goes to
    `marker`, for the process that waits. Of several `processes` each calls it alike, and the main one stores.
    Raises CheckpointError for a damaged state, DivergedError for a loss or weights that are not finite, and
    torch.OutOfMemoryError.
    """
    stored = job.state
    cure = "lower training.batch, or raise compute.processes"
    enough = precision.enough_memory(f"a step of {job.method.label} at batch {job.training.batch}", cure)
    with precision.one_thread(), precision.products(job.training), enough:
        teacher = _prepared(job, job.teacher)
        loop_of = loops.load(job.method.loop)
        state = loop_of.start(job, teacher)
        if stored.exists():
            tensors, info = read_state(job, mark)
            state.restore(tensors, info["step"], stored)
        if weak := _prepared(job, job.weak):
            teacher = Autoguided(teacher, weak, job.method.autoguidance.scale)
        loop, said = loop_of.Loop(job, state, teacher, processes), time.monotonic()
        while state.step < until:
            loop.step()
            if processes.is_main and time.monotonic() - said > 1:
                said = time.monotonic()
                tick(state.step) if tick else write_atomically(marker(stored), str(state.step).encode())
        state.require_finite(f"{job.method.label} ({stored.stem})", "lower optimiser.lr")
        if processes.is_main:
            info = {"fingerprint": mark, "step": state.step, "columns": list(state.columns)}
            save_checkpoint(stored, state.tensors(), info)
        processes.wait()
    return state.step
