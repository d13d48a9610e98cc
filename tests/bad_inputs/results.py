"""Tables, claims, published numbers and samples: what is read back of what was measured."""

from collections.abc import Callable
from dataclasses import asdict
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd

from fewstep.evaluation import claims, measure, provenance, published, sample, tables
from fewstep.evaluation.metric import Comparison
from fewstep.settings import tiers

from .case import Case

ROOT = Path(__file__).parents[2]
RESULTS = ROOT / "results" / "smoke"
NAME, OWN = "fmm-cifar10", "selfdistill-checkerboard"
Edit = Callable[[str], str]
NO_NUMBER = "and no finite number"


def _line(number: int, edit: Edit) -> Edit:
    """A text with one of its lines edited; the first is 1."""

    def edited(text: str) -> str:
        lines = text.splitlines(keepends=True)
        lines[number - 1] = edit(lines[number - 1])
        return "".join(lines)

    return edited


def _field(number: int, name: str, value: str) -> Edit:
    """A CSV with one field of one line replaced."""

    def edited(text: str) -> str:
        frame = pd.read_csv(StringIO(text), dtype=str, keep_default_na=False)
        frame.loc[number - 2, name] = value
        return frame.to_csv(index=False)

    return edited


def _file(entry: str, name: str, source: Path, edit: Edit, run: Callable[[Path], object], says: str) -> Case:
    """A file of results, edited, and given to what reads it."""

    def prepare(folder: Path) -> None:
        (folder / source.name).write_text(edit(source.read_text(encoding="utf-8")), encoding="utf-8")

    return Case(entry, name, lambda folder: run(folder / source.name), says, prepare)


def _published() -> list[Case]:
    again = "restore it from the repository"
    edits = {
        "a row that is cut": (_line(7, lambda line: line[:40] + "\n"), r"line 7 has \d of 9 fields"),
        "an end that is cut": (lambda text: text[:-20], "is cut short"),
        "a text for a value": (_field(9, "value", "about 3"), f"line 9: `value` is 'about 3' {NO_NUMBER}"),
        "NaN for a value": (_field(9, "value", "nan"), f"line 9: `value` is 'nan' {NO_NUMBER}"),
        "no value": (_field(9, "value", ""), f"line 9: `value` is '' {NO_NUMBER}"),
        "infinity": (_field(9, "value", "inf"), f"`value` is 'inf' {NO_NUMBER}"),
        "a negative value": (_field(9, "value", "-0.08"), "has KL -0.08 at nfe 4"),
        "half a call": (_field(9, "nfe", "1.5"), "line 9: `nfe` is '1.5' and no whole number or nothing"),
        "an unknown status": (_field(9, "status", "sure"), r"unknown status \['sure'\]; a status is one of"),
        "no source": (_field(9, "source", ""), "line 9: `source` is '' and no text"),
        "a cell twice": (lambda text: text + text.splitlines(True)[1], "more than one row of paper"),
        "no head": (lambda text: text.partition("\n")[2], "has no column paper"),
        "nothing": (lambda text: "", "is cut short"),
        "an open quote": (lambda text: text + '"a,b\n', "line 167 cannot be read"),
    }  # fmt: skip
    # a status is mended by hand, and all else by what the repository has
    ends = {name: "" if "status" in name else f".*: {again}" for name in edits}
    return [
        _file("published.csv", name, published.FILE, edit, published.load, says + ends[name])
        for name, (edit, says) in edits.items()
    ]


def _tables() -> list[Case]:
    source, again = RESULTS / "tables" / f"{OWN}.csv", "run `dvc repro`, which writes it again"
    edits = {
        "a row that is cut": (_line(3, lambda line: line[:60] + "\n"), r"line 3 has \d+ of 20 fields"),
        "an end that is cut": (lambda text: text[:-1], "is cut short"),
        "a text for a number": (_field(4, "value", "1,2"), f"line 4: `value` is '1,2' {NO_NUMBER}"),
        "no number": (_field(4, "value", ""), f"line 4: `value` is '' {NO_NUMBER}"),
        "a cell without a revision": (_field(4, "revision", ""), "line 4: `revision` is '' and no text"),
        "a cell twice": (lambda text: text + text.splitlines(True)[1], "more than one row of method LSD"),
        "two tiers": (_field(4, "tier", "laptop"), "holds rows of the table .* at tier laptop, smoke"),
        "another table's rows": (_field(4, "table", "other"), f"holds rows of the table other, {OWN}"),
        "its head alone": (lambda text: text.partition("\n")[0] + "\n", "holds no row"),
        "no column": (lambda text: text.replace(",protocol,", ",how,", 1), "has no column protocol"),
    }  # fmt: skip
    return [
        _file("tables", name, source, edit, tables.read_table, f"{says}.*: {again}")
        for name, (edit, says) in edits.items()
    ]


def _claims() -> list[Case]:
    source, again = RESULTS / "claims.csv", "run `dvc repro`, which writes it again"

    def read(path: Path) -> object:
        return claims.read_ledger(path, {OWN: {"KL to target"}})

    def without(text: str) -> str:
        return "".join(line for line in text.splitlines(True) if not line.startswith("lsd-best-at-4"))

    edits = {
        "a row that is cut": (_line(3, lambda line: line[:60] + "\n"), "line 3 (has . of 15|cannot be)"),
        "an end that is cut": (lambda text: text[:-30], "is cut short"),
        "a claim that is missing": (without, "lacks the claim 'lsd-best-at-4'"),
        "a claim twice": (lambda text: text + text.splitlines(True)[-1], "more than one row of claim"),
        "an unknown verdict": (_field(4, "verdict", "proved"), "has the verdict 'proved', not supported"),
        "a value that is no number": (_field(4, "value", "large"), f"line 4: `value` is 'large' {NO_NUMBER}"),
        "a bound that is no number": (_field(4, "low", "nan"), "line 4: `low` is 'nan' and no number"),
    }  # fmt: skip
    found = [
        _file("claims.csv", name, source, edit, read, f"{says}.*{again}")
        for name, (edit, says) in edits.items()
    ]
    last = claims.FILE.read_text(encoding="utf-8").rindex("statistic: {kind: difference")
    broken = {
        "an entry that is cut": (lambda text: text[:last] + "\n", "lacks statistic"),
        "a cut inside an entry": (lambda text: text[: last + 30] + "\n", "is cut short or damaged"),
        "no entries": (lambda text: "\n", "is cut short or damaged"),
    }
    for name, (edit, says) in broken.items():
        found.append(_file("claims.yaml", name, claims.FILE, edit, claims._file, f"{says}.*: restore it"))
    whose = published.OF_TABLES
    cut = whose.read_text(encoding="utf-8").rindex("  protocol:")
    entry = "published.yaml", "an entry that is cut"
    found.append(_file(*entry, whose, lambda text: text[:cut], published._tables, "lacks protocol"))
    return found


def _rows(folder: Path) -> None:
    """The measured rows of an experiment, two seeds each of two methods."""
    trace = dict.fromkeys(provenance.COLUMNS, "x")
    rows = [
        {"method": method, "label": method, "metric": "FID", "nfe": 2, "train_seed": 0, "sample_seed": seed}
        | {"value": 3.0, "samples": 200, "protocol": "p", "empty": 0, **trace}
        for method in ("si", "lmd")
        for seed in (0, 1)
    ]
    pd.DataFrame(rows)[[*measure.COLUMNS, *provenance.COLUMNS]].to_csv(folder / "rows.csv", index=False)


def _measured() -> list[Case]:
    def case(name: str, edit: Edit, says: str) -> Case:
        def prepare(folder: Path) -> None:
            _rows(folder)
            path = folder / "rows.csv"
            path.write_text(edit(path.read_text(encoding="utf-8")), encoding="utf-8")

        def run(folder: Path) -> object:
            workspace = SimpleNamespace(read=lambda _: folder / "rows.csv")
            return measure.load(SimpleNamespace(name=NAME, workspace=workspace))

        return Case("measured rows", name, run, f"rows.csv.*{says}.*measure the experiment again", prepare)

    return [
        case("a cell twice", lambda text: text + text.splitlines(True)[1], "more than one row of method si"),
        case("NaN", _field(3, "value", ""), f"line 3: `value` is '' {NO_NUMBER}"),
        case("a cut end", lambda text: text[:-9], "is cut short"),
        case("a seed that is no number", _field(3, "sample_seed", "one"), "`sample_seed` is 'one'"),
    ]


def _samples() -> list[Case]:
    settings = tiers.load(ROOT / "params.yaml", "smoke").experiment(OWN)
    sampling = settings.sampling.model_copy(update={"count": 6, "seeds": [0], "steps": {"lsd": [1, 2]}})
    settings = settings.model_copy(update={"sampling": sampling})

    def prepare(folder: Path) -> None:
        rows = []
        for draw in sample.plan(settings):
            np.save(folder / draw.name, np.zeros((6, 2), np.float32))
            rows.append(asdict(draw) | {"nfe": draw.steps, "count": 6, "file": draw.name})
        pd.DataFrame(rows).to_csv(folder / "index.csv", index=False)

    def run(folder: Path) -> object:
        index = sample.read_index(folder, settings)
        compute = tiers.Compute(device="cpu", workers=1)
        return measure.evaluate(index, folder, Comparison(settings), folder / "scratch", compute)

    def case(name: str, change: Callable[[Path], object], says: str) -> Case:
        def broken(folder: Path) -> None:
            prepare(folder)
            change(folder)

        return Case("samples", name, run, says, broken)

    def index(edit: Edit) -> Callable[[Path], object]:
        return lambda folder: (folder / "index.csv").write_text(
            edit((folder / "index.csv").read_text(encoding="utf-8")), encoding="utf-8"
        )

    def settings_of(**changes: object) -> Callable[[Path], object]:
        other = settings.model_copy(update={"sampling": sampling.model_copy(update=changes)})
        return lambda folder: sample.plan(other)

    first, again = "lsd-jumps1-train0-sample0.npy", "draw the experiment's samples again"
    return [
        case("fewer than the settings say", lambda f: np.save(f / first, np.zeros((5, 2), np.float32)),
             rf"{first} has the shape \(5, 2\), and `sampling.count` is 6: {again}"),
        case("more than the settings say", lambda f: np.save(f / first, np.ones((7, 2))), "is 6"),
        case("a number", lambda f: np.save(f / first, np.float32(1)), r"has the shape \(\), and"),
        case("an array that is gone", lambda f: (f / first).unlink(), f"{first} cannot be read .*: {again}"),
        case("an array that is cut", lambda f: (f / first).write_bytes((f / first).read_bytes()[:-8]),
             f"{first} cannot be read .*: {again}"),
        case("an empty file", lambda f: (f / first).write_bytes(b""), f"{first} cannot be read .*: {again}"),
        case("another file", lambda f: (f / first).write_bytes(b"PNG and more"), f"{first} cannot be read"),
        case("an index that is cut", index(lambda text: text[:-5]), f"index.csv is cut short.*: {again}"),
        case("an index of fewer", index(_line(3, lambda line: "")), "lacks lsd-jumps1-train1-sample0.npy"),
        case("an index of more", index(lambda text: text + text.splitlines(True)[1]),
             "other than the 4 arrays of 6"),
        case("an index of another count", index(_field(3, "count", "7")), "other than the 4 arrays of 6"),
        case("an index of other calls", index(_field(3, "nfe", "7")), "lsd took 7 network calls for 1 steps"),
        case("an index with a text", index(_field(3, "nfe", "many")), "line 3: `nfe` is 'many'"),
        Case("sampling", "a seed twice", settings_of(seeds=[0, 0]), "would be drawn twice: name it once"),
        Case("sampling", "steps twice", settings_of(steps={"lsd": [2, 2]}), "at 2 steps, .* name it once"),
        Case("sampling", "no steps", settings_of(steps={"lsd": [0]}), "lsd at 0 steps, .* cannot be drawn"),
    ]  # fmt: skip


def cases() -> list[Case]:
    """Files of results that are cut, damaged, doubled, or of other settings."""
    return [*_published(), *_tables(), *_claims(), *_measured(), *_samples()]
