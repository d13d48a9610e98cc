"""How long each stage took, and so how long the rest will take.

results/<tier>/timings.csv is a log beside the results, not one of them: it is no output of any stage.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np
import pandas as pd

from ..storage.files import write_atomically
from ..storage.workspace import Workspace
from .stages import plan

COLUMNS = ["seconds", "known_before"]


def _file(workspace: Workspace) -> Path:
    return workspace.root / "results" / workspace.tier / "timings.csv"


def read(workspace: Workspace) -> pd.DataFrame:
    """By stage, the `seconds` last recorded and those `known_before`, if any; empty when nothing was."""
    try:
        return pd.read_csv(_file(workspace), index_col="stage").reindex(columns=COLUMNS).astype(float)
    except (OSError, KeyError, ValueError):
        return pd.DataFrame(columns=COLUMNS, dtype=float).rename_axis("stage")


def record(workspace: Workspace, stage: str, seconds: float) -> None:
    """Store the seconds of a stage, unless under half of what is known: it resumed from stored states."""
    known = read(workspace)
    before = known.seconds.get(stage, np.nan)
    if seconds < before / 2:
        return
    known.loc[stage] = [seconds, before]
    text = known.sort_index().to_csv(float_format="%.1f", lineterminator="\n")
    write_atomically(_file(workspace), text.encode())


@dataclass(frozen=True)
class Plan:
    """What earlier runs took for each stage, the stages still to come, and this run's pace beside theirs."""

    seconds: dict[str, float]
    to_come: frozenset[str]
    pace: float = 1.0

    @classmethod
    def load(cls, workspace: Workspace) -> Self:
        """The pace is the median, over the stages that are done, of seconds taken over those known before."""
        known = read(workspace)
        names = {Path(out).stem for stage in plan(workspace.root, workspace.tier) for out in stage.outs}
        known = known[known.index.isin(names)]
        done = {p.stem for p in (workspace.pipeline / "notebooks").glob("*.ipynb")}
        ratios = (known.seconds / known.known_before)[known.index.isin(done)].dropna()
        pace = float(ratios.median()) if len(ratios) else 1.0
        return cls(known.seconds.to_dict(), frozenset(known.index) - done, pace)

    def left(self, stage: str, elapsed: float, share: float) -> tuple[float | None, float | None]:
        """Seconds left in `stage`, of which `share` is done, and in the pipeline; None without a record."""
        expected = self.seconds.get(stage)
        if expected is None:
            return (elapsed / share - elapsed, None) if share > 0.05 else (None, None)
        here = max(self.pace * expected - elapsed, 0.0) if share <= 0.2 else elapsed / share - elapsed
        return here, here + self.pace * sum(self.seconds[name] for name in self.to_come if name != stage)
