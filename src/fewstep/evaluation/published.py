"""The papers' own numbers, each with its source and its status.

"confirmed" (in the paper or its authors' outputs), "second-hand" (quoted by others) or "not on file".
"""

from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from .csv_files import NUMBER, OR_NOTHING, TEXT, WHOLE, DamagedFileError, entries, read, require_once

NOT_ON_FILE, OTHER_PROTOCOL = "not on file", "other protocol"
STATUSES = ("confirmed", "second-hand", NOT_ON_FILE)
BEST_CHECKPOINT = ", best of several checkpoints"
FILE = Path(__file__).with_name("published.csv")
OF_TABLES = FILE.with_suffix(".yaml")
CELL = ["paper", "dataset", "method", "metric", "nfe"]
COLUMNS = dict.fromkeys([*CELL, "table", "status", "source"], TEXT) | {
    "nfe": OR_NOTHING[WHOLE],
    "value": NUMBER,
}
CURE = "restore it from the repository"


def load(path: Path = FILE) -> pd.DataFrame:
    """All published numbers, a row each; DamagedFileError for a row that is cut, doubled or no number."""
    numbers = read(path, COLUMNS, CURE)
    if unknown := set(numbers.status) - set(STATUSES):
        known = ", ".join(STATUSES)
        raise DamagedFileError(f"{path}: unknown status {sorted(unknown)}; a status is one of {known}")
    if (negative := numbers[(numbers.value < 0) | (numbers.nfe < 1)]).size:
        row = negative.iloc[0]
        cell = f"{row.method} has {row.metric} {row.value:g} at nfe {row.nfe}"
        raise DamagedFileError(f"{path}: {cell}: {CURE}")
    require_once(numbers, CELL, str(path), CURE)
    return numbers


@cache
def _tables(path: Path = OF_TABLES) -> dict[str, dict[str, Any]]:
    """What published.yaml says of each table; DamagedFileError where it is cut short."""
    with entries(path, CURE) as found:
        for table, own in found.items():
            if absent := {"paper", "dataset", "metrics", "protocol"} - set(own):
                raise DamagedFileError(f"{path}: the table {table} lacks {', '.join(sorted(absent))}: {CURE}")
    return found


def _own(numbers: pd.DataFrame, table: dict[str, Any]) -> pd.DataFrame:
    papers = [table["paper"], *table.get("others", [])]
    return numbers[numbers.paper.isin(papers) & (numbers.dataset == table["dataset"])]


def _chosen(table: dict[str, Any], paper: str) -> str:
    return BEST_CHECKPOINT if table.get("chosen") and paper == table["paper"] else ""


def lookup(
    numbers: pd.DataFrame, table: str, method: str, metric: str, nfe: int, protocol: str
) -> tuple[float | None, str, str]:
    """(value, status, source) of a cell; (None, "not on file", "") where there is no published value.

    A number measured by another protocol than the published one is not set beside it: its status says so.
    """
    source = _tables().get(table)
    if source is None or metric not in source["metrics"]:
        return None, NOT_ON_FILE, ""
    own = _own(numbers, source)
    match = own[(own.method == method) & (own.metric == source["metrics"][metric]) & (own.nfe == nfe)]
    if match.empty:
        return None, NOT_ON_FILE, ""
    row = match.iloc[0]
    if not all(piece in protocol for piece in source["protocol"]):
        return None, OTHER_PROTOCOL, str(row.source)
    return float(row["value"]), str(row.status) + _chosen(source, row.paper), str(row.source)


def as_table(table: str) -> pd.DataFrame:
    """The papers' numbers for a table with their status: metrics and methods down, network calls across."""
    source = _tables().get(table)
    if source is None:
        return pd.DataFrame(index=pd.Index([], name=f"no published value for {table}"))
    own = _own(load(), source)
    calls = own.nfe.map(lambda n: "N not said" if pd.isna(n) else f"N = {int(n)}")
    cells = own.assign(text=own.value.map("{:g}".format) + " " + own.status, calls=calls)
    columns = cells.sort_values("nfe", kind="stable").calls.unique()
    rows = [(m, name) for m in cells.metric.unique() for name in cells[cells.metric == m].method.unique()]
    wide = cells.pivot(index=["metric", "method"], columns="calls", values="text")
    title = source["dataset"] + _chosen(source, source["paper"])
    if (others := own[own.paper != source["paper"]].method.unique()).size and source.get("chosen"):
        title += f" but for {', '.join(others)}"
    return wide.reindex(rows)[columns].fillna("").rename_axis(columns=title)
