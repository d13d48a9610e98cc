"""nbval over the executed smoke notebooks that are committed: a changed result fails, another machine
passes.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from fewstep.evaluation.plots.picture import NUMBERS
from tests.nbval_tolerance import mask
from tests.tolerances import close

from .conftest import Clone
from .test_pipeline import NOTEBOOKS

MADE = "artifacts/smoke/notebooks"


def start(clone: Clone, root: Path, folder: Path, notebooks: list[Path], scratch: Path) -> subprocess.Popen:
    """nbval over `notebooks` of `folder` inside the clone, as a process; what they write goes to
    `scratch`.
    """
    environment = clone.environment() | {
        "FEWSTEP_SCRATCH": str(scratch),
        "FEWSTEP_WARM": "1",
        "FEWSTEP_PROGRESS": str(scratch / "progress.json"),
        "PYTHONPATH": f"{clone.path / 'src'}{os.pathsep}{root}",
    }
    scratch.mkdir(parents=True, exist_ok=True)
    words = [
        "-m",
        "pytest",
        "--nbval",
        "-p",
        "tests.nbval_tolerance",
        "-p",
        "no:cacheprovider",
        "-q",
        "--nbval-cell-timeout=120",
    ]
    # a folder of its own as rootdir: the project's pytest settings are not meant for notebooks
    words += [f"--rootdir={folder}", "-c", os.devnull, *map(str, notebooks)]
    return subprocess.Popen(
        [sys.executable, *words],
        cwd=clone.path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def nbval(clone: Clone, root: Path, folder: Path, scratch: Path, processes: int = 1) -> tuple[int, str]:
    """The worst exit status of nbval over `folder`, shared out over `processes`, and what it said."""
    notebooks = sorted(folder.glob("*.ipynb"))
    running = [
        start(clone, root, folder, notebooks[k::processes], scratch / str(k)) for k in range(processes)
    ]
    said = [process.communicate()[0] for process in running]
    return max(process.returncode for process in running), "\n".join(text[-4000:] for text in said)


def of_the_main_pipeline(built: Clone, root: Path) -> list[Path]:
    """The committed executed notebooks, less those of `make zoo`, which the clone has not run."""
    paths = sorted((root / "results" / "smoke" / "notebooks").glob("*.ipynb"))
    return [path for path in paths if built.file(f"{MADE}/{path.name}").is_file()]


@pytest.fixture
def committed(built, root):
    """The committed executed notebooks, placed inside the clone beside its own."""
    folder = built.file("results/smoke/committed")
    folder.mkdir()
    for path in of_the_main_pipeline(built, root):
        shutil.copy(path, folder)
    yield folder
    shutil.rmtree(folder)


def one_of_each(folder: Path, root: Path) -> set[str]:
    """The first executed notebook of each in notebooks/, which it was made from."""
    sources = [path.stem for path in sorted((root / "notebooks").glob("*.ipynb"))]
    found = {}
    for path in sorted(folder.glob("*.ipynb")):
        found.setdefault(max((s for s in sources if path.stem.startswith(s)), key=len), path.name)
    assert set(found) == {*sources} - {"6-one-map"}
    return set(found.values())


def test_what_this_machine_makes_is_what_is_committed(built, root):
    """Every output of every notebook that the pipeline has just executed, by the rules of nbval's plugin."""
    committed = of_the_main_pipeline(built, root)
    assert len(committed) == NOTEBOOKS
    for path in committed:
        both = [nbformat.read(p, as_version=4) for p in (path, built.file(f"{MADE}/{path.name}"))]
        for k, (known, cell) in enumerate(zip(*(notebook["cells"] for notebook in both), strict=True)):
            tags = known["metadata"].get("tags", ())
            if known["cell_type"] == "code" and not {"nbval-ignore-output", "nbval-skip"} & {*tags}:
                (text, numbers), (theirs, others) = mask(cell["outputs"]), mask(known["outputs"])
                assert text == theirs, f"{path.name}, cell {k}"
                moved = [(a, b) for a, b in zip(numbers, others, strict=True) if not close(a, b)]
                assert not moved, f"{path.name}, cell {k}: {moved[:5]}"


def test_one_of_each_notebook_comes_out_again(built, root, committed, tmp_path):
    for name in {path.name for path in committed.iterdir()} - one_of_each(committed, root):
        (committed / name).unlink()
    before = {p: p.stat().st_mtime_ns for p in built.file("artifacts/smoke").rglob("*")}
    status, said = nbval(built, root, committed, tmp_path / "scratch", processes=2)
    assert status == 0, said
    assert {p: p.stat().st_mtime_ns for p in built.file("artifacts/smoke").rglob("*")} == before, (
        "a re-executed notebook wrote into the pipeline"
    )


@pytest.mark.parametrize("kind", ["printed", "plotted"])
def test_a_changed_result_fails(built, root, committed, tmp_path, kind):
    name = "1-teacher-fmm-checkerboard.ipynb"
    for path in committed.iterdir():
        if path.name != name:
            path.unlink()
    notebook = json.loads((committed / name).read_text(encoding="utf-8"))
    outputs = [o for c in notebook["cells"] if c["cell_type"] == "code" for o in c["outputs"] if "data" in o]
    if kind == "plotted":
        numbers = next(o["data"][NUMBERS] for o in outputs if NUMBERS in o["data"])
        numbers["SI, loss"][-1] *= 1.2
    else:
        table = next(
            o["data"] for o in outputs if "loss, last tenth" in "".join(o["data"].get("text/html", ""))
        )
        value = "".join(table["text/html"]).split("loss, last tenth")[1]
        old = next(
            x
            for x in value.replace("<", ">").split(">")
            if x.count(".") == 1 and x.replace(".", "").isdigit()
        )
        table["text/html"] = "".join(table["text/html"]).replace(old, str(round(float(old) * 1.2, 4)))
    (committed / name).write_text(json.dumps(notebook), encoding="utf-8")
    status, said = nbval(built, root, committed, tmp_path / "scratch")
    assert status == 1 and "numbers moved beyond" in said
