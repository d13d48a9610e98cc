"""Seconds of the work that a tier is made of, measured on this machine: optimisation steps, network calls, autoencoders, CLIPs, metrics.

Everything is measured by the code that will run, on synthetic inputs, in a process of its own: no archive is needed
and no state is left.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from .. import data
from ..evaluation.measure_images import NEIGHBOURS
from ..flows.conditioning import Conditions, conditioned, is_conditional
from ..metrics.features import CLEAN, INCEPTION, Extractor, clean, extract, inception
from ..metrics.frechet import frechet, moments
from ..metrics.kid import kid
from ..metrics.precision_recall import precision_recall
from ..networks.classifier import Classifier
from ..settings.training import Method, Training
from ..storage.checkpoint import save_checkpoint
from ..training.job import Job, advance
from ..training.pool import one_thread

# the clock runs at least so long; what takes longer by itself is not waited for a second time
SECONDS, LONG = 2.0, 10.0
SEED = 5_000_011


@dataclass(frozen=True)
class Pace:
    """Seconds of one step or call at `batch`, and the most memory that it took on the GPU (None elsewhere)."""

    seconds: float
    batch: int
    device_bytes: int | None = None


@dataclass(frozen=True)
class MetricPaces:
    """Seconds of the parts of image metrics: features of one image; moments of one sample; one Fréchet distance, the moments

    apart; one pair of samples in KID; one in precision and recall. `extractor` says what the features were made by.
    """

    image: float
    moment: float
    distance: float
    kid: float
    pair: float
    extractor: str


@dataclass(frozen=True)
class CoderPaces:
    """Seconds that a published autoencoder takes to encode one picture, and to decode one."""

    encode: float
    decode: float


@dataclass(frozen=True)
class ClipPaces:
    """Seconds that a published CLIP takes to read one text, and to look at one picture."""

    text: float
    image: float


@dataclass(frozen=True)
class _Noise:
    """A data set that is noise, of the shape of latents: what they hold costs no time.

    texts  where latents come with texts, their tokens and the numbers a token: these are noise too
    """

    shape: tuple[int, ...]
    texts: tuple[int, int] | None = None
    scale: float = 1.0

    @property
    def conditional(self) -> bool:
        """Whether every point comes with a text."""
        return self.texts is not None

    @property
    def empty(self) -> Conditions:
        """The empty text, a batch of one, on the CPU as that of latents is."""
        return Conditions(torch.zeros(1, *self.texts), torch.ones(1, self.texts[0], dtype=torch.bool))

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, *self.shape, generator=generator, device=generator.device)

    def sample_with_conditions(
        self, count: int, generator: torch.Generator
    ) -> tuple[torch.Tensor, Conditions]:
        hidden = torch.randn(count, *self.texts, generator=generator, device=generator.device)
        return self.sample(count, generator), Conditions(
            hidden, torch.ones(hidden.shape[:2], dtype=torch.bool, device=hidden.device)
        )


@dataclass(frozen=True)
class _Timed(Job):
    """A training that is timed, on latents that no stage has made yet where it is one on latents."""

    shape: tuple[int, ...] = ()
    texts: tuple[int, int] | None = None

    @property
    def source(self) -> data.DataSource:
        return _Noise(self.shape, self.texts) if self.training.latents else super().source


class _Enough(Exception):
    """Stops a training that is only timed."""


def _peak(device: str) -> int | None:
    return torch.cuda.max_memory_allocated() if device == "cuda" else None


def step(
    training: Training,
    method: Method,
    device: str,
    batch: int,
    shape: tuple[int, ...],
    texts: tuple[int, int] | None = None,
) -> Pace:
    """One optimisation step of a method at `batch`, by the training loop itself, on points of `shape`; an untrained network teaches.

    `texts` are the tokens and the width of the texts that come with the points, if any do. What torch raises comes through, OutOfMemoryError among it.
    """
    ticks: list[tuple[float, int]] = []

    def tick(done: int) -> None:
        ticks.append((time.perf_counter(), done))
        if len(ticks) > 1 and ticks[-1][0] - ticks[0][0] > SECONDS:
            raise _Enough

    with tempfile.TemporaryDirectory() as folder:
        own = training.model_copy(update={"batch": batch})
        job = _Timed(
            own, method, 0, Path(folder) / "state.safetensors", None, device, shape=shape, texts=texts
        )
        if method.teacher:
            taught_by = Path(folder) / "teacher.safetensors"
            weights = {f"weights.{name}": value for name, value in job.fresh().state_dict().items()}
            save_checkpoint(taught_by, weights, {"network": job.network.model_dump(), "shape": list(shape)})
            job = replace(job, teacher=taught_by)
        if device == "cuda":
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        try:
            advance(job, "timed", method.steps, tick)
        except _Enough:
            pass
    if len(ticks) < 2:
        raise ValueError(
            f"{method.steps} steps are over before they can be timed: nothing needs to be forecast"
        )
    (start, first), (end, last) = ticks[0], ticks[-1]
    return Pace((end - start) / (last - first), batch, _peak(device))


def _seconds(work: Callable[[], object], device: str = "cpu") -> float:
    """Seconds of one `work`, the mean of as many as fill the clock, after one that does not count unless it takes long."""
    taken: list[float] = []
    while len(taken) < 2 or sum(taken[1:]) < SECONDS:
        start = time.perf_counter()
        work()
        if device == "cuda":
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
        if taken[0] > LONG:
            return taken[0]
    return sum(taken[1:]) / len(taken[1:])


@torch.no_grad()
def call(
    training: Training,
    method: Method,
    device: str,
    batch: int,
    shape: tuple[int, ...],
    texts: tuple[int, int] | None = None,
) -> Pace:
    """One call of a method's network, as sampling makes it, for `batch` samples of `shape`, each told a text where there are `texts`."""
    # sampling evaluates the plain network, whatever training makes of it
    plain = training.model_copy(update={"compile": None, "cuda_graphs": None, "channels_last": None})
    job = _Timed(plain, method, 0, Path(), None, device, shape=shape, texts=texts)
    flow_map = job.fresh().eval()
    if is_conditional(job.source):
        flow_map = conditioned(flow_map, job.source.empty.times(batch).to(device))
    x = torch.randn(batch, *shape, device=device)
    zero, one = torch.zeros(batch, device=device), torch.ones(batch, device=device)
    with one_thread():
        return Pace(_seconds(lambda: flow_map.jump(zero, one, x), device), batch, _peak(device))


@torch.no_grad()
def coder(shape: tuple[int, ...], batch: int, device: str) -> CoderPaces:
    """Encoding and decoding of pictures of `shape` by an untrained autoencoder of Stable Diffusion's size, `batch` together."""
    from ..networks.autoencoder import Autoencoder
    from . import tiny_networks  # here, and not above: diffusers and transformers take seconds to load

    network = Autoencoder(tiny_networks.autoencoder_model()).to(device).eval()
    images, latents = (
        torch.zeros(batch, *shape, device=device),
        torch.zeros(batch, *network.latent_shape(shape), device=device),
    )
    with one_thread():
        return CoderPaces(
            *(
                _seconds(work, device) / batch
                for work in (lambda: network.encode(images), lambda: network.decode(latents))
            )
        )


def clip(side: int, device: str) -> ClipPaces:
    """Texts and pictures, `side` pixels wide and high, through an untrained CLIP of the sizes of OpenAI's large one."""
    from ..networks.clip import NUMBERS_TOGETHER, Clip, Preparation
    from . import tiny_networks

    words, sizes = tiny_networks.tokenizer(), tiny_networks.LARGE
    own = sizes["vision"]
    ready = Preparation(
        own["image_size"], *(tuple(tiny_networks.PREPARATION[name]) for name in ("image_mean", "image_std"))
    )
    network = Clip(tiny_networks.clip_model(words, **sizes), words, ready).to(device).eval()
    # as many as go through a tower together
    texts = ["a boat by a lake"] * (NUMBERS_TOGETHER // (network.length * network.width))
    images = torch.zeros(
        NUMBERS_TOGETHER // (((own["image_size"] // own["patch_size"]) ** 2 + 1) * own["hidden_size"]),
        3,
        side,
        side,
    )
    with one_thread():
        return ClipPaces(
            _seconds(lambda: network.text(texts), device) / len(texts),
            _seconds(lambda: network.image_features(images), device) / len(images),
        )


def _like_inception() -> Extractor:
    from torchvision.models import inception_v3

    network = inception_v3(weights=None, aux_logits=False, init_weights=False)
    network.fc = torch.nn.Identity()
    return Extractor("torchvision's Inception V3, untrained, in its place", network, CLEAN, clean)


def metrics(
    shape: tuple[int, ...], extractor: str, dimension: int, weights: Path, device: str
) -> MetricPaces:
    """The parts of image metrics for images of `shape` in `dimension` features of `extractor`: "inception" or "classifier".

    Inception is read from `weights` where they are, and torchvision's untrained one takes its place where they are not.
    """
    random = np.random.default_rng(SEED)
    pictures, points = (
        random.integers(0, 256, (16, *shape), dtype=np.uint8),
        random.normal(size=(2 * max(dimension, 512), dimension)),
    )
    if extractor == "classifier":
        used = Extractor("an untrained classifier", _Features(Classifier(shape, 10)))
    else:
        used = inception(weights) if (weights.name == INCEPTION and weights.is_file()) else _like_inception()
    few = points[:1000]
    with one_thread():
        image = _seconds(lambda: extract(pictures, used, device=device)) / len(pictures)
        moment = _seconds(lambda: moments(points)) / len(points)
        both = moments(points), moments(points + 0.1)
        distance = _seconds(lambda: frechet(*both))
        of_kid = _seconds(lambda: kid(few, few, None)) / (3 * len(few) ** 2)
        pair = _seconds(lambda: precision_recall(few, few, NEIGHBOURS)) / (2 * len(few)) ** 2
    return MetricPaces(image, moment, distance, of_kid, pair, used.name)


class _Features(torch.nn.Module):
    """A classifier as an extractor of its features."""

    def __init__(self, classifier: Classifier):
        super().__init__()
        self.classifier = classifier

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.classifier.features(images / 127.5 - 1)
