"""What `make gpu` writes: the rows of steps as CSV, and all that it found as a page of Markdown."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import astuple, dataclass, fields
from xml.etree import ElementTree

from .cells import Cell
from .steps import Machine, Row


@dataclass(frozen=True)
class Outcome:
    """What came of the marked tests: how many passed, the names of those that failed, reasons for skips.

    problem  why there is no outcome, if there is none
    """

    passed: int = 0
    failed: tuple[str, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    problem: str = ""

    @property
    def good(self) -> bool:
        return self.passed > 0 and not self.failed and not self.problem


def outcome(junit: str) -> Outcome:
    """What pytest's JUnit file says."""
    passed, failed, skipped = 0, [], []
    for case in ElementTree.fromstring(junit).iter("testcase"):
        if case.find("failure") is not None or case.find("error") is not None:
            failed.append(case.get("name", "?"))
        elif (skip := case.find("skipped")) is not None:
            skipped.append((case.get("name", "?"), skip.get("message", "")))
        else:
            passed += 1
    return Outcome(passed, tuple(failed), tuple(skipped))


def as_csv(rows: Sequence[Row]) -> bytes:
    """The rows, numbers to four digits; a cell that is None is empty."""
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(field.name for field in fields(Row))
    for row in rows:
        writer.writerow(_short(value) for value in astuple(row))
    return stream.getvalue().encode()


def _short(value: object) -> object:
    return f"{value:.4g}" if isinstance(value, float) else "" if value is None else value


def _table(head: Sequence[str], lines: Sequence[Sequence[object]]) -> list[str]:
    """A table of Markdown."""
    made = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    for line in lines:
        cells = (str(_short(value)).replace("|", "\\|").replace("\n", " ") for value in line)
        made.append(f"| {' | '.join(cells)} |")
    return [*made, ""]


def _of_tests(tests: Outcome) -> list[str]:
    if tests.problem:
        return [f"The marked tests have no outcome: {tests.problem}.", ""]
    said = f"{tests.passed} passed, {len(tests.failed)} failed, {len(tests.skipped)} skipped."
    lines = [said, ""] + [f"- failed: `{name}`" for name in tests.failed]
    lines += [f"- skipped: `{name}`: {reason}" for name, reason in tests.skipped]
    return lines + ([""] if len(lines) > 2 else [])


def _of_steps(rows: Sequence[Row]) -> list[str]:
    head = (
        "experiment", "network", "step", "precision", "compiled", "batch", "ms", "samples/s", "GB",
        "TFLOP", "of the limit", "problem",
    )  # fmt: skip
    lines = [
        (
            row.experiment, f"{row.network}, {row.parameters / 1e6:.3g}M", row.objective, row.precision,
            "yes" if row.compiled else "no", row.batch, row.milliseconds, row.samples_per_second,
            row.peak_gb, row.tflop, None if row.share is None else f"{100 * row.share:.1f} %", row.problem,
        )
        for row in rows
    ]  # fmt: skip
    return _table(head, lines)


def _of_cells(cells: Sequence[Cell]) -> list[str]:
    lines = []
    for own in cells:
        cpu = "" if own.cpu is None else f"{own.cpu:.4g}"
        deviation = "" if own.sd is None else f" ± {own.sd:.2g} ({own.of})"
        # no plain format: -0.04 would read as if it were nothing with a sign
        off = "" if own.deviations is None else f"{own.deviations:+.1f}"
        lines.append(
            (own.experiment, own.method, own.metric, own.nfe, cpu + deviation, own.device, off, own.note)
        )
    head = ("experiment", "method", "metric", "N", "CPU", "device", "difference in deviations", "note")
    return _table(head, lines) + [_far(cells), ""]


def _far(cells: Sequence[Cell]) -> str:
    """How many of the cells that can be compared are more than three deviations off."""
    known = [abs(own.deviations) for own in cells if own.deviations is not None]
    far = sum(off > 3 or math.isnan(off) for off in known)
    return f"{far} of {len(known)} cells that compare are more than three deviations off."


def page(
    machine: Machine, kind: str, tier: str, tests: Outcome | None, rows: Sequence[Row], cells: Sequence[Cell],
    problems: Sequence[str],
) -> str:  # fmt: skip
    """The page of a machine of the `kind` "cuda" or "cpu"; `tier` and `problems` are the experiments'."""
    in_small = (
        "" if kind == "cuda" else " On a CPU, in small: this says nothing of a GPU, only that all runs."
    )
    where = f"torch {machine.torch}, driver {machine.driver}, revision {machine.revision}"
    lines = [f"# {machine.device}", "", f"Written by `make gpu`: {where}.{in_small}", ""]
    if tests is not None:
        lines += ["## Tests", "", *_of_tests(tests)]
    lines += [
        "## Training steps", "",
        "The median of a step of the library's own loop on noise: flow matching (`si`) and Lagrangian "
        "distillation (`lmd`, semigradient). GB: the most that tensors held. Of the limit: the step's "
        "products and convolutions a second, recomputed ones included, over those of a plain product of "
        "matrices in the same precision on the same device.", "", *_of_steps(rows),
    ]  # fmt: skip
    lines += [
        f"## Experiments of tier {tier}", "",
        "Trained, sampled and measured on the device by the tier's own settings, `compute` aside; the "
        "precision is torch's default. A device draws other random numbers than a CPU from the same seed, so "
        "each training is another one. The deviation is that of the published cell over its trainings, or "
        "over its samplings where there was one training, which is less than trainings differ by.", "",
    ]  # fmt: skip
    lines += [f"- {problem}" for problem in problems] + ([""] if problems else [])
    return "\n".join(lines + (_of_cells(cells) if cells else []))
