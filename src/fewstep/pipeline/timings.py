"""How long each stage took, and so how long the rest will take.

results/<tier>/timings.csv is a log beside the results, not one of them: it is no output of any stage.
"""

import csv
import io
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Self

from ..storage.files import write_atomically
from ..storage.workspace import Workspace
from .stages import plan

COLUMNS = ("stage", "seconds", "known_before")


def _file(workspace: Workspace) -> Path:
    return workspace.root / "results" / workspace.tier / "timings.csv"


def read(workspace: Workspace) -> dict[str, tuple[float, float | None]]:
    """By stage, the seconds last recorded and those known before, if any; empty when nothing was."""
    with suppress(OSError, KeyError, ValueError, csv.Error):
        rows = csv.DictReader(io.StringIO(_file(workspace).read_text(encoding="utf-8")))
        number = {row["stage"]: (float(row["seconds"]), row["known_before"]) for row in rows}
        return {name: (seconds, float(old) if old else None) for name, (seconds, old) in number.items()}
    return {}


def record(workspace: Workspace, stage: str, seconds: float) -> None:
    """Store the seconds of a stage, unless under half of what is known: it resumed from stored states."""
    known = read(workspace)
    before = known[stage][0] if stage in known else None
    if before is not None and seconds < before / 2:
        return
    known[stage] = (seconds, before)
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(COLUMNS)
    for name, own in sorted(known.items()):
        rows.writerow([name, *("" if value is None else f"{value:.1f}" for value in own)])
    write_atomically(_file(workspace), text.getvalue().encode())


@dataclass(frozen=True)
class Plan:
    """What earlier runs took for each stage, the stages still to come, and this run's pace beside theirs."""

    seconds: dict[str, float]
    to_come: frozenset[str]
    pace: float = 1.0

    @classmethod
    def load(cls, workspace: Workspace) -> Self:
        """The pace is the median, over the stages that are done, of seconds taken over those known before."""
        names = {Path(out).stem for stage in plan(workspace.root, workspace.tier) for out in stage.outs}
        known = {name: own for name, own in read(workspace).items() if name in names}
        done = {p.stem for p in (workspace.pipeline / "notebooks").glob("*.ipynb")}
        ratios = [new / old for name, (new, old) in known.items() if name in done and old]
        seconds = {name: own[0] for name, own in known.items()}
        return cls(seconds, frozenset(known) - done, median(ratios) if ratios else 1.0)

    def left(self, stage: str, elapsed: float, share: float) -> tuple[float | None, float | None]:
        """Seconds left in `stage`, of which `share` is done, and in the pipeline; None without a record."""
        expected = self.seconds.get(stage)
        if expected is None:
            return (elapsed / share - elapsed, None) if share > 0.05 else (None, None)
        here = max(self.pace * expected - elapsed, 0.0) if share <= 0.2 else elapsed / share - elapsed
        return here, here + self.pace * sum(self.seconds[name] for name in self.to_come if name != stage)
