"""Stage 3: samples of every method, by number of steps, training seed and sampling seed, as arrays on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
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
from ..networks import load_decoder
from ..networks.load import load_flow_map
from ..settings.tiers import Compute, ExperimentSettings
from ..storage.checkpoint import CheckpointError
from ..storage.progress import Progress
from ..training import weights as training_weights
from ..training.experiment import Experiment
from ..training.pool import run_all
from ..training.weights import weights_file
from . import prompts

EXACT = "exact"
# images of each array that pictures show
SHOWN = 8
# what the seeds of noise are counted from, and those of the noise that a stochastic sampler adds
NOISE, FURTHER_NOISE = 1_000_003, 6_000_011
# Samples per network call: enough to keep the core busy, few enough to stay in its cache; a GPU wants more, but of the networks
# that are conditions texts, under guidance twice as many, fewer than its memory holds.
POINTS, IMAGES, IMAGES_ON_CUDA, TOLD_ON_CUDA = 500, 125, 1000, 64


@dataclass(frozen=True)
class Draw:
    """One array of samples: which row of the table, by which method's map, from which noise, in how many steps.

    `train_seed` is -1 for `exact`. A further solver of a method's velocity is a row of its own.
    """

    method: str
    trained: str
    sampler: str
    steps: int
    train_seed: int
    sample_seed: int

    @property
    def name(self) -> str:
        """The array's file, below the experiment's folder of samples."""
        return (
            f"{self.trained}-{self.sampler}{self.steps}-train{self.train_seed}-sample{self.sample_seed}.npy"
        )


def noise(settings: ExperimentSettings, sample_seed: int, data_folder: Path | None = None) -> torch.Tensor:
    """The noise of a sampling seed, (count, *shape): the same for every method, so that maps can be compared.

    `data_folder` is the folder of data that a stage data_folder.
    """
    source = data.load(settings.training.data, data_folder, load_decoder)
    generator = torch.Generator().manual_seed(NOISE + sample_seed)
    return torch.randn(settings.sampling.count, *source.shape, generator=generator) * source.scale


def plan(settings: ExperimentSettings) -> list[Draw]:
    """Every array of an experiment; `exact` is drawn by a perfect map (one jump) or the exact velocity (Euler)."""
    draws, sampling = [], settings.sampling
    for method, all_steps in sampling.steps.items():
        seeds = [-1] if method == EXACT else settings.training.seeds
        for steps in all_steps:
            sampler = ("jumps" if steps == 1 else "euler") if method == EXACT else sampling.samplers[method]
            draws += [
                Draw(method, method, sampler, steps, seed, noise)
                for seed in seeds
                for noise in sampling.seeds
            ]
    for method, solvers in sampling.solvers.items():
        for solver, all_steps in solvers.items():
            seeds = [(seed, noise) for seed in settings.training.seeds for noise in sampling.seeds]
            draws += [
                Draw(f"{method}-{solver}", method, solver, steps, *pair)
                for steps in all_steps
                for pair in seeds
            ]
    return draws


def labels(settings: ExperimentSettings) -> dict[str, str]:
    """What each row of the tables is called, by method: the label in params.yaml, with the solver where it is a further one."""
    own = {name: method.label for name, method in settings.methods.items()} | {EXACT: EXACT}
    solvers = {
        f"{name}-{solver}": f"{own[name]}, {solver}"
        for name, all_ in settings.sampling.solvers.items()
        for solver in all_
    }
    return own | solvers


def together(dimensions: int, conditions: bool, device: str) -> int:
    """How many samples, of so many `dimensions` each, go through a network in one call; `conditions`: whether each with a text."""
    if dimensions == 1:
        return POINTS
    return IMAGES if device != "cuda" else TOLD_ON_CUDA if conditions else IMAGES_ON_CUDA


def sample(
    flow_map: FlowMap,
    sampler: str,
    x0: torch.Tensor,
    steps: int,
    sample_seed: int = 0,
    conditions: Conditions | None = None,
    empty: Conditions | None = None,
) -> samplers.Samples:
    """`sampler` from the noise `x0` (count, ...), chunk by chunk; the calls are counted per sample.

    An adaptive solver takes as many calls as each chunk needs; their mean is rounded. A stochastic one draws its further
    noise from a generator that `sample_seed` decides. `conditions` are the texts of the samples, and `empty` the empty one.
    """
    move = samplers.named(sampler, torch.Generator().manual_seed(FURTHER_NOISE + sample_seed))
    chunk = together(x0.ndim - 1, conditions is not None, x0.device.type)
    texts = [
        None if conditions is None else conditions.part(start, start + chunk)
        for start in range(0, len(x0), chunk)
    ]
    parts = [
        move(conditioned(flow_map, text, empty), some, steps) for some, text in zip(x0.split(chunk), texts)
    ]
    calls = sum(p.nfe * len(p.points) for p in parts) / len(x0)
    return samplers.Samples(torch.cat([p.points for p in parts]), round(calls))


def _draw(
    settings: ExperimentSettings,
    draw: Draw,
    weights: Path | None,
    folder: Path,
    device: str,
    data_folder: Path | None,
    conditions: Path | None = None,
) -> dict:
    flow_map, source = (
        load_flow_map(weights, device) if weights else CheckerboardMap().to(device),
        data.load(settings.training.data, data_folder, load_decoder),
    )
    texts = prompts.conditions(conditions).to(device) if conditions else None
    empty = source.empty.to(device) if conditions else None
    drawn = sample(
        flow_map,
        draw.sampler,
        noise(settings, draw.sample_seed, data_folder).to(device),
        draw.steps,
        draw.sample_seed,
        texts,
        empty,
    )
    points = drawn.points
    if not points.isfinite().all():
        raise CheckpointError(
            f"{weights} gives samples that are not finite: its training diverged; lower optimiser.rate"
        )
    if points.ndim > 2:
        # what is measured is an image as one would store it. Latents are decoded where they are, some at a time: all images of
        # an array, as floats, may be more than there is memory
        points = torch.cat([source.to_uint8(some).cpu() for some in points.split(IMAGES)])
    points = points.cpu()
    np.save(folder / draw.name, points.numpy())
    return asdict(draw) | {"nfe": drawn.nfe, "count": len(points), "file": draw.name}


def sample_all(
    settings: ExperimentSettings,
    weights: dict[tuple[str, int], Path],
    folder: Path,
    compute: Compute,
    data_folder: Path | None = None,
    conditions: Path | None = None,
) -> pd.DataFrame:
    """Draw everything in `plan` into `folder`; returns (and stores as index.csv) one row an array.

    `weights` gives the file of each (method, training seed), `data_folder` the folder of data that a stage data_folder, and `conditions` that of the prompts, if any. Columns: method, trained, sampler, steps,
    train_seed, sample_seed, nfe (counted), count, file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draws = plan(settings)
    jobs = [
        (settings, d, weights.get((d.trained, d.train_seed)), folder, compute.device, data_folder, conditions)
        for d in draws
    ]
    with Progress(len(jobs), "sampling") as bar:
        rows = run_all(_draw, jobs, compute.workers, bar.update)
    index = pd.DataFrame(rows)
    index.to_csv(folder / "index.csv", index=False)
    return index


def draw(experiment: Experiment) -> pd.DataFrame:
    """Draw all samples of an experiment into its `samples` folder; returns the index, one row an array."""
    settings = experiment.settings
    weights = {
        (method, seed): experiment.workspace.read(weights_file(experiment, method, seed))
        for method in settings.methods
        for seed in settings.training.seeds
    }
    folder = experiment.workspace.write(f"samples/{experiment.name}")
    conditions = prompts.prepare(experiment, folder) if settings.sampling.prompts else None
    return sample_all(settings, weights, folder, experiment.compute, experiment.data_folder, conditions)


def points(experiment: Experiment, method: str, steps: int, count: int | None = None) -> np.ndarray:
    """The samples (count, *shape) of a method at its first training and sampling seed, or the first `count`; KeyError when not drawn.

    Images are float32 in [-1, 1].
    """
    folder = experiment.workspace.read(f"samples/{experiment.name}")
    index = pd.read_csv(folder / "index.csv")
    rows = index[(index.method == method) & (index.steps == steps)]
    if rows.empty:
        raise KeyError(
            f"no samples of {method} at {steps} steps: `sampling.steps` in params.yaml must draw them"
        )
    # no more of it is read than is asked for: an array of large images may be more than there is memory
    found = np.array(np.load(folder / rows.iloc[0].file, mmap_mode="r")[:count])
    if found.dtype != np.uint8:
        return found
    return found.astype(np.float32) / (experiment.source.top / 2) - 1


def panels(experiment: Experiment) -> dict[str, dict[str, np.ndarray]]:
    """Samples of every method by number of steps, labelled for a grid of pictures: all points, or the first images."""
    label, count = labels(experiment.settings), SHOWN if experiment.settings.metrics.of_images else None
    return {
        label[m]: {f"N = {n}": points(experiment, m, n, count) for n in steps}
        for m, steps in experiment.settings.sampling.steps.items()
        if steps
    }


def between(experiment: Experiment, count: int) -> dict[str, np.ndarray]:
    """What every method makes of `count` noises on the great circle from one to another, in its fewest calls, by label.

    The maps of the first training seed; images (count, *shape), float32.
    """
    settings, label = experiment.settings, labels(experiment.settings)
    ends = noise(settings, settings.sampling.seeds[0], experiment.data_folder)[:2]
    x0, found = slerp(ends[0], ends[1], count), {}
    for method, steps in settings.sampling.steps.items():
        if steps:
            drawn = sample(
                training_weights.first_flow_map(experiment, method),
                settings.sampling.samplers[method],
                x0,
                min(steps),
            )
            points = (
                drawn.points
                if experiment.data_folder is None
                else experiment.source.to_uint8(drawn.points) / (experiment.source.top / 2) - 1
            )
            found[f"{label[method]}, N = {min(steps)}"] = points.numpy()
    return found


def counted(index: pd.DataFrame) -> pd.DataFrame:
    """What was drawn, for people: by method and steps, the counted network calls and the number of arrays."""
    grouped = index.groupby(["method", "sampler", "steps"], sort=False)
    return grouped.agg(
        network_calls=("nfe", "first"), arrays=("file", "size"), samples_each=("count", "first")
    )
