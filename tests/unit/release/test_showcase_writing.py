"""fewstep showcase: students that come with the clone are written whole or not at all, and found by name."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from fewstep import MLP, NetworkFlowMap, cli
from fewstep.evaluation.measure import COLUMNS
from fewstep.evaluation.provenance import COLUMNS as PROVENANCE
from fewstep.evaluation.tables import read_table
from fewstep.release import folder, showcase
from fewstep.release.showcase import FID, KL, ShowcaseStudent
from fewstep.storage.checkpoint import load_checkpoint, save_checkpoint
from fewstep.storage.files import read_written

from .students import FACES, PIXELS

POINTS = "selfdistill-checkerboard"
CHOSEN = (
    ShowcaseStudent("points", POINTS, "lsd", POINTS, KL, 1),
    ShowcaseStudent("pixels", PIXELS, "lsd", PIXELS, FID, 1),
    ShowcaseStudent("faces", FACES, "scflow", FACES, FID, 4, half=True),
)


def row_of(tables: Path, own: ShowcaseStudent) -> dict[str, object]:
    """The row of a student's cell in its table."""
    table, label = read_table(tables / f"{own.table}.csv"), {"lsd": "LSD", "scflow": "SCFlow"}[own.method]
    wanted = (table.method == label) & (table.metric == own.metric) & (table.nfe == own.nfe)
    (row,) = table[wanted].to_dict("records")
    return row | {"label": label}


def measured(place: Path, tables: Path, own: ShowcaseStudent, **changed: object) -> None:
    """What a stage has measured: a student's row by two trainings and two samplings, 0.5 in the first."""
    row = row_of(tables, own) | {"method": own.method}
    seeds = [{"train_seed": k, "sample_seed": n, "value": 2 * k + n + 0.5} for k in (1, 0) for n in (1, 0)]
    rows = pd.DataFrame([row | own_seeds | {"empty": 0} | changed for own_seeds in seeds])
    place.mkdir(parents=True, exist_ok=True)
    rows[[*COLUMNS, *PROVENANCE]].to_csv(place / f"{own.experiment}.csv", index=False)


@pytest.fixture
def own_clone(here, tmp_path, monkeypatch) -> Path:
    """A clone with the trainings of `here`, one of points, and their measures, as working folder."""
    own = tmp_path / "clone"
    own.mkdir()
    for name in ("params.yaml", "dvc.yaml", "data", "artifacts", "results"):
        (own / name).symlink_to(here / name)
    scratch = tmp_path / "scratch" / "smoke"
    sizes = {"width": 8, "depth": 1, "activation": "silu", "frequencies": [1], "time_frequencies": [1]}
    weights = {f"weights.{k}": v for k, v in NetworkFlowMap(MLP((2,), **sizes)).state_dict().items()}
    info = {"shape": [2], "network": {"kind": "mlp", **sizes}}
    trained = scratch / POINTS / "students" / "lsd" / "seed-0.safetensors"
    save_checkpoint(trained, weights | {"log.loss": torch.zeros(9)}, info)
    for student in CHOSEN:
        measured(scratch / "metrics", here / "results" / "smoke" / "tables", student)
    for name in ("cifar10", "celebahq"):
        (scratch / "features" / name).mkdir(parents=True)
        (scratch / "features" / name / "described.json").write_text(f'"{name}"', encoding="utf-8")
    monkeypatch.chdir(own)
    monkeypatch.setattr(showcase, "STUDENTS", CHOSEN)
    return own


def test_students_are_written_with_their_cells_and_found_by_name(own_clone, capsys):
    place = own_clone / "students"
    cli.run(["showcase", "--tier", "smoke"])
    assert "students holds points, pixels, faces of tier smoke" in capsys.readouterr().out
    said = json.loads((place / showcase.LIST).read_text(encoding="utf-8"))
    for own in CHOSEN:
        found = said[own.name]
        row = row_of(own_clone / "results" / "smoke" / "tables", own)
        assert found["cell"]["value"] == row["value"] and found["revision"] == row["revision"]
        assert found["settings"] == f"results/smoke/settings/{row['parameters']}.json"
        assert found["measured"] == 0.5, "of training seed 0 and sampling seed 0 alone"
    tensors, info = load_checkpoint(place / "points.safetensors")
    assert {name.partition(".")[0] for name in tensors} == {"weights"} and info["shape"] == [2]
    for name, dtype in (("pixels", torch.float32), ("faces", torch.float16)):
        weights = load_file(place / said[name]["file"])
        assert {value.dtype for value in weights.values()} == {dtype}
        card = (place / name / "README.md").read_text(encoding="utf-8")
        assert f'from_pretrained("students/{name}")' in card
        assert ("rounded to half precision" in card) == (dtype == torch.float16)
    with_features = place / "measured-with" / "smoke" / "features"
    assert (with_features / "cifar10" / "described.json").read_text(encoding="utf-8") == '"cifar10"'
    cli.run(["sample", "pixels", "--count", "1", "--to", str(own_clone / "one.png")])
    assert "shows 1 images: LSD" in capsys.readouterr().out
    with pytest.raises(
        folder.FolderError, match="nothing is no saved student.*faces, pixels came with the clone$"
    ):
        folder.find(Path("nothing"))
    (own_clone / "pixels").mkdir()
    assert folder.find(Path("pixels")) == Path("pixels"), "a folder of one's own comes first"


def _of_another_run(own_clone: Path) -> None:
    tables = own_clone / "results" / "smoke" / "tables"
    measured(own_clone.parent / "scratch" / "smoke" / "metrics", tables, CHOSEN[1], revision="0123456789ab")


@pytest.mark.parametrize(
    ("change", "student", "says"),
    [
        (None, ShowcaseStudent("x", PIXELS, "esd", PIXELS, FID, 1), "esd/seed-0.safetensors is not there"),
        (None, ShowcaseStudent("x", PIXELS, "lsd", "none", FID, 1), "none.csv is not there: run `dvc repro`"),
        (None, ShowcaseStudent("x", PIXELS, "lsd", PIXELS, FID, 77), "has no row of .*FID, nfe 77: name"),
        (_of_another_run, CHOSEN[1], "are of two runs: run `dvc repro` at tier 'smoke'"),
    ],
    ids=["untrained", "without a table", "without the cell", "of another run"],
)
def test_what_cannot_be_shown_is_one_sentence_and_all_stays(
    own_clone, monkeypatch, change: Callable[[Path], None] | None, student, says
):
    place = own_clone / "students"
    monkeypatch.setattr(showcase, "STUDENTS", CHOSEN[:1])
    showcase.write(own_clone, "smoke")
    before = read_written(place)
    if change:
        change(own_clone)
    monkeypatch.setattr(showcase, "STUDENTS", (*CHOSEN[:1], student))
    with pytest.raises((ValueError, OSError), match=says) as error:
        showcase.write(own_clone, "smoke")
    assert "\n" not in str(error.value) and read_written(place) == before


def test_no_more_is_written_than_every_clone_shall_carry(own_clone, monkeypatch):
    monkeypatch.setattr(showcase, "STUDENTS", CHOSEN[:1])
    monkeypatch.setattr(showcase, "MOST", 1000)
    with pytest.raises(ValueError, match="'smoke' takes .* bytes of 1,000: nothing was written"):
        showcase.write(own_clone, "smoke")
    assert not (own_clone / "students").exists()
