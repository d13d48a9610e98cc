"""Stage 3: samples of every method, by number of steps, training seed and sampling seed, as arrays on disk."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from . import data, samplers
from .checkpoint import CheckpointError
from .experiments import Compute, Experiment
from .flow_map import FlowMap
from .parallel import run_all
from .progress import Progress
from .study import Study
from .trained import load_flow_map, weights_file
from .worlds.checkerboard import CheckerboardMap

EXACT = "exact"
# Points per network call: enough to keep the core busy, few enough to stay in its cache.
CHUNK = 500


@dataclass(frozen=True)
class Draw:
    """One array of samples: which map, from which noise, in how many steps. `train_seed` is -1 for `exact`."""

    method: str
    sampler: str
    steps: int
    train_seed: int
    sample_seed: int

    @property
    def name(self) -> str:
        """The array's file, below the experiment's folder of samples."""
        return f"{self.method}-{self.sampler}{self.steps}-train{self.train_seed}-sample{self.sample_seed}.npy"


def noise(settings: Experiment, sample_seed: int) -> torch.Tensor:
    """The noise of a sampling seed, (count, *shape): the same for every method, so that maps can be compared."""
    source = data.load(settings.training.data)
    generator = torch.Generator().manual_seed(1_000_003 + sample_seed)
    return torch.randn(settings.sampling.count, *source.shape, generator=generator) * source.scale


def plan(settings: Experiment) -> list[Draw]:
    """Every array of an experiment; `exact` is drawn by a perfect map (one jump) or the exact velocity (Euler)."""
    draws = []
    for method, all_steps in settings.sampling.steps.items():
        seeds = [-1] if method == EXACT else settings.training.seeds
        for steps in all_steps:
            sampler = ("jumps" if steps == 1 else "euler") if method == EXACT else settings.sampling.samplers[method]
            draws += [Draw(method, sampler, steps, seed, noise) for seed in seeds for noise in settings.sampling.seeds]
    return draws


def sample(flow_map: FlowMap, sampler: str, x0: torch.Tensor, steps: int) -> samplers.Samples:
    """`sampler` from the noise `x0` (count, ...), chunk by chunk; the calls are counted per sample."""
    parts = [samplers.SAMPLERS[sampler](flow_map, chunk, steps) for chunk in x0.split(CHUNK)]
    return samplers.Samples(torch.cat([p.points for p in parts]), parts[0].nfe)


def _draw(settings: Experiment, draw: Draw, weights: Path | None, folder: Path, device: str) -> dict:
    flow_map = load_flow_map(weights, device) if weights else CheckerboardMap().to(device)
    drawn = sample(flow_map, draw.sampler, noise(settings, draw.sample_seed).to(device), draw.steps)
    points = drawn.points.cpu().numpy()
    if not np.isfinite(points).all():
        raise CheckpointError(f"{weights} gives samples that are not finite: its training diverged; lower optimiser.rate")
    np.save(folder / draw.name, points)
    return asdict(draw) | {"nfe": drawn.nfe, "count": len(points), "file": draw.name}


def sample_all(settings: Experiment, weights: dict[tuple[str, int], Path], folder: Path, compute: Compute) -> pd.DataFrame:
    """Draw everything in `plan` into `folder`; returns (and stores as index.csv) one row an array.

    `weights` gives the file of each (method, training seed). Columns: method, sampler, steps, train_seed,
    sample_seed, nfe (counted), count, file.
    """
    folder.mkdir(parents=True, exist_ok=True)
    draws = plan(settings)
    jobs = [(settings, d, weights.get((d.method, d.train_seed)), folder, compute.device) for d in draws]
    with Progress(len(jobs), "sampling") as bar:
        rows = run_all(_draw, jobs, compute.workers, bar.update)
    index = pd.DataFrame(rows)
    index.to_csv(folder / "index.csv", index=False)
    return index


def draw(study: Study) -> pd.DataFrame:
    """Draw all samples of a study into its `samples` folder; returns the index, one row an array."""
    settings = study.experiment
    weights = {
        (method, seed): study.workspace.read(weights_file(study.name, method, seed))
        for method in settings.methods
        for seed in settings.training.seeds
    }
    return sample_all(settings, weights, study.workspace.write(f"samples/{study.name}"), study.compute)


def points(study: Study, method: str, steps: int) -> np.ndarray:
    """The samples (count, *shape) of a method at its first training and sampling seed; KeyError when not drawn."""
    folder = study.workspace.read(f"samples/{study.name}")
    index = pd.read_csv(folder / "index.csv")
    rows = index[(index.method == method) & (index.steps == steps)]
    if rows.empty:
        raise KeyError(f"no samples of {method} at {steps} steps: `sampling.steps` in params.yaml must draw them")
    return np.load(folder / rows.iloc[0].file)


def panels(study: Study) -> dict[str, dict[str, np.ndarray]]:
    """Samples of every method by number of steps, labelled for a grid of pictures."""
    settings = study.experiment
    label = {name: method.label for name, method in settings.methods.items()} | {EXACT: "exact"}
    return {label[m]: {f"N = {n}": points(study, m, n) for n in steps} for m, steps in settings.sampling.steps.items() if steps}


def counted(index: pd.DataFrame) -> pd.DataFrame:
    """What was drawn, for people: by method and steps, the counted network calls and the number of arrays."""
    grouped = index.groupby(["method", "sampler", "steps"], sort=False)
    return grouped.agg(network_calls=("nfe", "first"), arrays=("file", "size"), samples_each=("count", "first"))
