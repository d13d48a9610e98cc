"""Experiments trained, sampled and measured on a device, their cells beside those that a CPU has published.

They run in a tree of their own: a copy of params.yaml whose `compute.device` is the device, and the data.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pandas as pd

from fewstep.evaluation import measure, sample, tables
from fewstep.settings import document, tiers
from fewstep.settings.resolve import as_file
from fewstep.storage.files import write_atomically
from fewstep.storage.workspace import PIPELINE, SCRATCH
from fewstep.training import features, train
from fewstep.training.experiment import Experiment

EXPERIMENTS = ("fmm-checkerboard", "fmm-cifar10")


@dataclass(frozen=True)
class Cell:
    """A cell of a table: what a CPU published, and what the device came to.

    sd          of `cpu`, and what it is `of`: trainings or, where there was one alone, samplings
    deviations  (device - cpu) / sd; None without a deviation
    note        why the two numbers do not compare, if they do not
    """

    experiment: str
    method: str
    metric: str
    nfe: int
    cpu: float | None
    sd: float | None
    of: str
    device: float
    deviations: float | None
    note: str = ""


def lay_out(root: Path, tree: Path, tier: str, device: str) -> None:
    """Fill `tree` with what the experiments of `tier` need to run on `device`; raises SettingsError.

    The features that images are measured in are the pipeline's own where it has run in `root`: with another
    classifier no number could be compared.
    """
    settings = tiers.section(root / "params.yaml", tier)
    # on a GPU one training follows the other, and samples are drawn by one process
    changed = settings | {"compute": {"device": device, "workers": 1}}
    write_atomically(tree / "params.yaml", document.dump(as_file(changed, tier)).encode())
    write_atomically(tree / "dvc.yaml", b"stages: {}\n")
    (tree / "data").symlink_to(root / "data")
    if (prepared := root / "artifacts" / tier / "features").is_dir():
        (tree / "artifacts" / tier).mkdir(parents=True)
        (tree / "artifacts" / tier / "features").symlink_to(prepared)


@contextlib.contextmanager
def _inside(tree: Path) -> Iterator[None]:
    """Work in `tree`, and write to its scratch, whatever the environment says of others."""
    before = {name: os.environ.pop(name) for name in (PIPELINE, SCRATCH) if name in os.environ}
    try:
        with contextlib.chdir(tree):
            yield
    finally:
        os.environ.update(before)


def table(tree: Path, tier: str, name: str) -> pd.DataFrame:
    """The rows of every table of the experiment `name`, trained, sampled and measured in `tree`."""
    with _inside(tree):
        experiment = Experiment.open(tier, name)
        if wanted := experiment.settings.metrics.features:
            preparation = features.FeaturePreparation.open(tier, wanted)
            try:
                features.load(preparation)
            except FileNotFoundError:  # the pipeline has not made them; a classifier is trained on the CPU
                features.prepare(preparation)
        train.train(experiment, *experiment.settings.methods)
        sample.draw(experiment)
        rows = measure.measure(experiment, "make gpu")
        return pd.concat(tables.build(experiment, rows).values(), ignore_index=True)


def published(root: Path, tier: str, own: pd.DataFrame) -> pd.DataFrame | None:
    """The tables in results/ that `own` is to be compared with; None where one is not there."""
    paths = [root / "results" / tier / "tables" / f"{name}.csv" for name in own.table.unique()]
    if not all(path.is_file() for path in paths):
        return None
    return pd.concat([tables.read_table(path) for path in paths], ignore_index=True)


def _compared(cell: Cell, theirs: pd.Series) -> Cell:
    """`cell` beside the row `theirs` of a published table."""
    between = pd.notna(theirs.sd)
    sd = float(theirs.sd if between else theirs.sd_sampling)
    known = pd.notna(sd) and sd > 0
    return replace(
        cell, cpu=float(theirs.value), sd=sd if known else None,
        of=("trainings" if between else "samplings") if known else "",
        deviations=(cell.device - float(theirs.value)) / sd if known else None,
    )  # fmt: skip


def compared(own: pd.DataFrame, theirs: pd.DataFrame | None) -> list[Cell]:
    """A cell for each row of `own`, beside that of the same method, metric and network calls in `theirs`."""
    keys, cells = ["table", "method", "metric", "nfe"], []
    known = {} if theirs is None else {tuple(row[keys]): row for _, row in theirs.iterrows()}
    for _, row in own.iterrows():
        cell = Cell(
            row.experiment, row.method, row.metric, int(row.nfe), None, None, "", float(row.value), None
        )
        found = known.get(tuple(row[keys]))
        if found is None:
            cell = replace(cell, note="no published cell")
        elif found.protocol != row.protocol:
            cell = replace(cell, note="published by another protocol")
        else:
            cell = _compared(cell, found)
        cells.append(cell)
    return cells


def of_experiments(root: Path, tree: Path, tier: str, names: Sequence[str]) -> Iterator[list[Cell]]:
    """The cells of each of the experiments `names`, run in `tree`, which `lay_out` has filled."""
    for name in names:
        print(f"training, sampling and measuring {name} at tier {tier}", flush=True)
        own = table(tree, tier, name)
        yield compared(own, published(root, tier, own))
