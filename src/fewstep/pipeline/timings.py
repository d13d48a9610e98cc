"""How long each stage took, and so how long the rest will take.

results/<tier>/timings.csv is a log beside the results, not one of them: it is no output of any stage.
"""

from __future__ import annotations

import csv
import io
from dataclasses import dataclass
from pathlib import Path

from ..storage.files import write_atomically
from ..storage.workspace import Workspace


def _file(workspace: Workspace) -> Path:
    return workspace.root / "results" / workspace.tier / "timings.csv"


def read(workspace: Workspace) -> dict[str, float]:
    """Seconds by stage, as last recorded; empty when nothing was."""
    try:
        with open(_file(workspace), newline="") as file:
            return {row["stage"]: float(row["seconds"]) for row in csv.DictReader(file)}
    except (OSError, KeyError, ValueError):
        return {}


def record(workspace: Workspace, stage: str, seconds: float) -> None:
    """Store the seconds of a stage.

    A stage that went on from stored states says little of its length: under half of what is known is left out.
    """
    known = read(workspace)
    if seconds < known.get(stage, 0) / 2:
        return
    known |= {stage: seconds}
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["stage", "seconds"])
    writer.writerows([name, f"{value:.1f}"] for name, value in sorted(known.items()))
    write_atomically(_file(workspace), text.getvalue().encode())


@dataclass(frozen=True)
class Plan:
    """What earlier runs say about the stages, and which of them are still to come."""

    seconds: dict[str, float]
    to_come: frozenset[str]

    @classmethod
    def load(cls, workspace: Workspace) -> Plan:
        seconds = read(workspace)
        done = {p.stem for p in (workspace.pipeline / "notebooks").glob("*.ipynb")}
        return cls(seconds, frozenset(seconds) - done)

    def left(self, stage: str, elapsed: float, share: float) -> tuple[float | None, float | None]:
        """Seconds left in `stage`, of which `share` is done, and in the whole pipeline; None without a record.

        This machine's pace, once it shows, scales what was recorded on another.
        """
        expected = self.seconds.get(stage)
        if expected is None:
            return (elapsed / share - elapsed, None) if share > 0.05 else (None, None)
        total = elapsed / share if share > 0.2 else max(expected, elapsed)
        pace = total / expected if share > 0.2 else 1.0
        here = total - elapsed
        return here, here + pace * sum(self.seconds[name] for name in self.to_come if name != stage)
