"""What the pages of the site show, as plain values for their templates."""

import base64
import re
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from math import floor, isfinite, isnan, log10
from pathlib import Path
from typing import Any

import pandas as pd

from .. import objectives
from ..evaluation import claims as ledgers
from ..evaluation import tables
from ..evaluation.plots.curves import reach
from ..flows.exact.checkerboard import DATA_SCALE
from ..storage.checkpoint import load_checkpoint, with_prefix
from ..storage.workspace import Workspace
from .stages import Stage

# what runs live on the first page: a student and the teacher that it distils
EXPERIMENT = "fmm-checkerboard"
LIVE = {"student": f"{EXPERIMENT}/students/lmd", "teacher": f"{EXPERIMENT}/teacher/si"}
SEED = "seed-0.safetensors"
SCFLOW, SID = "scflow", "sid"  # losses of loops of their own, which are packages
# intervals are drawn to this many of their half-widths
EDGE = 8.0
PHASES = ("prepare", "teacher", "students", "sample", "measure", "figures", "speed", "protocol", "publish")


def flow_map(workspace: Workspace) -> dict[str, Any] | None:
    """The checkerboard's student and teacher for JavaScript; None where they are not trained, or no MLP."""
    found: dict[str, Any] = {"scale": DATA_SCALE}
    for name, place in LIVE.items():
        if not (path := workspace.pipeline / place / SEED).is_file():
            return None
        tensors, info = load_checkpoint(path)
        if (network := info["network"])["kind"] != "mlp" or network["activation"] not in ("silu", "gelu"):
            return None
        weights = with_prefix(tensors, "weights.network.")
        names = [f"layers.{k}" for k in range(network["depth"])] + ["out"]
        layers = [[list(weights[f"{own}.weight"].shape), *_encoded(weights, own)] for own in names]
        found[name] = {**network, "layers": layers, "file": f"{place}/{SEED}"}
    return found


def _encoded(weights: Mapping[str, Any], layer: str) -> list[str]:
    """A layer's weight and bias as little-endian float32 in base64."""
    arrays = (weights[f"{layer}.{part}"].float().numpy().astype("<f4") for part in ("weight", "bias"))
    return [base64.b64encode(array.tobytes()).decode() for array in arrays]


def decimals(value: float, digits: int) -> int:
    """`digits`, or as many as show three significant digits of a value for which these are too few."""
    return digits if value == 0 or abs(value) >= 10 ** (1 - digits) else 2 - floor(log10(abs(value)))


def number(value: float, digits: int = 3) -> str:
    """A number for readers, as `decimals` says."""
    return f"{value:.{decimals(value, digits)}f}"


def table(own: pd.DataFrame, index: Mapping[tuple, int]) -> dict[str, Any]:
    """A table for the page: each metric's methods down and network calls across, cells by their numbers."""
    first, metrics = own.iloc[0], []
    for metric in tables.metrics(own):
        part, digits = own[own.metric == metric], 2 if metric in tables.COARSE else 3
        calls, rows = sorted(set(part.nfe)), {}
        for row in part.itertuples():
            places = decimals(row.value, digits)
            rows.setdefault(row.method, {})[row.nfe] = {
                "id": index[row.table, row.method, metric, row.nfe], "value": row.value,
                "text": f"{row.value:.{places}f}", "sd": "" if isnan(row.sd) else f"{row.sd:.{places}f}",
                "published": "" if isnan(row.published) else f"{number(row.published, digits)} {row.status}",
            }  # fmt: skip
        said = part.iloc[0]
        metrics.append(
            {"name": metric, "calls": calls, "rows": rows, "protocol": said.protocol, "seeds": said.seeds}
        )
    return {
        "metrics": metrics, "experiment": first.experiment, "notebook": first.notebook,
        "parameters": first.parameters, "revision": first.revision, "hardware": first.hardware,
    }  # fmt: skip


def claims(
    ledger: pd.DataFrame, published: Mapping[str, pd.DataFrame],
    names: Mapping[str, Mapping[str, str]], find: Callable[[str, str, int, str], int | None],
) -> dict[str, list[dict[str, Any]]]:  # fmt: skip
    """The claims by paper: what each says, where its interval lies, and the cells behind it."""
    behind: dict[str, list[dict[str, Any]]] = {}
    for experiment in dict.fromkeys(ledger.table):
        own = [name for name, part in published.items() if part.experiment.iloc[0] == experiment]
        if not own:
            continue
        key = {label: name for name, label in names[own[0]].items()}
        rows = pd.concat([published[name] for name in own])
        rows = rows.assign(method=rows.method.map(lambda label: key.get(label, label)))
        for claim, cells in ledgers.cells_behind(experiment, rows).items():
            label = names[own[0]]
            told = [(label.get(m, m), nfe, metric) for m, nfe, metric in dict.fromkeys(cells)]
            behind[claim] = [
                {"method": m, "nfe": nfe, "metric": metric, "id": find(experiment, m, nfe, metric)}
                for m, nfe, metric in told
            ]
    found: dict[str, list[dict[str, Any]]] = {}
    for row, far in zip(ledger.itertuples(), reach(ledger)):
        said, _, threshold = row.statistic.partition("; claimed > ")
        words, unit = re.fullmatch(r"(.*?)(?: \(([^()]*)\))?", said).groups()
        found.setdefault(row.paper, []).append({
            "name": row.claim, "statement": row.statement, "statistic": words, "unit": unit or "",
            "threshold": threshold.partition(";")[0], "value": row.value, "low": row.low, "high": row.high,
            "verdict": row.verdict, "over": row.over, "table": row.table, "cells": behind.get(row.claim, []),
            "far": None if isnan(far) else max(-EDGE, min(EDGE, far)), "beyond": bool(abs(far) > EDGE),
            "bounded": bool(isfinite(row.high)), "effect": ledgers.effect_text(row),
            "sign": ledgers.sign_text(row),
        })  # fmt: skip
    return found


def _tests(root: Path) -> list[tuple[str, str, str]]:
    """The tests of the mathematics as (file, name, text with its decorators)."""
    found = []
    for path in sorted((root / "tests" / "analytic").glob("test_*.py")):
        for part in re.split(r"\n(?=@|def )", path.read_text(encoding="utf-8")):
            found.append((path.name, part))
    named, decorators = [], ""
    for file, part in found:
        decorators += part if part.startswith("@") else ""
        if name := re.match(r"def (test_\w+)", part):
            named.append((file, name[1], decorators + part))
        decorators = decorators if part.startswith("@") else ""
    return named


def _sections(text: str) -> dict[str, str]:
    """What docs/losses.md says of each objective, by name."""
    parts = re.split(r"^### (.+)\n", text.partition("## SCFlow")[0], flags=re.MULTILINE)
    own = {name.strip(): part.partition("\n## ")[0] for name, part in zip(parts[1::2], parts[2::2])}
    own = {name: part for name, part in own.items() if name in (*objectives.names(), SID)}
    return own | {SCFLOW: text.partition("## SCFlow's losses\n")[2]}


def methods(root: Path, published: Any, shown: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Each objective: its loss, its code, the tests that name it, its rows, and how to read its curve."""
    tests = _tests(root)
    path = root / "docs" / "losses.md"
    reading = _sections(path.read_text(encoding="utf-8")) if path.is_file() else {SCFLOW: ""}
    rows: dict[str, list[dict[str, Any]]] = {}
    for name in published.tables:
        settings = published.settings(name)
        for own in settings.get("methods", {}).values():
            used = {term["objective"] for term in own.get("terms", ())}
            used = used or {SID if own.get("distribution_matching") else SCFLOW}
            # what a method adds to the loss on the diagonal is what it is about
            for objective in used - {"si"} or used:
                if (row := _row(shown[name], own["label"])) is not None:
                    rows.setdefault(objective, []).append({"table": name, "method": own["label"], **row})
    found = []
    # in the order of that page, direct losses first
    order = [*reading, *(name for name in objectives.names() if name not in reading)]
    for name in order:
        source = _package(name) if name in (SCFLOW, SID) else objectives.equation(name)
        about, _, rest = source.partition("\n\n`fewstep/objectives/")
        file, _, code = rest.partition("`\n\n```python\n")
        # of the section, the formula stands beside the code already
        told = reading.get(name, "").strip()
        told = told if name == SCFLOW else re.sub(r"\A\$\$.*?\$\$\s*", "", told, flags=re.DOTALL)
        naming = [test[:2] for test in tests if re.search(rf"\b{name}\b", test[2])]
        parts = re.split(r"\$\$", about)
        found.append({
            "name": name, "about": "".join(parts[::2]), "formulas": parts[1::2],
            "file": f"src/fewstep/objectives/{file}", "tests": naming,
            "code": code.removesuffix("```"), "reading": told, "rows": rows.get(name, []),
        })  # fmt: skip
    return found


def _row(shown: Mapping[str, Any], method: str) -> dict[str, Any] | None:
    """A method's row in the first metric of a table."""
    metric = shown["metrics"][0]
    return {"metric": metric["name"], "cells": metric["rows"][method]} if method in metric["rows"] else None


def _package(name: str) -> str:
    """What `objectives.equation` is of a file, of the losses of the package `name`."""
    losses = import_module(f"{objectives.__name__}.{name}.losses")
    source = Path(losses.__file__).read_text(encoding="utf-8")
    about, code = losses.__doc__.strip(), source.partition('"""\n\n')[2]
    code = code[code.index("\ndef ") :].strip()
    return f"{about}\n\n`fewstep/objectives/{name}/losses.py`\n\n```python\n{code}\n```"


def graph(stages: Sequence[Stage], seconds: Mapping[str, float]) -> dict[str, Any]:
    """The stages as boxes, a column a phase and a row an experiment, and the arrows between them.

    Executed notebooks are nobody's input, but all are published: `publish` has arrows from the report alone.
    """
    boxes: dict[str, dict[str, Any]] = {}
    for stage in stages:
        phase = stage.name.partition("@")[0].partition("-")[0]
        if phase in PHASES:
            notebook = next((Path(out).stem for out in stage.outs if out.endswith(".ipynb")), None)
            boxes[stage.name] = {
                "name": stage.name, "phase": phase, "column": PHASES.index(phase),
                "experiment": stage.experiment, "data": stage.data, "notebook": notebook,
                "seconds": seconds.get(notebook or ""),
            }  # fmt: skip
    handed = {stage.name: [out for out in stage.outs if not out.endswith(".ipynb")] for stage in stages}
    before = {
        stage.name: {
            name
            for name in boxes
            if any(_within(out, dep) or _within(dep, out) for out in handed[name] for dep in stage.deps)
        }
        for stage in stages
        if stage.name in boxes
    }
    rows = list(dict.fromkeys(box["experiment"] for box in boxes.values() if box["experiment"]))
    for name, box in boxes.items():
        after = [boxes[other]["experiment"] for other, names in before.items() if name in names]
        own = [box["experiment"], *after]
        box["row"] = 0 if name.startswith("publish") else next((rows.index(e) for e in own if e), 0)
    arrows = [
        (first, name)
        for name, names in before.items()
        for first in sorted(names)
        # what another arrow's start depends on already is not drawn again
        if not any(first in before[other] for other in names)
    ]
    return {"boxes": boxes, "arrows": arrows, "phases": PHASES, "rows": rows}


def _within(path: str, folder: str) -> bool:
    return path == folder or path.startswith(f"{folder}/")


def subject(notebook: str) -> str:
    """What the figures of a notebook are of: an experiment, or both on the checkerboard."""
    return re.sub(r"^(5-figures-[a-z]+-|4-)", "", notebook).replace("5-figures", "checkerboard")
