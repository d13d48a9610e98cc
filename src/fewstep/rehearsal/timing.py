"""Seconds of the parts that a tier is made of: steps, network calls, metrics, preparations.

Each is measured once, by the code that will run, on noise in the shape of the data: no archive is needed.
"""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from torch.utils.benchmark import Timer

from .. import data, networks
from ..data.formats.archives import folder_of
from ..evaluation import sample
from ..evaluation.measure_images import NEIGHBOURS
from ..flows.conditioning import Conditions, conditioned
from ..metrics.features import CLEAN, INCEPTION, Extractor, clean, extract, inception
from ..metrics.frechet import frechet, moments
from ..metrics.precision_recall import precision_recall
from ..networks.autoencoder import PIXELS_TOGETHER, TOGETHER
from ..networks.classifier import Classifier
from ..settings.prepared import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method, Network, Training
from ..storage.checkpoint import save_checkpoint
from ..training.features import OnLevels
from ..training.job import Job, advance
from . import disk
from .settings import multiple, smallest_batch

# work is repeated for so long
SECONDS = 2.0
SEED = 5_000_011
# what is timed where the true batch would take too long: points, images, and images of a caption
QUICK_POINTS, QUICK_IMAGES, QUICK_CAPTIONED = 1000, 4, 1
# pictures, or captions, that are measured together, and samples of each set whose pairs are
PICTURES, FEW = 16, 1000
GB = 10**9


class UnfitError(RuntimeError):
    """Work that does not fit into memory here; the message says which."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a step, or of other work, on `batch` items, and its peak memory on the GPU, if on one."""

    seconds: float
    batch: int
    device_bytes: int | None = None

    @property
    def each(self) -> float:
        """Seconds an item."""
        return self.seconds / self.batch


NOTHING = Timing(0.0, 1)


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

    Raises what torch raises, OutOfMemoryError among it, and ValueError for a training too short to be timed.
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
            job = replace(job, teacher=Path(folder) / "teacher.safetensors")
            save_checkpoint(job.teacher, weights, info)
        advance(job, "timed", method.steps, tick)
    if len(ticks) < 2:
        over = f"{method.steps} steps are over before they can be timed"
        raise ValueError(f"{over}: nothing needs to be forecast")
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


def extractor_name(extractor: str) -> str:
    """What is timed for "inception" or "classifier"; without Inception's weights, torchvision's network."""
    if extractor == "classifier":
        return "an untrained classifier"
    there = (folder_of("inception") / INCEPTION).is_file()
    return "Inception" if there else "torchvision's Inception V3, untrained, in its place"


def _extractor(extractor: str, shape: tuple[int, ...]) -> Extractor:
    name = extractor_name(extractor)
    if extractor == "classifier":
        return Extractor(name, OnLevels(Classifier(shape, 10), 255))
    if name == "Inception":
        return inception(folder_of("inception") / INCEPTION)
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=False, init_weights=False)
    network.fc = torch.nn.Identity()
    return Extractor(name, network, CLEAN, clean)


class Timings:
    """Timings of the parts of `tier` on `device`, each measured once; what is measured is printed before.

    With `quick` small batches are timed, and what they say is scaled in proportion. Work that does not fit
    into memory raises UnfitError.
    """

    def __init__(self, tier: Tier, device: str, quick: bool):
        self.tier, self.device, self.quick = tier, device, quick
        self.known: dict[str, Timing] = {}

    def _once(self, what: str, key: Any, batch: int, measure: Callable[[], float], cure: str = "") -> Timing:
        """Seconds that `measure` returns of work on `batch` items, measured once for each `key`."""
        mark = json.dumps([batch, key], sort_keys=True, default=str)
        if mark not in self.known:
            print(f"measuring {what}", flush=True)
            if self.device == "cuda":
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats()
            try:
                seconds = measure()
            except torch.OutOfMemoryError:
                problem = f"{what}, does not fit into the free memory of this machine's {self.device}"
                raise UnfitError(f"{problem}: {cure or 'free some, or take a larger GPU'}") from None
            held = torch.cuda.max_memory_allocated() if self.device == "cuda" else None
            self.known[mark] = Timing(seconds, batch, held)
        return self.known[mark]

    def _noise(self, experiment: ExperimentSettings) -> Noise:
        return Noise(self.tier.shape(experiment), disk.captions(self.tier, experiment))

    def _check_memory(self, what: str, wanted: int) -> None:
        """Raise UnfitError where a CPU has not so many bytes: the process would be killed silently."""
        if self.device == "cpu" and wanted > (free := psutil.virtual_memory().available):
            takes = f"it takes {wanted / GB:.0f} GB of memory and more"
            raise UnfitError(f"{what}, is not measured: {takes}, and {free / GB:.0f} GB are free here")

    def step(self, experiment: ExperimentSettings, method: Method) -> Timing:
        """One optimisation step."""
        training, noise = experiment.training, self._noise(experiment)
        batch = max(training.batch // self.tier.compute.of(training).processes, 2)
        if self.quick and len(noise.shape) > 1:
            least = smallest_batch([[term.share for term in method.terms]])
            batch = min(batch, multiple(least, [term.options.get("times", 1) for term in method.terms]))
        elif self.quick:
            batch = min(batch, QUICK_POINTS)
        what = f"a step of {method.label} on {training.data}, batch {batch}"
        self._check_memory(what, disk.held(experiment, method, noise.shape))
        shared = training.model_dump(exclude={"data", "seeds"}, exclude_none=True)
        own = method.model_dump(exclude={"label", "steps"}, exclude_none=True)
        cure = "lower training.batch, or raise compute.processes"
        work = partial(step, training, method, self.device, batch, noise)
        return self._once(what, [shared, own, noise], batch, work, cure)

    def call(self, experiment: ExperimentSettings, method: Method) -> Timing:
        """One network call of a sampler."""
        network, noise = method.network or experiment.training.network, self._noise(experiment)
        batch = sample.together(len(noise.shape), noise.conditional, self.device)
        if self.quick and len(noise.shape) > 1:
            batch = QUICK_CAPTIONED if noise.conditional else QUICK_IMAGES
        what = f"a network call on {experiment.training.data}, batch {batch}"
        self._check_memory(what, disk.FLOAT * disk.weights(experiment, method, noise.shape))
        return self._once(what, [network, noise], batch, partial(call, network, self.device, batch, noise))

    def features(self, shape: tuple[int, ...], extractor: str) -> Timing:
        """The features of images of `shape`, by "inception" or "classifier"."""
        images = np.random.default_rng(SEED).integers(0, 256, (PICTURES, *shape), dtype=np.uint8)

        def measure() -> float:
            used = _extractor(extractor, shape)
            return _seconds(lambda: extract(images, used, device=self.device))

        return self._once(f"features by {extractor_name(extractor)}", [extractor, shape], PICTURES, measure)

    def distance(self, dimension: int) -> Timing:
        """A Fréchet distance between features of so many numbers, moments included."""
        points = np.random.default_rng(SEED).normal(size=(2 * dimension, dimension))
        work = partial(_seconds, lambda: frechet(moments(points), moments(points + 0.1)))
        return self._once(f"a Fréchet distance, {dimension} features", ["distance", dimension], 1, work)

    def pairs(self, dimension: int) -> Timing:
        """Pairs of samples in precision and recall, the batch their number."""
        points = np.random.default_rng(SEED).normal(size=(FEW, dimension))
        work = partial(_seconds, lambda: precision_recall(points, points, NEIGHBOURS))
        what = f"precision and recall, {dimension} features"
        return self._once(what, ["pairs", dimension], (2 * FEW) ** 2, work)

    def autoencoder(self, way: str, latents: Latents) -> Timing:
        """Pictures that a published autoencoder is to "encode" or "decode"; of one trained here, nothing."""
        if latents.autoencoder.kind != "pretrained":
            return NOTHING
        shape = data.load(latents.data).shape
        batch = 1 if self.quick else max(min(TOGETHER, PIXELS_TOGETHER // prod(shape[1:])), 1)

        def measure() -> float:
            from ..networks.autoencoder import Autoencoder
            from . import (
                tiny_networks,  # here, and not above: diffusers and transformers take seconds to load
            )

            network = Autoencoder(tiny_networks.autoencoder_model()).to(self.device).eval()
            size = shape if way == "encode" else network.latent_shape(shape)
            given = torch.zeros(batch, *size, device=self.device)
            return _seconds(lambda: getattr(network, way)(given))

        what = f"an autoencoder ({way}) of pictures of {latents.data}, batch {batch}"
        return self._once(what, [way, shape], batch, measure)

    def clip(self, way: str, latents: Latents) -> Timing:
        """A published CLIP's "text" or "image_features"; of one that is trained here, nothing."""
        if not latents.clip or self.tier.clip[latents.clip].kind != "published":
            return NOTHING
        shape = data.load(latents.data).shape

        def measure() -> float:
            from ..networks.clip import Clip, Preparation
            from . import tiny_networks

            words, side = tiny_networks.tokenizer(), tiny_networks.LARGE["vision"]["image_size"]
            preparation = Preparation(side, *map(tuple, tiny_networks.PREPARATION.values()))
            network = Clip(tiny_networks.clip_model(words, **tiny_networks.LARGE), words, preparation)
            given = ["a boat"] * PICTURES if way == "text" else torch.zeros(PICTURES, *shape)
            return _seconds(partial(getattr(network.to(self.device).eval(), way), given))

        return self._once(f"a CLIP of the published size ({way})", [way, shape], PICTURES, measure)
