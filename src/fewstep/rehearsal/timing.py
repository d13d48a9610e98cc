"""Seconds of the parts that a tier is made of: steps, network calls, metrics, preparations.

Each is measured once, by the code that will run, on noise in the shape of the data: no archive is needed.
"""

import json
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import Any, NamedTuple

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
from ..settings.latents import Latents
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
GB = 10**9


class UnfitError(RuntimeError):
    """Work that does not fit into memory here; the message says which."""


@dataclass(frozen=True)
class Timing:
    """Seconds of one step or call at `batch`, and its peak memory on the GPU (None elsewhere)."""

    seconds: float
    batch: int
    device_bytes: int | None = None


class MetricTiming(NamedTuple):
    """Seconds of the parts of image metrics.

    image     features of one image by `extractor`, and its share of their moments
    distance  a Fréchet distance between two samples whose moments are known
    pair      one pair of samples in precision and recall
    """

    image: float
    distance: float
    pair: float
    extractor: str


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


def _timing(seconds: float, batch: int, device: str) -> Timing:
    return Timing(seconds, batch, torch.cuda.max_memory_allocated() if device == "cuda" else None)


def step(training: Training, method: Method, device: str, batch: int, noise: Noise) -> Timing:
    """One step at `batch`, by the training loop itself, on `noise` like the data, the teacher untrained.

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
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        advance(job, "timed", method.steps, tick)
    if len(ticks) < 2:
        over = f"{method.steps} steps are over before they can be timed"
        raise ValueError(f"{over}: nothing needs to be forecast")
    (start, first), (end, last) = ticks[0], ticks[-1]
    return _timing((end - start) / (last - first), batch, device)


def _seconds(work: Callable[[], object]) -> float:
    """Seconds of one `work` on one thread, the GPU's work included."""
    return Timer("work()", globals={"work": work}).blocked_autorange(min_run_time=SECONDS).mean


@torch.no_grad()
def call(network: Network, device: str, batch: int, noise: Noise) -> Timing:
    """One call of an untrained network, as sampling makes it, for `batch` points like `noise`."""
    flow_map = networks.build(network.model_dump(), noise.shape).to(device).eval()
    if noise.conditional:
        flow_map = conditioned(flow_map, noise.empty.times(batch).to(device))
    x = torch.randn(batch, *noise.shape, device=device)
    zero, one = torch.zeros(batch, device=device), torch.ones(batch, device=device)
    return _timing(_seconds(lambda: flow_map.jump(zero, one, x)), batch, device)


@torch.no_grad()
def autoencoder(shape: tuple[int, ...], batch: int, device: str) -> tuple[float, float]:
    """Seconds that an autoencoder of Stable Diffusion's size takes to encode a picture, and to decode one.

    `batch` pictures of `shape` go through it together.
    """
    from ..networks.autoencoder import Autoencoder
    from . import tiny_networks  # here, and not above: diffusers and transformers take seconds to load

    network = Autoencoder(tiny_networks.autoencoder_model()).to(device).eval()
    images = torch.zeros(batch, *shape, device=device)
    latents = torch.zeros(batch, *network.latent_shape(shape), device=device)
    encode = _seconds(lambda: network.encode(images)) / batch
    return encode, _seconds(lambda: network.decode(latents)) / batch


def clip(side: int, device: str) -> tuple[float, float]:
    """Seconds that a CLIP as large as OpenAI's takes for a caption, and for a picture of `side` pixels."""
    from ..networks.clip import NUMBERS_TOGETHER, Clip, Preparation
    from . import tiny_networks

    words, own = tiny_networks.tokenizer(), tiny_networks.LARGE["vision"]
    preparation = Preparation(own["image_size"], *map(tuple, tiny_networks.PREPARATION.values()))
    model = tiny_networks.clip_model(words, **tiny_networks.LARGE)
    network = Clip(model, words, preparation).to(device).eval()
    # as many as go through a tower together
    captions = ["a boat by a lake"] * (NUMBERS_TOGETHER // (network.length * network.width))
    patches = (own["image_size"] // own["patch_size"]) ** 2 + 1
    images = torch.zeros(NUMBERS_TOGETHER // (patches * own["hidden_size"]), 3, side, side)
    caption = _seconds(lambda: network.text(captions)) / len(captions)
    return caption, _seconds(lambda: network.image_features(images)) / len(images)


def _extractor(name: str, shape: tuple[int, ...]) -> Extractor:
    """The extractor `name`; where Inception's weights are not there, torchvision's untrained one."""
    if name == "classifier":
        return Extractor("an untrained classifier", OnLevels(Classifier(shape, 10), 255))
    if (weights := folder_of("inception") / INCEPTION).is_file():
        return inception(weights)
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=False, init_weights=False)
    network.fc = torch.nn.Identity()
    return Extractor("torchvision's Inception V3, untrained, in its place", network, CLEAN, clean)


def metrics(shape: tuple[int, ...], extractor: str, device: str) -> MetricTiming:
    """The parts of image metrics for images of `shape`, features by "inception" or "classifier"."""
    random, used, dimension = np.random.default_rng(SEED), _extractor(extractor, shape), disk.DIMENSIONS
    pictures = random.integers(0, 256, (16, *shape), dtype=np.uint8)
    points = random.normal(size=(2 * max(dimension[extractor], 512), dimension[extractor]))
    both, few = (moments(points), moments(points + 0.1)), points[:1000]
    image = _seconds(lambda: extract(pictures, used, device=device)) / len(pictures)
    return MetricTiming(
        image=image + _seconds(lambda: moments(points)) / len(points),
        distance=_seconds(lambda: frechet(*both)),
        pair=_seconds(lambda: precision_recall(few, few, NEIGHBOURS)) / (2 * len(few)) ** 2,
        extractor=used.name,
    )


class Timings:
    """Timings of the parts of `tier` on `device`, each measured once; what is measured is printed before.

    With `quick` small batches are timed, and what they say is scaled in proportion. Work that does not fit
    into memory raises UnfitError.
    """

    def __init__(self, tier: Tier, device: str, quick: bool):
        self.tier, self.device, self.quick = tier, device, quick
        self.known: dict[str, Any] = {}

    def _once(self, what: str, function: Callable, *arguments: Any, key: Any = None, cure: str = "") -> Any:
        """`function` of `arguments`; what has one `key` (without it, equal arguments) is measured once."""
        mark = json.dumps([function.__name__, key or arguments], sort_keys=True, default=str)
        if mark not in self.known:
            print(f"measuring {what}", flush=True)
            try:
                self.known[mark] = function(*arguments)
            except torch.OutOfMemoryError:
                problem = f"{what}, does not fit into the free memory of this machine's {self.device}"
                raise UnfitError(f"{problem}: {cure or 'free some, or take a larger GPU'}") from None
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
        key, cure = [batch, shared, own, noise], "lower training.batch, or raise compute.processes"
        return self._once(what, step, training, method, self.device, batch, noise, key=key, cure=cure)

    def call(self, experiment: ExperimentSettings, method: Method) -> Timing:
        """One network call of a sampler."""
        network, noise = method.network or experiment.training.network, self._noise(experiment)
        batch = sample.together(len(noise.shape), noise.conditional, self.device)
        if self.quick and len(noise.shape) > 1:
            batch = QUICK_CAPTIONED if noise.conditional else QUICK_IMAGES
        what = f"a network call on {experiment.training.data}, batch {batch}"
        self._check_memory(what, disk.FLOAT * disk.weights(experiment, method, noise.shape))
        return self._once(what, call, network, self.device, batch, noise)

    def metrics(self, shape: tuple[int, ...], extractor: str) -> MetricTiming:
        """The parts of image metrics."""
        return self._once(f"metrics in features by {extractor}", metrics, shape, extractor, self.device)

    def autoencoder(self, latents: Latents) -> tuple[float, float]:
        """As the function: of a published autoencoder; a small one, trained here, takes nothing."""
        if latents.autoencoder.kind != "pretrained":
            return 0.0, 0.0
        shape = data.load(latents.data).shape
        batch = 1 if self.quick else max(min(TOGETHER, PIXELS_TOGETHER // prod(shape[1:])), 1)
        what = f"an autoencoder of pictures of {latents.data}, batch {batch}"
        return self._once(what, autoencoder, shape, batch, self.device)

    def clip(self, latents: Latents) -> tuple[float, float]:
        """As the function: of the published CLIP of latents; a small one, trained here, takes nothing."""
        if not latents.clip or self.tier.clip[latents.clip].kind != "published":
            return 0.0, 0.0
        side = data.load(latents.data).shape[-1]
        return self._once("a CLIP of the published size", clip, side, self.device)
