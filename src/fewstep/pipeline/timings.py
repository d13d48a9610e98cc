"""How long each stage took, and so how long the rest will take.

results/<tier>/timings.csv is a log beside the results, not one of them: it is no output of any stage. It
holds the seconds of the last execution of each of today's stages; one that went on from a stored state counts
from there. While two stages are at work each counts half of the clock's seconds: all add up to a run's. A
pipeline beside the main one has its own, zoo-timings.csv.
"""

import csv
import io
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..storage.files import lock, remove_left, write_atomically
from ..storage.workspace import Workspace
from .stages import plan


def _file(workspace: Workspace, folder: str) -> Path:
    name = f"{folder}-timings.csv" if folder else "timings.csv"
    return workspace.root / "results" / workspace.tier / name


def read(workspace: Workspace, folder: str = "") -> dict[str, float]:
    """By stage, the seconds last recorded; empty when nothing was."""
    with suppress(OSError, KeyError, TypeError, ValueError, csv.Error):
        rows = csv.DictReader(io.StringIO(_file(workspace, folder).read_text(encoding="utf-8")))
        return {row["stage"]: float(row["seconds"]) for row in rows}
    return {}


def _stages(workspace: Workspace, folder: str) -> set[str]:
    """The names of today's stages, as their executed notebooks are called."""
    return {Path(out).stem for stage in plan(workspace.root, workspace.tier, folder) for out in stage.outs}


@contextmanager
def at_work(workspace: Workspace, stage: str) -> Iterator[Callable[[], int]]:
    """A function that says how many stages of this tier are at work, this one, while it lasts, among them."""
    marks = workspace.pipeline / "at-work"
    marks.mkdir(parents=True, exist_ok=True)
    own = marks / f"{stage}.{os.getpid()}.tmp"

    def count() -> int:
        remove_left(marks.glob("*.tmp"))
        return max(len(list(marks.glob("*.tmp"))), 1)

    with open(own, "wb") as mark:
        lock(mark.fileno())
        try:
            yield count
        finally:
            own.unlink(missing_ok=True)


def record(workspace: Workspace, stage: str, seconds: float, folder: str = "") -> None:
    """Store the seconds of a stage, and forget those of stages that there are no more."""
    names = _stages(workspace, folder)
    workspace.pipeline.mkdir(parents=True, exist_ok=True)
    with open(workspace.pipeline / "timings.lock", "wb") as alone:
        for _ in range(20):  # another stage that ends now would forget this one
            if lock(alone.fileno()):
                break
            time.sleep(0.05)
        # a rehearsal's tree plans none
        kept = {name: own for name, own in read(workspace, folder).items() if name in names or not names}
        rows = sorted((kept | {stage: seconds}).items())
        text = "".join(f"{name},{own:.1f}\n" for name, own in rows)
        write_atomically(_file(workspace, folder), f"stage,seconds\n{text}".encode())


@dataclass(frozen=True)
class Plan:
    """The seconds that earlier runs took for each stage, and the stages still to come."""

    seconds: dict[str, float]
    to_come: frozenset[str]

    @classmethod
    def load(cls, workspace: Workspace, folder: str = "") -> Self:
        names = _stages(workspace, folder)
        known = {name: seconds for name, seconds in read(workspace, folder).items() if name in names}
        done = {path.stem for path in (workspace.pipeline / folder / "notebooks").glob("*.ipynb")}
        return cls(known, frozenset(known) - done)

    def left(self, stage: str, elapsed: float, share: float) -> tuple[float | None, float | None]:
        """Seconds left in `stage`, of which `share` is done, and in the pipeline; None without a record."""
        expected = self.seconds.get(stage)
        if expected is None:
            return (elapsed / share - elapsed, None) if share > 0.05 else (None, None)
        here = max(expected - elapsed, 0.0) if share <= 0.2 else elapsed / share - elapsed
        return here, here + sum(self.seconds[name] for name in self.to_come if name != stage)
