"""What is measured of a tier for its forecast: which part, at which batch, each kind of work once."""

import json
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

from .. import data
from ..data.formats.archives import ENVIRONMENT
from ..evaluation import sample
from ..networks.autoencoder import PIXELS_TOGETHER, TOGETHER
from ..settings.latents import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method
from ..training.pool import pool
from . import disk, timing, tiny_archives
from .settings import multiple, smallest_batch
from .timing import AutoencoderTiming, ClipTiming, MetricTiming, Noise, Timing

# what is timed where the true batch would take too long: points, images, and images of a caption
QUICK_POINTS, QUICK_IMAGES, QUICK_CAPTIONED = 1000, 4, 1
GB = 10**9
MEMINFO = Path("/proc/meminfo")


class TooLargeError(RuntimeError):
    """Work that this machine has not the memory to measure; the message says how much it takes."""


def available_memory() -> int:
    """Bytes that a process can have now; all that there are where the system does not say."""
    said = MEMINFO.read_text(encoding="utf-8") if MEMINFO.is_file() else ""
    if found := re.search(r"(?m)^MemAvailable:\s+(\d+) kB$", said):
        return 1024 * int(found[1])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


@contextmanager
def other_process() -> Iterator[Callable[..., Any]]:
    """`run(function, *arguments)` in a process of its own, with tiny archives for the published ones."""
    before = os.environ.get(ENVIRONMENT)
    with tempfile.TemporaryDirectory() as folder:
        tiny_archives.write(Path(folder))
        # the process inherits it: what is timed must not wait for archives that are not there yet
        os.environ[ENVIRONMENT] = folder
        try:
            with pool(1) as executor:
                yield lambda function, *arguments: executor.submit(function, *arguments).result()
        finally:
            os.environ.pop(ENVIRONMENT)
            if before is not None:
                os.environ[ENVIRONMENT] = before


class Measured:
    """Timings of the parts of `tier` on `device`, each by `run(function, *arguments)` and printed before.

    `inception` is where Inception's weights would lie. With `quick` small batches are timed, and what they
    say is scaled in proportion. Work that does not fit raises torch's OutOfMemoryError on a GPU, and
    TooLargeError on a CPU.
    """

    def __init__(self, tier: Tier, device: str, quick: bool, inception: Path, run: Callable[..., Any]):
        self.tier, self.device, self.quick, self.inception, self.run = tier, device, quick, inception, run
        self.known: dict[str, Any] = {}

    def _once(self, what: str, function: Callable, *arguments: Any, key: list | None = None) -> Any:
        """`function` of `arguments`; what has one `key` (without it, equal arguments) is measured once."""
        mark = json.dumps([function.__name__, *(key or arguments)], sort_keys=True, default=str)
        if mark not in self.known:
            print(f"measuring {what}", flush=True)
            self.known[mark] = self.run(function, *arguments)
        return self.known[mark]

    def _noise(self, experiment: ExperimentSettings) -> Noise:
        return Noise(self.tier.shape(experiment), disk.captions(self.tier, experiment))

    def _check_memory(self, wanted: int) -> None:
        """Raise TooLargeError where a CPU has not so many bytes: the process would be killed silently."""
        if self.device == "cpu" and wanted > (free := available_memory()):
            takes = f"it takes {wanted / GB:.0f} GB of memory and more"
            raise TooLargeError(f"not measured: {takes}, and {free / GB:.0f} GB are free here")

    def step(self, experiment: ExperimentSettings, method: Method) -> Timing:
        """One optimisation step."""
        training, noise = experiment.training, self._noise(experiment)
        batch = max(training.batch // self.tier.compute.of(training).processes, 2)
        if self.quick and len(noise.shape) > 1:
            least = smallest_batch([[term.share for term in method.terms]])
            batch = min(batch, multiple(least, [term.options.get("times", 1) for term in method.terms]))
        elif self.quick:
            batch = min(batch, QUICK_POINTS)
        self._check_memory(disk.held(experiment, method, noise.shape))
        shared = training.model_dump(exclude={"data", "seeds"}, exclude_none=True)
        own = method.model_dump(exclude={"label", "steps"}, exclude_none=True)
        what, key = f"a step of {method.label} on {training.data}, batch {batch}", [batch, shared, own, noise]
        return self._once(what, timing.step, training, method, self.device, batch, noise, key=key)

    def call(self, experiment: ExperimentSettings, method: Method) -> Timing:
        """One network call of a sampler."""
        network, noise = method.network or experiment.training.network, self._noise(experiment)
        batch = sample.together(len(noise.shape), noise.conditional, self.device)
        if self.quick and len(noise.shape) > 1:
            batch = QUICK_CAPTIONED if noise.conditional else QUICK_IMAGES
        self._check_memory(disk.FLOAT * disk.weights(experiment, method, noise.shape))
        what = f"a network call on {experiment.training.data}, batch {batch}"
        return self._once(what, timing.call, network, self.device, batch, noise)

    def metrics(self, shape: tuple[int, ...], extractor: str) -> MetricTiming:
        """The parts of image metrics."""
        dimension = disk.DIMENSIONS[extractor]
        what, where = f"metrics in {dimension} features", (self.inception, self.device)
        return self._once(what, timing.metrics, shape, extractor, dimension, *where)

    def autoencoder(self, latents: Latents) -> AutoencoderTiming:
        """What a published autoencoder takes for a picture; a small one, trained here, takes nothing."""
        if latents.autoencoder.kind != "pretrained":
            return AutoencoderTiming(0.0, 0.0)
        shape = data.load(latents.data).shape
        batch = 1 if self.quick else max(min(TOGETHER, PIXELS_TOGETHER // prod(shape[1:])), 1)
        what = f"an autoencoder of pictures of {latents.data}, batch {batch}"
        return self._once(what, timing.autoencoder, shape, batch, self.device)

    def clip(self, latents: Latents) -> ClipTiming:
        """What the published CLIP of latents takes; a small one that is trained here takes nothing."""
        if not latents.clip or self.tier.clip[latents.clip].kind != "published":
            return ClipTiming(0.0, 0.0)
        side = data.load(latents.data).shape[-1]
        return self._once("a CLIP of the published size", timing.clip, side, self.device)
