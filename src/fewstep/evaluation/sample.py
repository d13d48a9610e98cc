"""Samples of every method, by number of steps, training seed and sampling seed, as arrays on disk."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .. import data
from ..flows import samplers
from ..flows.conditioning import Conditions, conditioned
from ..flows.exact.checkerboard import CheckerboardMap
from ..flows.flow_map import FlowMap
from ..flows.slerp import slerp
from ..networks import load_decoder, load_flow_map
from ..settings.tiers import ExperimentSettings
from ..storage.checkpoint import CheckpointError
from ..storage.files import write_atomically
from ..storage.progress import Progress
from ..training import weights as training_weights
from ..training.experiment import Experiment
from ..training.pool import run_all
from . import prompts
from .csv_files import TEXT, WHOLE, DamagedFileError, read

EXACT = "exact"
INDEX = {"method": TEXT, "network": TEXT, "sampler": TEXT, "nfe": WHOLE, "count": WHOLE, "file": TEXT}
REDRAW = "draw the experiment's samples again"
# images of each array that pictures show
SHOWN = 8
# what the seeds of noise are counted from, and those of the noise that a stochastic sampler adds
NOISE, FURTHER_NOISE = 1_000_003, 6_000_011
# samples a network call: a core's cache holds them; a GPU takes more, but fewer of those with captions
POINTS, IMAGES, IMAGES_ON_CUDA, CAPTIONED_ON_CUDA = 500, 125, 1000, 64
# the numbers of steps that pictures of many methods show
SHOWN_STEPS = (1, 2, 4, 8, 16)


@dataclass(frozen=True)
class Draw:
    """One array of samples: which row of the tables, by whose map, from which noise, in how many steps.

    method      the row: a further solver of a method's velocity is one of its own
    network     the method whose network draws it
    train_seed  -1 for `exact`
    """

    method: str
    network: str
    sampler: str
    steps: int
    train_seed: int
    sample_seed: int

    @property
    def name(self) -> str:
        """The array's file, below the experiment's folder of samples."""
        seeds = f"train{self.train_seed}-sample{self.sample_seed}"
        return f"{self.network}-{self.sampler}{self.steps}-{seeds}.npy"


def noise(settings: ExperimentSettings, sample_seed: int, data_folder: Path | None = None) -> torch.Tensor:
    """The noise of a sampling seed, (count, *shape), the same for every method; `data_folder`: of latents."""
    source = data.load(settings.training.data, data_folder, load_decoder)
    generator = torch.Generator().manual_seed(NOISE + sample_seed)
    return torch.randn(settings.sampling.count, *source.shape, generator=generator) * source.scale


def plan(settings: ExperimentSettings) -> list[Draw]:
    """Every array of an experiment; `exact` is drawn by the exact map (one jump) or velocity (Euler).

    Raises ValueError for settings that name one twice, as means would count it twice, or no steps.
    """
    sampling, seeds = settings.sampling, settings.training.seeds
    rows = []
    for method, all_steps in sampling.steps.items():
        for n in all_steps:
            sampler = ("jumps" if n == 1 else "euler") if method == EXACT else sampling.samplers[method]
            rows.append((method, method, sampler, n, [-1] if method == EXACT else seeds))
    for method, solvers in sampling.solvers.items():
        for solver, all_steps in solvers.items():
            rows += [(f"{method}-{solver}", method, solver, n, seeds) for n in all_steps]
    draws = [Draw(*row, seed, noise) for *row, own in rows for seed in own for noise in sampling.seeds]
    if bad := next((own for own, times in Counter(draws).items() if times > 1 or own.steps < 1), None):
        said = f"{bad.method} at {bad.steps} steps, sampling seed {bad.sample_seed}, "
        said += "cannot be drawn: give 1 or more" if bad.steps < 1 else "would be drawn twice: name it once"
        raise ValueError(f"{said} in `sampling.steps` and `sampling.seeds` of params.yaml")
    return draws


def labels(settings: ExperimentSettings) -> dict[str, str]:
    """What each row of the tables is called: the method's label, and a further solver's name."""
    own = {name: method.label for name, method in settings.methods.items()} | {EXACT: EXACT}
    solvers = settings.sampling.solvers.items()
    return own | {f"{name}-{s}": f"{own[name]}, {s}" for name, further in solvers for s in further}


def together(dimensions: int, conditions: bool, device: str) -> int:
    """How many samples of so many `dimensions`, captioned or not, a network takes in one call."""
    if dimensions == 1:
        return POINTS
    return IMAGES if device != "cuda" else CAPTIONED_ON_CUDA if conditions else IMAGES_ON_CUDA


def sample(
    flow_map: FlowMap,
    sampler: str,
    x0: torch.Tensor,
    steps: int,
    sample_seed: int = 0,
    conditions: Conditions | None = None,
    empty: Conditions | None = None,
    scale: float | None = None,
) -> samplers.Samples:
    """`sampler` from the noise `x0` (count, ...), chunk by chunk, with the mean calls a sample, rounded.

    A stochastic one draws further noise from `sample_seed` and needs `scale`, the deviation of `x0`; `empty`
    is the empty one of the captions.
    """
    move = samplers.named(sampler, torch.Generator().manual_seed(FURTHER_NOISE + sample_seed), scale)
    chunk = together(x0.ndim - 1, conditions is not None, x0.device.type)
    parts = []
    for start, some in zip(range(0, len(x0), chunk), x0.split(chunk)):
        captions = None if conditions is None else conditions.part(start, start + chunk)
        parts.append(move(conditioned(flow_map, captions, empty), some, steps))
    calls = sum(p.nfe * len(p.points) for p in parts) / len(x0)
    return samplers.Samples(torch.cat([p.points for p in parts]), round(calls))


def draw_one(
    settings: ExperimentSettings,
    draw: Draw,
    weights: Path | None,
    folder: Path,
    device: str,
    data_folder: Path | None,
    conditions: Path | None = None,
) -> dict:
    """Draw the array `draw` by the flow map in `weights` into `folder`; returns its row of the index."""
    flow_map = load_flow_map(weights, device) if weights else CheckerboardMap().to(device)
    source = data.load(settings.training.data, data_folder, load_decoder)
    captions = prompts.conditions(conditions).to(device) if conditions else None
    empty = source.empty.to(device) if conditions else None
    x0 = noise(settings, draw.sample_seed, data_folder).to(device)
    drawn = sample(flow_map, draw.sampler, x0, draw.steps, draw.sample_seed, captions, empty, source.scale)
    points = drawn.points
    if not points.isfinite().all():
        cure = "its training diverged; lower optimiser.lr"
        raise CheckpointError(f"{weights} gives samples that are not finite: {cure}")
    if points.ndim > 2:
        # as one would store them, and some at a time: all of an array as floats may exceed the memory
        points = torch.cat([source.to_uint8(some).cpu() for some in points.split(IMAGES)])
    np.save(folder / draw.name, points.cpu().numpy())
    return asdict(draw) | {"nfe": drawn.nfe, "count": len(points), "file": draw.name}


def read_index(folder: Path, settings: ExperimentSettings) -> pd.DataFrame:
    """The index that `draw` has stored; DamagedFileError unless it is whole and of these settings."""
    path, drawn, wanted = folder / "index.csv", [field.name for field in fields(Draw)], plan(settings)
    index = read(path, dict.fromkeys(drawn, WHOLE) | INDEX, REDRAW)
    found = {Draw(*row) for row in index[drawn].itertuples(index=False, name=None)}
    if lacking := [draw.name for draw in wanted if draw not in found]:
        raise DamagedFileError(f"{path} lacks {lacking[0]}, which the settings ask for: {REDRAW}")
    if len(index) > len(wanted) or (index["count"] != settings.sampling.count).any():
        asked = f"{len(wanted)} arrays of {settings.sampling.count} samples"
        raise DamagedFileError(f"{path} says other than the {asked} of the settings: {REDRAW}")
    return index


def opened(path: Path, count: int) -> np.ndarray:
    """The stored samples, memory-mapped; DamagedFileError unless there are `count` of them."""
    try:
        points = np.load(path, mmap_mode="r")
    except (OSError, ValueError, EOFError) as error:
        raise DamagedFileError(f"the samples {path} cannot be read ({error}): {REDRAW}") from None
    if points.ndim < 2 or len(points) != count:
        said = f"{path} has the shape {points.shape}, and `sampling.count` is {count}"
        raise DamagedFileError(f"{said}: {REDRAW}")
    return points


def draw(experiment: Experiment) -> pd.DataFrame:
    """Draw everything in `plan` into an experiment's `samples` folder; returns its index, one row an array.

    The index is stored as index.csv; its columns are those of Draw, nfe, count and file.
    """
    settings, found, data_folder = experiment.settings, experiment.workspace.read, experiment.data_folder
    # what cannot be drawn is refused while everything is as it was
    draws, trainings = plan(settings), product(settings.methods, settings.training.seeds)
    weights = {own: found(training_weights.weights_file(experiment, *own)) for own in trainings}
    folder, compute = experiment.workspace.write(f"samples/{experiment.name}"), experiment.compute
    folder.mkdir(exist_ok=True)
    conditions = prompts.prepare(experiment, folder) if settings.sampling.prompts else None
    where = folder, compute.device, data_folder, conditions
    jobs = [(settings, own, weights.get((own.network, own.train_seed)), *where) for own in draws]
    with Progress(len(jobs), "sampling") as bar:
        index = pd.DataFrame(run_all(draw_one, jobs, compute.workers, bar.update))
    write_atomically(folder / "index.csv", index.to_csv(index=False).encode())
    return index


def points(experiment: Experiment, method: str, steps: int, count: int | None = None) -> np.ndarray:
    """A method's samples of its first seeds, (count, *shape), images in [-1, 1]; ValueError if not drawn."""
    settings, folder = experiment.settings, experiment.workspace.read(f"samples/{experiment.name}")
    names = [own.name for own in plan(settings) if (own.method, own.steps) == (method, steps)]
    if not names:
        cure = "`sampling.steps` in params.yaml must draw them"
        raise ValueError(f"no samples of {method} at {steps} steps: {cure}")
    # memory-mapped: an array of large images may be more than there is memory
    found = np.array(opened(folder / names[0], settings.sampling.count)[:count])
    if found.dtype != np.uint8:
        return found
    return found.astype(np.float32) / (experiment.source.top / 2) - 1


def panels(
    experiment: Experiment, methods: Sequence[str] | None = None, shown: Sequence[int] | None = None
) -> dict[str, dict[str, np.ndarray]]:
    """All points, or the first images, by label and steps: of `methods` (all), in the steps `shown` (all)."""
    names, count = labels(experiment.settings), SHOWN if experiment.settings.metrics.of_images else None
    steps = experiment.settings.sampling.steps
    return {
        names[m]: {f"N = {n}": points(experiment, m, n, count) for n in steps[m] if not shown or n in shown}
        for m in (steps if methods is None else methods)
        if steps.get(m)
    }


def between(experiment: Experiment, count: int) -> dict[str, np.ndarray]:
    """Images of `count` noises on a great circle, by method and its fewest steps, of its first seed."""
    settings, source, found = experiment.settings, experiment.source, {}
    x0 = slerp(*noise(settings, settings.sampling.seeds[0], experiment.data_folder)[:2], count)
    for method, steps in settings.sampling.steps.items():
        if steps:
            flow_map = training_weights.first_flow_map(experiment, method)
            drawn = sample(flow_map, settings.sampling.samplers[method], x0, min(steps)).points
            if experiment.data_folder:
                drawn = source.to_uint8(drawn) / (source.top / 2) - 1
            found[f"{labels(settings)[method]}, N = {min(steps)}"] = drawn.numpy()
    return found


def counted(index: pd.DataFrame) -> pd.DataFrame:
    """What was drawn, for people: by method and steps, the counted network calls and the number of arrays."""
    grouped, each = index.groupby(["method", "sampler", "steps"], sort=False), ("count", "first")
    return grouped.agg(network_calls=("nfe", "first"), arrays=("file", "size"), samples_each=each)
