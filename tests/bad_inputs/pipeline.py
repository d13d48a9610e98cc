"""What the pipeline reads: notebooks, dvc.yaml, dvc.lock, data.dvc, the parts of a report, and README.md."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pandas as pd

from fewstep.data.export import export
from fewstep.pipeline import dvc, notebooks, report, stages
from fewstep.storage.files import LIST, replace_files
from fewstep.storage.workspace import Workspace

from .case import Case

ROOT = Path(__file__).parents[2]
DVC_YAML = """stages:
  figures:
    matrix: {tier: ["${tier}"]}
    cmd: python -m fewstep run own --tier ${item.tier}
    deps: []
    outs: ["artifacts/${item.tier}/report/a", "artifacts/${item.tier}/report/b"]
"""
LOCK = "schema: '2.0'\nstages:\n  check@smoke:\n    cmd: x\n"


def _write(folder: Path, name: str, content: str | bytes) -> None:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content.encode() if isinstance(content, str) else content)


def _run(name: str, says: str, content: str | bytes | None, *named: str | None, tier: str = "smoke") -> Case:
    """A notebook `own` of this content, executed for a notebook, an experiment and a data set."""

    def prepare(folder: Path) -> None:
        source = ROOT / "notebooks" / "3-sample.ipynb"
        _write(folder, "notebooks/own.ipynb", source.read_bytes() if content is None else content)
        _write(folder, "dvc.yaml", DVC_YAML)

    own = named or ("own",)
    return Case("run", name, lambda folder: notebooks.run(Workspace(folder, tier), *own), says, prepare)


def _blocked(name: str, says: str, block: Callable[[Path], object]) -> Case:
    base = _run(name, says, None)

    def prepare(folder: Path) -> None:
        base.prepare(folder)
        block(folder)

    return Case("run", name, base.run, says, prepare)


def _published(folder: Path) -> None:
    """Results of two parts, published, and somebody's own table beside them."""
    _write(folder, "dvc.yaml", DVC_YAML)
    _write(folder, "results/smoke/tables/foreign.csv", "mine")
    for name in "ab":
        rows = pd.DataFrame(
            {"method": ["x"], "metric": ["FID"], "nfe": [1], "value": [1.0], "parameters": ["p"]}
        )
        files = {f"tables/{name}.csv": report.csv(rows), "settings/p.json": b"{}\n", "claims.csv": b"claim\n"}
        described = f'{{"notebook": "own", "tables": ["{name}"], "pictures": {{"{name}.png": {{}}}}}}'
        files |= {f"figures/{name}.png": b"png", "part.json": described.encode()}
        replace_files(folder / "artifacts" / "smoke" / "report" / name, files)


def _publish(name: str, says: str, damage: Callable[[Path], object], tier: str = "smoke") -> Case:
    """`publish` with the parts of the report damaged."""

    def prepare(folder: Path) -> None:
        _published(folder)
        damage(folder / "artifacts" / "smoke" / "report")

    return Case("publish", name, lambda folder: report.publish(Workspace(folder, tier)), says, prepare)


def _cut(path: Path, to: int = -3) -> None:
    path.write_bytes(path.read_bytes()[:to])


def _readme(
    name: str, says: str, text: str | bytes, damage: Callable[[Path], object] = lambda folder: None
) -> Case:
    """`readme` on this README.md, with the results of tier laptop damaged."""

    def prepare(folder: Path) -> None:
        _write(folder, "README.md", text)
        shutil.copytree(ROOT / "results" / "laptop", folder / "results" / "laptop")
        damage(folder / "results" / "laptop")

    return Case("readme", name, report.write_readme, says, prepare)


def _plan(name: str, says: str, text: str | bytes) -> Case:
    """A dvc.yaml of this text."""
    prepare: Callable[[Path], None] = lambda folder: _write(folder, "dvc.yaml", text)  # noqa: E731
    return Case("dvc.yaml", name, lambda folder: stages.plan(folder, "smoke"), says, prepare)


def _lock(name: str, text: str | bytes) -> Case:
    """A dvc.lock of this text, and no copy of a whole one."""
    says = r"dvc.lock is cut: a run was killed .* `git checkout dvc.lock`, or delete it"
    return Case("dvc.lock", name, dvc.keep_locks, says, lambda folder: _write(folder, "dvc.lock", text))


def _data(name: str, says: str, old: str, new: str) -> Case:
    """The repository's data.dvc with `old` replaced, and no data."""
    text = (ROOT / "data.dvc").read_text(encoding="utf-8")
    assert old in text
    prepare: Callable[[Path], None] = lambda folder: _write(folder, "data.dvc", text.replace(old, new))  # noqa: E731
    return Case("data.dvc", name, export, says, prepare)


def cases() -> list[Case]:
    """Files that are cut, damaged, missing or of another form, and names that lead elsewhere."""
    begin, end = report.README_MARKS
    marks, user = r"README.md needs one line <!-- results --> and after it one line <!-- end", "own words\n"
    no_notebook, results = (
        r"own.ipynb is no notebook \(.*\): restore it with `git checkout`",
        "results/laptop",
    )
    changed = r"is not what was written \(written.json has another checksum\): restore it, or delete"
    listed, form = (
        rf"{LIST}, the list of what belongs there, is missing or damaged",
        r"does not have the form of",
    )
    return [
        _run(
            "a notebook that there is not",
            r"there is no notebook .*other.ipynb; there are own",
            None,
            "other",
        ),
        _run("a tier outside", r"'../../evil' is no name of a tier", None, tier="../../evil"),
        _run("no tier", r"'' is no name of a tier", None, tier=""),
        _run(
            "a parameter not declared",
            r"own.ipynb declares no parameter 'data'",
            None,
            "own",
            None,
            "cifar10",
        ),
        _run("an empty notebook", no_notebook, ""),
        _run("a notebook that is cut", no_notebook, '{"cells": [{"cell_type": "co'),
        _run("a notebook that is a list", no_notebook, "[]"),
        _run("a notebook without cells", no_notebook, '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}'),
        _run("a notebook of bytes", no_notebook, b"\xff\xfe\x00"),
        _blocked(
            "results is a file", r"nothing was computed, .*results'", lambda f: _write(f, "results", "")
        ),
        _blocked(
            "artifacts is a file", r"nothing was computed.*artifacts'", lambda f: _write(f, "artifacts", "")
        ),
        _blocked("a pipe in the place of a notebook", r"there is no notebook .*own.ipynb", _pipe),
        _publish("no part at all", r"report holds no part of a report: run `dvc repro`", shutil.rmtree),
        _publish("a part is missing", r"b/part.json is missing.* run `dvc repro figures@smoke`", _without_b),
        _publish("a table is cut", rf"b.csv {changed}", lambda f: _cut(f / "b/tables/b.csv")),
        _publish(
            "a picture is missing",
            r"b.png is missing: restore it",
            lambda f: (f / "b/figures/b.png").unlink(),
        ),
        _publish("claims are empty", rf"claims.csv {changed}", lambda f: _cut(f / "a/claims.csv", 0)),
        _publish("a part's description is cut", rf"part.json {changed}", lambda f: _cut(f / "a/part.json")),
        _publish("a part's list is cut", listed, lambda f: _cut(f / "a" / LIST)),
        _publish("a part's list is a list", listed, lambda f: _write(f, f"a/{LIST}", "[]")),
        _publish("a tier outside", r"'../smoke' is no name of a tier", lambda f: None, "../smoke"),
        _readme("no marks", marks, user),
        _readme("marks reversed", marks, f"{end}{user}{begin}{user}"),
        _readme("the first mark doubled", marks, f"{begin}{user}{begin}{user}{end}"),
        _readme("the last mark doubled", marks, f"{begin}{end}{user}{end}"),
        _readme("both marks doubled", marks, f"{begin}{end}{user}{begin}{end}"),
        _readme("not UTF-8", r"README.md is not UTF-8 at byte 4: store it", b"caf\x20\xe9\n"),
        _readme(
            "a table cut",
            rf"cifar10.csv {changed}",
            begin + end,
            lambda f: _cut(f / "tables/fmm-cifar10.csv", 3000),
        ),
        _readme(
            "claims missing", r"claims.csv is missing", begin + end, lambda f: (f / "claims.csv").unlink()
        ),
        _readme("no results", rf"{results}/{listed}", begin + end, shutil.rmtree),
        _plan("empty", rf"dvc.yaml {form}", ""),
        _plan("a list", rf"dvc.yaml {form}", "- a\n"),
        _plan("not YAML", r"dvc.yaml is not valid YAML \(.*\): restore it", "stages: {a: [\n"),
        _plan("not UTF-8", r"dvc.yaml is not valid YAML", b"stages: \xff\n"),
        _plan(
            "a stage without a command",
            rf"stage 'figures' of .*dvc.yaml {form}.*cmd",
            DVC_YAML.replace("cmd", "c"),
        ),
        _plan("a stage without outs", rf"stage 'figures' .*{form}.*outs", DVC_YAML.replace("outs", "o")),
        _plan("a stage that is a text", rf"stage 'a' of .*{form}", "stages: {a: b}\n"),
        _lock("empty", ""),
        _lock("cut inside a line", LOCK[:-1]),
        _data("a file is not tracked", r"data/f.npy is tracked by .*not both: restore", "faces.npy", "f.npy"),
        _data("no files", r"data.dvc cannot be read \(KeyError\): restore it", "outs:", "out:"),
        _data(
            "cut",
            r"data.dvc cannot be read \(.*\): restore it with `git checkout data.dvc`",
            "- md5",
            "- {md5",
        ),
        _data("another checksum", r"checkerboard.npy differs from data.dvc", "9b34e1f29bda", "000000000000"),
    ]


def _pipe(folder: Path) -> None:
    (folder / "notebooks/own.ipynb").unlink()
    os.mkfifo(folder / "notebooks/own.ipynb")


def _without_b(folder: Path) -> None:
    shutil.rmtree(folder / "b")
