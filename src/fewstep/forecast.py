"""How long the stages of a tier will take on this machine: what is measured of their parts, times their number."""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable, Protocol

import torch

from . import data, paces, pipeline, room, sampling, solvers, tiny_archives
from .data.archives import ENVIRONMENT, folder_of
from .evaluation_images import SUBSET_SIZE, kid_subsets
from .experiments import Experiment, Tier
from .recipes import Method
from .metrics.features import INCEPTION
from .paces import MetricPaces, Pace
from .parallel import pool
from .pipeline import Stage
from .rehearsal import multiple, smallest_batch

# an adaptive solver takes as many calls as it takes; this is what is reckoned with
ADAPTIVE_CALLS = 50
# what is timed where the true batch would take too long: points, and images of a sampled batch
QUICK_POINTS, QUICK_IMAGES = 1000, 4


class Clock(Protocol):
    """Where the seconds come from."""

    def step(self, experiment: Experiment, method: Method) -> Pace:
        """One optimisation step."""
        ...

    def call(self, experiment: Experiment, method: Method) -> Pace:
        """One network call of a sampler."""
        ...

    def metrics(self, shape: tuple[int, ...], extractor: str) -> MetricPaces:
        """The parts of image metrics."""
        ...


@dataclass(frozen=True)
class Row:
    """One stage of the forecast.

    work     what it consists of, in words
    seconds  what it will take, or None where nothing of it is forecast: minutes at most
    basis    what was measured
    device_bytes  the peak on the GPU of what was measured, or None
    problem  why it cannot run at all, or None
    """

    stage: str
    work: str
    seconds: float | None = None
    basis: str = ""
    device_bytes: int | None = None
    problem: str | None = None


class Measured:
    """A `Clock` that measures on `device` in one process of its own, each kind of work once.

    With `quick` small batches are timed, and what they say is scaled in proportion. Use it as a context.
    """

    def __init__(self, tier: Tier, device: str, quick: bool, said: Callable[[str], None]):
        self.tier, self.device, self.quick, self.said = tier, device, quick, said
        self.known: dict[str, Any] = {}

    def __enter__(self) -> "Measured":
        self.weights = (folder_of("inception") / INCEPTION).resolve()
        self.folder, self.before = tempfile.TemporaryDirectory(), os.environ.get(ENVIRONMENT)
        tiny_archives.write(Path(self.folder.name))
        # the processes of a pool inherit it: what is timed must not wait for archives that are not there yet
        os.environ[ENVIRONMENT] = self.folder.name
        self.pool = pool(1)
        self.executor = self.pool.__enter__()
        return self

    def __exit__(self, *problem: object) -> None:
        self.pool.__exit__(None, None, None)
        os.environ.pop(ENVIRONMENT)
        if self.before is not None:
            os.environ[ENVIRONMENT] = self.before
        self.folder.cleanup()

    def _once(self, what: str, key: list, function: Callable, *arguments: Any) -> Any:
        """`function` of `arguments`, in the other process; equal `key`s are measured once."""
        mark = json.dumps([function.__name__, *key], sort_keys=True, default=str)
        if mark not in self.known:
            self.said(f"measuring {what}")
            self.known[mark] = self.executor.submit(function, *arguments).result()
        return self.known[mark]

    def _key(self, experiment: Experiment, method: Method) -> list:
        shared = experiment.training.model_dump(exclude={"data", "seeds"}, exclude_none=True)
        own = method.model_dump(exclude={"label", "steps"}, exclude_none=True)
        return [shared, own, self.tier.shape(experiment)]

    def step(self, experiment: Experiment, method: Method) -> Pace:
        training = experiment.training
        batch = max(training.batch // self.tier.compute.processes, 2)
        if self.quick:
            least = multiple(smallest_batch([[term.share for term in method.terms]]), [term.options.get("times", 1) for term in method.terms])
            batch = min(batch, least if len(self.tier.shape(experiment)) > 1 else QUICK_POINTS)
        what = f"a step of {method.label} on {training.data}, batch {batch}"
        return self._once(what, [batch, *self._key(experiment, method)], paces.step, training, method, self.device, batch, self.tier.shape(experiment))

    def call(self, experiment: Experiment, method: Method) -> Pace:
        training, shape = experiment.training, self.tier.shape(experiment)
        network = (method.network or training.network).model_dump()
        batch = sampling.POINTS if len(shape) == 1 else sampling.IMAGES_ON_CUDA if self.device == "cuda" else sampling.IMAGES
        if self.quick and len(shape) > 1:
            batch = QUICK_IMAGES
        return self._once(f"a network call on {training.data}, batch {batch}", [batch, network, shape], paces.call, training, method, self.device, batch, shape)

    def metrics(self, shape: tuple[int, ...], extractor: str) -> MetricPaces:
        dimension = room.DIMENSIONS[extractor]
        arguments = (shape, extractor, dimension, self.weights, self.device)
        return self._once(f"metrics in {dimension} features", [shape, extractor], paces.metrics, *arguments)


def _basis(pace: Pace, batch: int) -> str:
    return f"measured at batch {batch}" if pace.batch == batch else f"in proportion from batch {pace.batch}"


def _training(tier: Tier, experiment: Experiment, stage: str, name: str, clock: Clock) -> Row:
    method, batch, seeds = experiment.methods[name], experiment.training.batch, len(experiment.training.seeds)
    work = f"{method.steps:,} steps of {batch:,}" + (f" x {seeds} seeds" if seeds > 1 else "")
    try:
        pace = clock.step(experiment, method)
    except torch.OutOfMemoryError:
        return Row(stage, work, problem=f"a step at batch {batch} does not fit into the GPU's free memory: lower training.batch, or raise compute.processes")
    # each of several processes has its share of the batch, and a CPU's workers each a seed
    share = batch / tier.compute.processes
    together = min(tier.compute.workers, seeds) if tier.compute.device == "cpu" and tier.compute.processes == 1 else 1
    seconds = pace.seconds * share / pace.batch * method.steps * seeds / together
    return Row(stage, work, seconds, _basis(pace, round(share)), pace.device_bytes)


def _sampling(tier: Tier, experiment: Experiment, stage: str, clock: Clock) -> Row:
    count, calls, seconds, pace = experiment.sampling.count, 0, 0.0, None
    for draw in sampling.plan(experiment):
        if draw.trained == sampling.EXACT:
            continue
        own = (solvers.calls_a_step(draw.sampler) or 0) * draw.steps or ADAPTIVE_CALLS
        pace = clock.call(experiment, experiment.methods[draw.trained])
        calls += own
        seconds += own * count * pace.seconds / pace.batch
    if pace is None:
        return Row(stage, "nothing is drawn from a network")
    return Row(stage, f"{calls:,} calls for each of {count:,} samples", seconds / tier.compute.workers, f"a call of {pace.batch}", pace.device_bytes)


def _metrics(tier: Tier, experiment: Experiment, stage: str, clock: Clock) -> Row:
    """Features and metrics of every array of samples, and the self-checks of the data."""
    draws, count, measures = len(sampling.plan(experiment)), experiment.sampling.count, experiment.metrics.measures
    against, dimension = room.measured_against(tier, experiment.metrics.features), room.dimension(tier, experiment)
    pictured = experiment.training.latents
    shape = data.load(tier.latents[pictured].data).shape if pictured else tier.shape(experiment)
    pace = clock.metrics(shape, tier.features[experiment.metrics.features].extractor)
    one = count * pace.image
    if "fid" in measures:
        one += (count + against) * pace.moment + pace.distance
    if "t_fid" in measures:
        one += 2 * count * pace.moment + pace.distance
    if "kid" in measures:
        subsets = kid_subsets(count, against)
        one += ((count**2 + count * against + against**2) if subsets is None else 3 * subsets * SUBSET_SIZE**2) * pace.kid
    if {"precision", "recall"} & set(measures):
        one += (count + against) ** 2 * pace.pair
    sizes = sum(against // 2**k > dimension for k in (2, 3, 4))
    checks = against * pace.image + (4 + 3 * sizes) * (against * pace.moment + pace.distance)
    pairs = f"; precision and recall over {count + against:,} squared pairs" if {"precision", "recall"} & set(measures) else ""
    return Row(stage, f"{draws} arrays of {count:,}{pairs}", draws * one / tier.compute.workers + checks, f"parts measured; {pace.extractor}")


def _features(tier: Tier, stage: Stage, clock: Clock) -> Row:
    own = tier.features[stage.experiment]
    pace, count = clock.metrics(data.load(own.data).shape, own.extractor), room.measured_against(tier, stage.experiment)
    return Row(stage.name, f"features of {count:,} images", count * pace.image, pace.extractor)


def forecast(tier: Tier, clock: Clock) -> list[Row]:
    """One row a stage, in the plan's order, by the seconds of `clock`; what is not forecast takes minutes at most."""
    rows = []
    for stage in pipeline.plan(tier):
        experiment = tier.tour if stage.notebook == "0-tour" else tier.experiments.get(stage.experiment or "")
        if stage.method:
            rows.append(_training(tier, experiment, stage.name, stage.method, clock))
        elif stage.notebook == "0-tour":
            parts = [_training(tier, experiment, stage.name, name, clock) for name in experiment.methods]
            taken = sum(part.seconds or 0 for part in parts)
            rows.append(Row(stage.name, f"{len(parts)} trainings", taken, parts[0].basis, parts[0].device_bytes, next((p.problem for p in parts if p.problem), None)))
        elif stage.notebook == "0-features":
            rows.append(_features(tier, stage, clock))
        elif stage.notebook == "3-sample":
            rows.append(_sampling(tier, experiment, stage.name, clock))
        elif stage.notebook == "4-metrics-images":
            rows.append(_metrics(tier, experiment, stage.name, clock))
        else:
            rows.append(Row(stage.name, "minutes at most"))
    return rows
