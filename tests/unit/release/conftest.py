"""A clone with trained students, and each of them saved."""

from __future__ import annotations

import csv
import json
import shutil
from pathlib import Path

import pytest

from fewstep.release import FewStepPipeline, folder, saving
from fewstep.storage.workspace import SCRATCH

from .students import (
    LATENTS,
    NETWORK,
    PIXELS,
    STUDENTS,
    TEXT_NETWORK,
    TEXTS,
    latents,
    reader,
    table,
    trained,
    weights,
)


@pytest.fixture(scope="package")
def clone(root, tmp_path_factory) -> Path:
    """A clone of the repository with six trained students at tier smoke, and tables with some of them."""
    own = tmp_path_factory.mktemp("clone")
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, own / name)
    (own / "data").symlink_to(root / "data")
    made = own / "artifacts" / "smoke"
    for experiment, method in STUDENTS:
        shape = (4, 4, 4) if experiment in LATENTS else (1, 8, 8)
        weights(made / trained(experiment, method), shape, TEXT_NETWORK if experiment == TEXTS else NETWORK)
    latents(made / "latents" / "celebahq")
    latents(made / "latents" / "laion", reader(own))
    (own / "results" / "smoke").mkdir(parents=True)
    tables = own / "results" / "smoke" / "tables"
    shutil.copytree(root / "results" / "laptop" / "tables", tables)
    for path in tables.glob("*.csv"):
        path.write_text(path.read_text(encoding="utf-8").replace(",laptop,", ",smoke,"), encoding="utf-8")
    with (tables / f"{PIXELS}.csv").open() as file:
        table(tables / f"{TEXTS}.csv", csv.DictReader(file).fieldnames)
    return own


@pytest.fixture(scope="package")
def students(clone) -> dict[tuple[str, str], Path]:
    """Each student saved once, by experiment and method."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(clone)
        patch.setenv(SCRATCH, str(clone / "scratch"))
        found = {pair: clone / "saved" / "-".join(pair) for pair in STUDENTS}
        for (experiment, method), target in found.items():
            saving.save(saving.find(clone, "smoke", experiment, method, 0), target)
    return found


@pytest.fixture
def here(clone, tmp_path, monkeypatch) -> Path:
    """The clone as working folder, with a scratch folder of the test's own."""
    monkeypatch.chdir(clone)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "scratch"))
    return clone


@pytest.fixture
def edited(students, tmp_path):
    """edited(file, **settings): a copy of a student with other settings in a config, or the same without."""

    def make(file: str | None = None, student: tuple[str, str] = (PIXELS, "lsd"), **settings) -> Path:
        place = tmp_path / "edited"
        shutil.copytree(students[student], place)
        if file:
            (place / file).write_text(
                json.dumps(json.loads((place / file).read_text(encoding="utf-8")) | settings),
                encoding="utf-8",
            )
            folder.list_files(place)
        return place

    return make


@pytest.fixture(scope="package")
def pipe(students) -> FewStepPipeline:
    found = FewStepPipeline.from_pretrained(students[PIXELS, "lsd"])
    found.set_progress_bar_config(disable=True)
    return found


@pytest.fixture(scope="package")
def conditional(students) -> FewStepPipeline:
    """The student that is conditioned on captions, without guidance."""
    found = FewStepPipeline.from_pretrained(students[TEXTS, "scflow"])
    found.set_progress_bar_config(disable=True)
    return found
