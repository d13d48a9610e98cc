"""The showcase: students that come with the clone, in students/, each with the number of a table that it has.

students.json says of each where it comes from, which cell of a table, a mean over seeds, it belongs to, and
what its own weights came to on the first sampling seed; written.json has the checksums of all files.
"""

import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluation import measure
from ..evaluation.measures import AGREEMENT, FID, KL
from ..evaluation.tables import read_table
from ..storage.checkpoint import load_checkpoint, save_checkpoint
from ..storage.files import checksum, replace_files, write_json
from ..training.experiment import Experiment
from ..training.features import FeaturePreparation
from ..training.weights import weights_file
from . import saving
from .folder import SHOWCASE

LIST, MEASURED_WITH, WEIGHTS = (
    "students.json",
    "measured-with",
    "flow_map/diffusion_pytorch_model.safetensors",
)
MOST = 12_000_000  # bytes of all files, which every clone carries
SEED = 0  # of the training of each, and of the noise that its own number was measured on
CELL = ["table", "metric", "nfe", "value", "sd", "sd_sampling", "seeds", "samples", "protocol"]


@dataclass(frozen=True)
class ShowcaseStudent:
    """A student of the showcase, and the table, metric and network calls of the cell that it belongs to.

    half  whether its weights are rounded to half precision, without which all would take more than MOST
    """

    name: str
    experiment: str
    method: str
    table: str
    metric: str
    nfe: int
    half: bool = False


STUDENTS = (
    ShowcaseStudent("checkerboard-si", "fmm-checkerboard", "si", "fmm-checkerboard", KL, 16),
    ShowcaseStudent("checkerboard-lmd", "fmm-checkerboard", "lmd", "fmm-checkerboard", KL, 1),
    ShowcaseStudent("checkerboard-lsd", "selfdistill-checkerboard", "lsd", "selfdistill-checkerboard", KL, 1),
    ShowcaseStudent("digits", "fmm-cifar10", "lmd", "fmm-cifar10", FID, 1),
    # of these a distance between images, since the classifier that FID needs is larger than they are
    ShowcaseStudent("faces", "scflow-celebahq", "scflow", "scflow-consistency", AGREEMENT, 4),
    ShowcaseStudent("scenes", "scflow-coco2017", "scflow", "scflow-t2i-consistency", AGREEMENT, 4, half=True),
)


def _row(rows: pd.DataFrame, file: Path, own: ShowcaseStudent, **wanted: str | int) -> pd.Series:
    """The row of `file` with a student's metric, its network calls and the wanted values; or ValueError."""
    wanted |= {"metric": own.metric, "nfe": own.nfe}
    found = rows[(rows[list(wanted)] == pd.Series(wanted)).all(axis=1)]
    if found.empty:
        cell = ", ".join(f"{column} {value}" for column, value in wanted.items())
        raise ValueError(f"{file} has no row of {cell}: name another cell in {__name__}")
    return found.iloc[0]


def _add(own: ShowcaseStudent, root: Path, tier: str, folder: Path) -> dict[str, Any]:
    """Write a student into `folder`; returns what students.json says of it. Raises as `write`."""
    experiment, again = Experiment.open(tier, own.experiment), f"run `dvc repro` at tier '{tier}'"
    settings, read = experiment.settings, experiment.workspace.read
    trained = read(weights_file(experiment, own.method, SEED))
    measures, table = read(f"metrics/{own.experiment}.csv"), root / f"results/{tier}/tables/{own.table}.csv"
    if not table.is_file():
        raise FileNotFoundError(f"{table} is not there: {again} first")
    label, seeds = settings.method(own.method).label, {"train_seed": SEED, "sample_seed": SEED}
    cell = _row(read_table(table), table, own, experiment=own.experiment, method=label)
    alone = _row(measure.load(experiment), measures, own, method=own.method, **seeds)
    if (cell.revision, cell.parameters) != (alone.revision, alone.parameters):
        raise ValueError(f"{table} and {measures} are of two runs: {again}")
    file = f"{own.name}/{WEIGHTS}" if settings.metrics.of_images else f"{own.name}.safetensors"
    if settings.metrics.of_images:
        student = saving.find(root, tier, own.experiment, own.method, SEED)
        saving.save(student, folder / own.name, f"{SHOWCASE}/{own.name}", own.half)
    else:  # without the log of its training
        tensors, info = load_checkpoint(trained)
        weights = {name: value for name, value in tensors.items() if name.startswith("weights.")}
        save_checkpoint(folder / file, weights, info)
    if own.metric == FID:
        features = FeaturePreparation.open(tier, settings.metrics.features)
        shutil.copytree(features.folder, folder / MEASURED_WITH / tier / features.OUTPUT / features.name)
    said = {"experiment": own.experiment, "method": own.method, "half": own.half, "tier": tier, "seed": SEED}
    said |= {"file": file, "sha256": checksum(folder / file), "trained_sha256": checksum(trained)}
    said |= {"revision": cell.revision, "settings": f"results/{tier}/settings/{cell.parameters}.json"}
    # through JSON, where what is missing is null
    return said | {"measured": alone.value, "sample_seed": 0, "cell": json.loads(cell[CELL].to_json())}


def write(root: Path, tier: str) -> None:
    """Write the showcase of `tier`, whole or not at all.

    Raises FileNotFoundError for what is not trained, measured or published, ValueError for a cell that is not
    there or of another run, and for more than MOST bytes.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_json(folder / LIST, {own.name: _add(own, root, tier, folder) for own in STUDENTS})
        paths = [path for path in folder.rglob("*") if path.is_file()]
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}
    if (size := sum(map(len, files.values()))) > MOST:
        raise ValueError(f"tier '{tier}' takes {size:,} bytes of {MOST:,}: nothing was written; round more")
    replace_files(root / SHOWCASE, files)
