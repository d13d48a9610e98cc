"""Seconds of the parts that a tier is made of: steps, network calls, metrics, preparations.

Each is measured by the code that will run, on synthetic inputs: no archive is needed, no state is left.
"""

import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from .. import data, networks
from ..evaluation.measure_images import NEIGHBOURS
from ..flows.conditioning import Conditions, conditioned
from ..metrics.features import CLEAN, INCEPTION, Extractor, clean, extract, inception
from ..metrics.frechet import frechet, moments
from ..metrics.kid import kid
from ..metrics.precision_recall import precision_recall
from ..networks.classifier import Classifier
from ..settings.training import Method, Network, Training
from ..storage.checkpoint import save_checkpoint
from ..training.features import OnLevels
from ..training.job import Job, advance
from ..training.pool import one_thread

# work is repeated for so long; what takes longer by itself is not waited for a second time
SECONDS, LONG = 2.0, 10.0
SEED = 5_000_011


@dataclass(frozen=True)
class Timing:
    """Seconds of one step or call at `batch`, and its peak memory on the GPU (None elsewhere)."""

    seconds: float
    batch: int
    device_bytes: int | None = None


@dataclass(frozen=True)
class MetricTiming:
    """Seconds of the parts of image metrics.

    image      features of one image, by `extractor`
    moment     the moments of a sample, a Fréchet `distance` without them
    kid, pair  one pair of samples in KID, and in precision and recall
    """

    image: float
    moment: float
    distance: float
    kid: float
    pair: float
    extractor: str


class AutoencoderTiming(NamedTuple):
    """Seconds that a published autoencoder takes to encode one picture, and to decode one."""

    encode: float
    decode: float


class ClipTiming(NamedTuple):
    """Seconds that a published CLIP takes for one caption, and for one picture."""

    caption: float
    image: float


@dataclass(frozen=True)
class Noise:
    """A data set that is noise in the shape of latents; `captions` are (tokens, numbers each), if any."""

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
        hidden = torch.randn(count, *self.captions, generator=generator, device=generator.device)
        mask = torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        return self.sample(count, generator), Conditions(hidden, mask)


@dataclass(frozen=True)
class _Timed(Job):
    """A training that is timed: one on latents, which no stage has made yet, has `noise` in their place."""

    noise: Noise | None = None

    @property
    def source(self) -> data.DataSource:
        return self.noise if self.training.latents else super().source


class _EnoughError(Exception):
    """Stops a training that is only timed."""


def _timing(seconds: float, batch: int, device: str) -> Timing:
    return Timing(seconds, batch, torch.cuda.max_memory_allocated() if device == "cuda" else None)


def step(training: Training, method: Method, device: str, batch: int, noise: Noise) -> Timing:
    """One step at `batch`, by the training loop itself, on data or `noise` like it, the teacher untrained.

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


def _seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one `work`: the mean of SECONDS, after one that does not count unless it takes LONG."""
    times: list[float] = []
    while len(times) < 2 or sum(times[1:]) < SECONDS:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
        if times[0] > LONG:
            return times[0]
    return sum(times[1:]) / len(times[1:])


@torch.no_grad()
def call(network: Network, device: str, batch: int, noise: Noise) -> Timing:
    """One call of an untrained network, as sampling makes it, for `batch` points like `noise`."""
    flow_map = networks.build(network.model_dump(), noise.shape).to(device).eval()
    if noise.conditional:
        flow_map = conditioned(flow_map, noise.empty.times(batch).to(device))
    x = torch.randn(batch, *noise.shape, device=device)
    zero, one = torch.zeros(batch, device=device), torch.ones(batch, device=device)
    with one_thread():
        return _timing(_seconds(lambda: flow_map.jump(zero, one, x), device), batch, device)


@torch.no_grad()
def autoencoder(shape: tuple[int, ...], batch: int, device: str) -> AutoencoderTiming:
    """Pictures of `shape` through an untrained autoencoder of Stable Diffusion's size, `batch` together."""
    from ..networks.autoencoder import Autoencoder
    from . import tiny_networks  # here, and not above: diffusers and transformers take seconds to load

    network = Autoencoder(tiny_networks.autoencoder_model()).to(device).eval()
    images = torch.zeros(batch, *shape, device=device)
    latents = torch.zeros(batch, *network.latent_shape(shape), device=device)
    with one_thread():
        encode = _seconds(lambda: network.encode(images), device) / batch
        return AutoencoderTiming(encode, _seconds(lambda: network.decode(latents), device) / batch)


def clip(side: int, device: str) -> ClipTiming:
    """Captions, and pictures of `side` x `side` pixels, through an untrained CLIP as large as OpenAI's."""
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
    with one_thread():
        caption = _seconds(lambda: network.text(captions), device) / len(captions)
        return ClipTiming(caption, _seconds(lambda: network.image_features(images), device) / len(images))


def _extractor(name: str, shape: tuple[int, ...], weights: Path) -> Extractor:
    if name == "classifier":
        return Extractor("an untrained classifier", OnLevels(Classifier(shape, 10), 255))
    if weights.name == INCEPTION and weights.is_file():
        return inception(weights)
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=False, init_weights=False)
    network.fc = torch.nn.Identity()
    return Extractor("torchvision's Inception V3, untrained, in its place", network, CLEAN, clean)


def metrics(shape: tuple, extractor: str, dimension: int, weights: Path, device: str) -> MetricTiming:
    """The parts of image metrics for images of `shape`, features by "inception" or "classifier".

    Where Inception's `weights` are not there, torchvision's untrained one takes its place.
    """
    random = np.random.default_rng(SEED)
    pictures = random.integers(0, 256, (16, *shape), dtype=np.uint8)
    points = random.normal(size=(2 * max(dimension, 512), dimension))
    used, few = _extractor(extractor, shape, weights), points[:1000]
    with one_thread():
        both = moments(points), moments(points + 0.1)
        return MetricTiming(
            image=_seconds(lambda: extract(pictures, used, device=device)) / len(pictures),
            moment=_seconds(lambda: moments(points)) / len(points),
            distance=_seconds(lambda: frechet(*both)),
            kid=_seconds(lambda: kid(few, few, None)) / (3 * len(few) ** 2),
            pair=_seconds(lambda: precision_recall(few, few, NEIGHBOURS)) / (2 * len(few)) ** 2,
            extractor=used.name,
        )
