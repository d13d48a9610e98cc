"""Where the seconds of a forecast come from: work that is really done, in a process of its own, each kind once."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Callable
from math import prod
from pathlib import Path
from typing import Any, Protocol

from .. import data
from ..data.formats.archives import ENVIRONMENT, folder_of
from ..evaluation import sample
from ..metrics.features import INCEPTION
from ..networks.autoencoder import PIXELS_TOGETHER, TOGETHER
from ..settings.latents import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method
from ..training.pool import pool
from . import disk, memory, rates, tiny_archives
from .rates import ClipPaces, CoderPaces, MetricPaces, Pace
from .settings import multiple, smallest_batch

# what is timed where the true batch would take too long: points, images of a sampled batch, and those that are told texts
QUICK_POINTS, QUICK_IMAGES, QUICK_TOLD = 1000, 4, 1
GB = 10**9


class TooLargeError(RuntimeError):
    """Work that is not measured, because this machine has not the memory for it; the message says how much it takes."""


class Clock(Protocol):
    """Where the seconds come from. Work on a GPU raises torch's OutOfMemoryError, and on a CPU TooLargeError, where it does not fit."""

    def step(self, experiment: ExperimentSettings, method: Method) -> Pace:
        """One optimisation step."""
        ...

    def call(self, experiment: ExperimentSettings, method: Method) -> Pace:
        """One network call of a sampler."""
        ...

    def metrics(self, shape: tuple[int, ...], extractor: str) -> MetricPaces:
        """The parts of image metrics."""
        ...

    def coder(self, latents: Latents) -> CoderPaces:
        """What a published autoencoder takes for a picture."""
        ...

    def clip(self, side: int) -> ClipPaces:
        """What a published CLIP takes for a text, and for a picture `side` pixels wide and high."""
        ...


class Measured:
    """A `Clock` that measures on `device` in one process of its own, each kind of work once.

    With `quick` small batches are timed, and what they say is scaled in proportion. Use it as a context.
    """

    def __init__(self, tier: Tier, device: str, quick: bool, said: Callable[[str], None]):
        self.tier, self.device, self.quick, self.said = tier, device, quick, said
        self.known: dict[str, Any] = {}

    def __enter__(self) -> Measured:
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

    def _key(self, experiment: ExperimentSettings, method: Method) -> list:
        shared = experiment.training.model_dump(exclude={"data", "seeds"}, exclude_none=True)
        own = method.model_dump(exclude={"label", "steps"}, exclude_none=True)
        return [shared, own, self.tier.shape(experiment), disk.texts(self.tier, experiment)]

    def _check_memory(self, wanted: int) -> None:
        """Raise TooLargeError where a CPU's memory does not hold so many bytes: the process would be killed, and say nothing."""
        if self.device == "cpu" and wanted > (there := memory.available()):
            raise TooLargeError(
                f"not measured: it takes {wanted / GB:.0f} GB of memory and more, and {there / GB:.0f} GB are free here"
            )

    def step(self, experiment: ExperimentSettings, method: Method) -> Pace:
        training = experiment.training
        batch = max(training.batch // self.tier.compute.of(training).processes, 2)
        if self.quick:
            least = multiple(
                smallest_batch([[term.share for term in method.terms]]),
                [term.options.get("times", 1) for term in method.terms],
            )
            batch = min(batch, least if len(self.tier.shape(experiment)) > 1 else QUICK_POINTS)
        shape, texts = self.tier.shape(experiment), disk.texts(self.tier, experiment)
        self._check_memory(disk.held(experiment, method, shape))
        what = f"a step of {method.label} on {training.data}, batch {batch}"
        return self._once(
            what,
            [batch, *self._key(experiment, method)],
            rates.step,
            training,
            method,
            self.device,
            batch,
            shape,
            texts,
        )

    def call(self, experiment: ExperimentSettings, method: Method) -> Pace:
        training, shape, texts = (
            experiment.training,
            self.tier.shape(experiment),
            disk.texts(self.tier, experiment),
        )
        network = (method.network or training.network).model_dump()
        batch = sample.together(len(shape), texts is not None, self.device)
        if self.quick and len(shape) > 1:
            batch = QUICK_TOLD if texts else QUICK_IMAGES
        self._check_memory(disk.FLOAT * disk.weights(experiment, method, shape))
        what = f"a network call on {training.data}, batch {batch}"
        return self._once(
            what,
            [batch, network, shape, texts],
            rates.call,
            training,
            method,
            self.device,
            batch,
            shape,
            texts,
        )

    def metrics(self, shape: tuple[int, ...], extractor: str) -> MetricPaces:
        dimension = disk.DIMENSIONS[extractor]
        arguments = (shape, extractor, dimension, self.weights, self.device)
        return self._once(f"metrics in {dimension} features", [shape, extractor], rates.metrics, *arguments)

    def coder(self, latents: Latents) -> CoderPaces:
        shape = data.load(latents.data).shape
        batch = 1 if self.quick else max(min(TOGETHER, PIXELS_TOGETHER // prod(shape[1:])), 1)
        return self._once(
            f"an autoencoder of pictures of {latents.data}, batch {batch}",
            [shape, batch],
            rates.coder,
            shape,
            batch,
            self.device,
        )

    def clip(self, side: int) -> ClipPaces:
        return self._once("a CLIP of the published size", [side], rates.clip, side, self.device)
