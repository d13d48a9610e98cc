"""How long a tier will train and sample here: an optimisation step, or a network call, times their number.

Each is measured once, at its true batch and by the code that will run, on noise in the shape of the data: no
archive is needed. Preparing, measuring and drawing figures are not forecast.
"""

import json
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch.utils.benchmark import Timer

from .. import data, networks
from ..evaluation import sample
from ..flows import sampler_names
from ..flows.conditioning import Conditions, conditioned
from ..pipeline.stages import Stage
from ..settings.prepared import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method, Network, Training
from ..storage.checkpoint import save_checkpoint
from ..training.job import Job, advance
from ..training.weights import PHASES, methods_of
from .tiny_archives import TOKENS

# work is repeated for so long
SECONDS = 2.0
# the calls of an adaptive solver, which takes as many as it takes
ADAPTIVE_CALLS = 50
# the width of the states of captions' tokens in Stable Diffusion, where no network says it
WIDTH = 768


def token_states(tier: Tier, clip: str) -> tuple[int, int]:
    """The tokens of every caption, and the numbers a token, as the entry `clip` of a tier reads it."""
    own = tier.clip[clip]
    if own.kind == "trained":
        return own.tokens, own.width
    readers = [name for name, latents in tier.latents.items() if latents.clip == clip]
    trainings = (experiment.training for experiment in tier.experiments.values())
    return TOKENS, next((own.network.width for own in trainings if own.latents in readers), WIDTH)


def captions(tier: Tier, experiment: ExperimentSettings) -> tuple[int, int] | None:
    """`token_states` of what an experiment's networks are conditioned on, if they are."""
    latents = tier.latents.get(experiment.training.latents)
    return token_states(tier, latents.clip) if latents and latents.clip else None


class UnfitError(RuntimeError):
    """Work that does not fit into memory here; the message says which."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a step, or of other work, on `batch` items, and its peak memory on the GPU, if on one."""

    seconds: float
    batch: int
    gpu_bytes: int | None = None


@dataclass(frozen=True)
class Row:
    """One stage of the forecast: its work in words, and its seconds and bytes, or why it cannot run here."""

    stage: str
    work: str
    seconds: float = 0.0
    gpu_bytes: int | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Noise:
    """A data set that is noise; `captions` are (tokens, numbers each), if it has some."""

    shape: tuple[int, ...]
    captions: tuple[int, int] | None = None
    scale: float = 1.0

    @property
    def conditional(self) -> bool:
        return self.captions is not None

    @property
    def empty(self) -> Conditions:
        """The empty caption, a batch of one, on the CPU as that of latents is."""
        return Conditions(torch.zeros(1, *self.captions), torch.ones(1, self.captions[0], dtype=torch.bool))

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, *self.shape, generator=generator, device=generator.device)

    def sample_with_conditions(self, count: int, generator: torch.Generator) -> tuple:
        return self.sample(count, generator), self.empty.times(count).to(generator.device)


@dataclass(frozen=True)
class _Timed(Job):
    """A training that is timed, on noise in the place of its data."""

    noise: Noise | None = None

    @property
    def source(self) -> data.DataSource:
        return self.noise


class _EnoughError(Exception):
    """Stops a training that is only timed."""


def step(training: Training, method: Method, device: str, batch: int, noise: Noise) -> float:
    """Seconds of one step at `batch`, by the training loop, on `noise` like the data, the teacher untrained.

    It is 0 for a training that is over in seconds. Raises what torch raises, OutOfMemoryError among it.
    """
    ticks: list[tuple[float, int]] = []

    def tick(done: int) -> None:
        ticks.append((time.perf_counter(), done))
        if len(ticks) > 1 and ticks[-1][0] - ticks[0][0] > SECONDS:
            raise _EnoughError

    with tempfile.TemporaryDirectory() as folder, suppress(_EnoughError):
        own, state = training.model_copy(update={"batch": batch}), Path(folder) / "state.safetensors"
        job = _Timed(own, method, 0, state, None, device, noise=noise)
        if method.teacher:
            weights = {f"weights.{name}": value for name, value in job.fresh().state_dict().items()}
            info = {"network": job.network.model_dump(), "shape": list(noise.shape)}
            untrained = Path(folder) / "teacher.safetensors"
            # a weaker teacher may be smaller; here it costs what the teacher does
            job = replace(job, teacher=untrained, weak=untrained if method.autoguidance else None)
            save_checkpoint(untrained, weights, info)
        advance(job, "timed", method.steps, tick)
    if len(ticks) < 2:
        return 0.0
    (start, first), (end, last) = ticks[0], ticks[-1]
    return (end - start) / (last - first)


@torch.no_grad()
def _seconds(work: Callable[[], object]) -> float:
    """Seconds of one `work` on one thread, the GPU's work included."""
    return Timer("work()", globals={"work": work}).blocked_autorange(min_run_time=SECONDS).mean


def call(network: Network, device: str, batch: int, noise: Noise) -> float:
    """Seconds of one call of an untrained network, as sampling makes it, for `batch` points like `noise`."""
    flow_map = networks.build(network.model_dump(), noise.shape).to(device).eval()
    if noise.conditional:
        flow_map = conditioned(flow_map, noise.empty.times(batch).to(device))
    x = torch.randn(batch, *noise.shape, device=device)
    zero, one = torch.zeros(batch, device=device), torch.ones(batch, device=device)
    return _seconds(lambda: flow_map.jump(zero, one, x))


class Timings:
    """Timings of parts of `tier` on `device`, each announced, measured once; UnfitError without memory."""

    def __init__(self, tier: Tier, device: str):
        self.tier, self.device = tier, device
        self.known: dict[str, Timing] = {}

    def _once(self, what: str, key: Any, batch: int, measure: Callable[[], float], cure: str = "") -> Timing:
        """Seconds that `measure` returns of work on `batch` items, measured once for each `key`."""
        mark = json.dumps([batch, key], sort_keys=True, default=str)
        if mark not in self.known:
            print(f"measuring {what}, batch {batch}", flush=True)
            if self.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            try:
                seconds = measure()
            except torch.OutOfMemoryError:
                problem = f"{what}, batch {batch}, does not fit into the free memory of this machine's"
                cure = cure or "free some, or take a larger GPU"
                raise UnfitError(f"{problem} {self.device}: {cure}") from None
            held = torch.cuda.max_memory_allocated() if self.device == "cuda" else None
            self.known[mark] = Timing(seconds, batch, held)
        return self.known[mark]

    def _noise(self, experiment: ExperimentSettings) -> Noise:
        return Noise(self.tier.shape(experiment), captions(self.tier, experiment))

    def step(self, experiment: ExperimentSettings, method: Method) -> Timing:
        """One optimisation step, on its share of the batch where several processes share it."""
        training, noise = experiment.training, self._noise(experiment)
        batch = max(training.batch // self.tier.compute.of(training).processes, 2)
        what = f"a step of {method.label} on {training.data}"
        shared = training.model_dump(exclude={"data", "seeds"}, exclude_none=True)
        own = method.model_dump(exclude={"label", "steps"}, exclude_none=True)
        cure = "lower training.batch, or raise compute.processes"
        work = partial(step, training, method, self.device, batch, noise)
        return self._once(what, [shared, own, noise], batch, work, cure)

    def call(self, experiment: ExperimentSettings, method: Method) -> Timing:
        """One network call of a sampler."""
        network, noise = method.network or experiment.training.network, self._noise(experiment)
        batch = sample.together(len(noise.shape), noise.conditional, self.device)
        what = f"a network call on {experiment.training.data}"
        return self._once(what, [network, noise], batch, partial(call, network, self.device, batch, noise))

    def decoding(self, latents: Latents) -> Timing | None:
        """Pictures that a published autoencoder decodes; None for the small ones that are trained here."""
        if latents.autoencoder.kind != "pretrained":
            return None
        # here, and not above: diffusers and transformers take seconds to load
        from ..networks.autoencoder import PIXELS_TOGETHER, TOGETHER, Autoencoder
        from . import tiny_networks

        shape = data.load(latents.data).shape
        batch = max(min(TOGETHER, PIXELS_TOGETHER // prod(shape[1:])), 1)

        def measure() -> float:
            network = Autoencoder(tiny_networks.autoencoder_model()).to(self.device).eval()
            drawn = torch.zeros(batch, *network.latent_shape(shape), device=self.device)
            return _seconds(lambda: network.decode(drawn))

        return self._once(f"decoding pictures of {latents.data}", ["decoding", shape], batch, measure)


# what a stage does in words, its seconds, and the timings that they come from
Work = tuple[str, float, list[Timing]]


def _training(tier: Tier, stage: Stage, timings: Timings) -> Work:
    """The trainings of a phase, or of the tour: on a CPU side by side, on a GPU one after the other."""
    experiment = tier.experiments[stage.experiment] if stage.experiment else tier.tour
    phases = [phase for phase in PHASES if stage.name.startswith(phase)]
    names = methods_of(experiment, phases[0]) if phases else experiment.methods
    own = [method for method in map(experiment.methods.get, names) if not method.weights]
    if not own:
        return "weights are taken from files", 0.0, []
    training, compute = experiment.training, tier.compute.of(experiment.training)
    seeds, found = len(training.seeds), [timings.step(experiment, method) for method in own]
    each = [timing.seconds * method.steps for timing, method in zip(found, own)]
    workers = compute.workers if compute.device == "cpu" and compute.processes == 1 else 1
    # never less than the longest of them
    seconds, steps = max(seeds * sum(each) / workers, *each), seeds * sum(method.steps for method in own)
    return f"{steps:,} steps of {training.batch:,}, {len(own)} x {seeds} trainings", seconds, found


def _sampling(tier: Tier, stage: Stage, timings: Timings) -> Work:
    """Network calls, and the decoding of what latents are drawn."""
    experiment = tier.experiments[stage.experiment]
    count, calls, seconds = experiment.sampling.count, 0, 0.0
    draws = [draw for draw in sample.plan(experiment) if draw.network != sample.EXACT]
    latents, found = tier.latents.get(experiment.training.latents), []
    for draw in draws:
        own = (sampler_names.calls_a_step(draw.sampler) or 0) * draw.steps or ADAPTIVE_CALLS
        found.append(timings.call(experiment, experiment.methods[draw.network]))
        calls, seconds = calls + own, seconds + own * found[-1].seconds / found[-1].batch
    work = f"{calls:,} calls for each of {count:,} samples"
    if latents and (decoding := timings.decoding(latents)):
        seconds += len(draws) * decoding.seconds / decoding.batch
        found.append(decoding)
        work += f", decoded {len(draws):,} times"
    return work, count * seconds / tier.compute.workers, found


# by how the names of stages begin
PARTS = {**dict.fromkeys(("tour", *PHASES), _training), "sample": _sampling}


def forecast(stages: Sequence[Stage], tier: Tier, timings: Timings) -> list[Row]:
    """One row a stage that trains or samples, in their order, by what is measured."""
    rows = []
    for stage in stages:
        if part := next((own for name, own in PARTS.items() if stage.name.startswith(name)), None):
            try:
                work, seconds, found = part(tier, stage, timings)
                held = [timing.gpu_bytes for timing in found if timing.gpu_bytes is not None]
                rows.append(Row(stage.name, work, seconds, max(held, default=None)))
            except UnfitError as error:
                rows.append(Row(stage.name, "not measured", problem=str(error)))
    return rows
