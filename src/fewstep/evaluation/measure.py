"""Stage 4: from arrays of samples to one tidy row a number."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from IPython.display import HTML

from ..flows.sampler_names import calls_a_step
from ..metrics.kl import kl_to_checkerboard
from ..metrics.wasserstein import map_distance, squared_w2
from ..settings.tiers import Compute, ExperimentSettings
from ..storage.files import write_atomically
from ..storage.progress import Progress
from ..training.experiment import Experiment
from ..training.pool import run_all
from .provenance import gather
from .sample import EXACT, labels

# The metric's name in the tables, by its name in params.yaml
NAMES = {
    "kl": "KL to target",
    "w2_target": "W2^2 to target",
    "w2_teacher": "W2^2 to teacher samples",
    "map_teacher": "L2 to teacher map",
}


@dataclass(frozen=True)
class Cell:
    """The files that one (method, steps, training seed, sampling seed) is measured on."""

    samples: Path
    row: int
    teachers: tuple[tuple[int, Path, Path], ...]  # (training seed, same noise, other noise)


def protocol(settings: ExperimentSettings, measure: str) -> str:
    """The frozen evaluation protocol of a measure, in words; two numbers compare only if these are equal."""
    count, metrics = settings.sampling.count, settings.metrics
    teacher = (
        f"{metrics.reference.method} at {metrics.reference.steps} Euler steps" if metrics.reference else ""
    )
    return {
        "kl": f"KL(target || histogram), {count} samples, {metrics.bins}x{metrics.bins} bins on [-1,1]^2, exact quadrature",
        "w2_target": f"exact assignment, {metrics.w2_samples} samples against {metrics.w2_samples} of data/checkerboard.npy",
        "w2_teacher": f"exact assignment, {metrics.w2_samples} samples against {metrics.w2_samples} of {teacher}, independent noise",
        "map_teacher": f"root mean square over {count} noises, against {teacher}, same noise and training seed",
    }[measure]


def _measure(settings: ExperimentSettings, cell: Cell, reference: Path, sample_seed: int) -> list[dict]:
    metrics, points, rows = settings.metrics, np.load(cell.samples), []
    size = metrics.w2_samples
    for measure in metrics.measures:
        if measure == "kl":
            result = kl_to_checkerboard(points, metrics.bins)
            rows.append({"measure": measure, "value": result.value, "empty": result.empty})
        elif measure == "w2_target":
            # every sampling seed meets its own part of the reference sample
            order = settings.sampling.seeds.index(sample_seed)
            target = np.load(reference, mmap_mode="r")
            start = order * size % (len(target) - size + 1)
            rows.append(
                {"measure": measure, "value": squared_w2(points[:size], target[start : start + size])}
            )
        else:
            for teacher_seed, same, other in cell.teachers:
                value = (
                    map_distance(points, np.load(same))
                    if measure == "map_teacher"
                    else squared_w2(points[:size], np.load(other)[:size])
                )
                rows.append({"measure": measure, "value": value, "train_seed": teacher_seed})
    return [{"row": cell.row} | row for row in rows]


def _cells(settings: ExperimentSettings, index: pd.DataFrame, folder: Path) -> list[Cell]:
    reference, seeds = settings.metrics.reference, settings.sampling.seeds
    files = {(r.method, r.steps, r.train_seed, r.sample_seed): folder / r.file for r in index.itertuples()}
    cells = []
    for k, r in enumerate(index.itertuples()):
        teachers: list[tuple[int, Path, Path]] = []
        if reference:
            other = seeds[(seeds.index(r.sample_seed) + 1) % len(seeds)]
            for seed in settings.training.seeds if r.method == EXACT else [r.train_seed]:
                same, apart = (
                    files[reference.method, reference.steps, seed, noise] for noise in (r.sample_seed, other)
                )
                teachers.append((seed, same, apart))
        cells.append(Cell(folder / r.file, k, tuple(teachers)))
    return cells


def check_calls(index: pd.DataFrame) -> None:
    """Raise ValueError when the calls that were counted are not those that the steps of a sampler take."""
    calls = index.steps * index.sampler.map(calls_a_step).astype(float)
    wrong = index[calls.notna() & (index.nfe != calls)]
    if len(wrong):
        first = wrong.iloc[0]
        raise ValueError(
            f"{first.method} took {first.nfe} network calls for {first.steps} steps: the samples and the table disagree"
        )


def evaluate(
    settings: ExperimentSettings, index: pd.DataFrame, folder: Path, reference: Path, compute: Compute
) -> pd.DataFrame:
    """One row a number: method, label, metric, nfe, train_seed, sample_seed, value, samples, protocol, empty bins.

    `index` and `folder` come from `sample_all`; `reference` is the array of target samples. Raises ValueError when
    a count of network calls differs from the steps that were asked for.
    """
    if "w2_target" in settings.metrics.measures and not reference.is_file():
        raise FileNotFoundError(f"{reference} is not there: run `python -m fewstep data` first")
    check_calls(index)
    cells = _cells(settings, index, folder)
    jobs = [(settings, cell, reference, int(index.sample_seed[cell.row])) for cell in cells]
    with Progress(len(jobs), "metrics") as bar:
        measured = [row for rows in run_all(_measure, jobs, compute.workers, bar.update) for row in rows]
    rows, names = [], labels(settings)
    for m in measured:
        source = index.iloc[m["row"]]
        rows.append(
            {
                "method": source.method,
                "label": names[source.method],
                "metric": NAMES[m["measure"]],
                "nfe": int(source.nfe),
                "train_seed": int(m.get("train_seed", source.train_seed)),
                "sample_seed": int(source.sample_seed),
                "value": m["value"],
                "samples": settings.metrics.w2_samples
                if m["measure"].startswith("w2")
                else int(source["count"]),
                "protocol": protocol(settings, m["measure"]),
                "empty": m.get("empty", 0),
            }
        )
    return pd.DataFrame(rows)


def measure(experiment: Experiment, notebook: str) -> pd.DataFrame:
    """Measure all samples of an experiment; writes metrics/<experiment>.csv, every row with its provenance, and returns it."""
    folder = experiment.workspace.read(f"samples/{experiment.name}")
    index = pd.read_csv(folder / "index.csv")
    reference = experiment.workspace.root / "data" / "checkerboard.npy"
    rows = evaluate(experiment.settings, index, folder, reference, experiment.compute)
    traced = gather(
        experiment.workspace.root, notebook, experiment.settings.model_dump(), experiment.compute.device
    )
    rows = rows.assign(**traced.columns())
    write_atomically(
        experiment.workspace.write(f"metrics/{experiment.name}.csv"), rows.to_csv(index=False).encode()
    )
    return rows


def load(experiment: Experiment) -> pd.DataFrame:
    """The measured rows of an experiment, as `measure` wrote them."""
    return pd.read_csv(experiment.workspace.read(f"metrics/{experiment.name}.csv"))


def means(rows: pd.DataFrame) -> HTML:
    """Means over all seeds, for a notebook to show: metric and network calls down, methods across, nothing where nothing was measured.

    All of them: of a table as large pandas would show the corners.
    """
    table = rows.pivot_table(
        index=["metric", "nfe"], columns="method", values="value", aggfunc="mean", sort=False
    )
    return HTML(table.sort_index().to_html(na_rep="", float_format="{:.3f}".format))


def empty_cells(rows: pd.DataFrame) -> pd.DataFrame:
    """The largest number of empty histogram cells of any seed, methods down, network calls across."""
    kl = rows[rows.metric == NAMES["kl"]]
    return kl.pivot_table(index="method", columns="nfe", values="empty", aggfunc="max", sort=False).astype(
        "Int64"
    )
