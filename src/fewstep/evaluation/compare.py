"""Two results folders side by side: two machines, two revisions or two tiers, and what moved between them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

CLAIM, CELL = ("claim",), ("table", "method", "metric", "nfe")
ORIGIN = ("tier", "revision", "hardware", "software")
# a metric of this kind is a time on the clock, which no two runs have alike
TIMES = "seconds"


class ComparisonError(ValueError):
    """A folder holds no results that can be compared; the message names the file."""


def _read(path: Path, key: Sequence[str], needed: Sequence[str]) -> pd.DataFrame:
    try:
        found = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{path} cannot be read as a table ({error}): name a results folder") from None
    if lacking := sorted({*key, *needed} - set(found.columns)):
        raise ComparisonError(f"{path} has no column '{lacking[0]}': it is no such table of fewstep")
    if found.duplicated(list(key)).any():
        raise ComparisonError(f"{path} has two rows for one {key[-1]}: it was not written whole")
    return found.set_index(list(key))


def _tables(folder: Path) -> pd.DataFrame:
    paths = sorted((folder / "tables").glob("*.csv"))
    if not paths:
        raise ComparisonError(f"{folder} has no tables/*.csv: name a results folder, such as results/laptop")
    return pd.concat([_read(path, CELL, ("value", "sd", "sd_sampling", *ORIGIN)) for path in paths])


def _beside(a: pd.DataFrame, b: pd.DataFrame, how: Literal["inner", "outer"]) -> pd.DataFrame:
    return a.merge(b, how=how, left_index=True, right_index=True, suffixes=(" (first)", " (second)"))


def claims(first: Path, second: Path) -> pd.DataFrame:
    """The claims of both folders by name: `verdict` and interval in each, and whether the verdict `turned`.

    One that is in one folder alone has "not there" as its other verdict. Raises ComparisonError for a folder
    without claims.
    """
    columns = ["value", "low", "high", "verdict"]
    both = [_read(folder / "claims.csv", CLAIM, columns)[columns] for folder in (first, second)]
    found = _beside(*both, how="outer")
    verdicts = ["verdict (first)", "verdict (second)"]
    found[verdicts] = found[verdicts].fillna("not there")
    return found.assign(turned=found[verdicts[0]] != found[verdicts[1]])


def cells(first: Path, second: Path) -> pd.DataFrame:
    """The cells that both folders have: both values, their `difference`, and it in `deviations`.

    A deviation is what a cell's own seeds moved it by: the larger of those over training and over sampling
    seeds, of both folders; NaN where neither has one. Raises ComparisonError for a folder without tables.
    """
    both = [_tables(folder) for folder in (first, second)]
    found = _beside(*(own[["value"]] for own in both), how="inner")
    found["difference"] = found["value (second)"] - found["value (first)"]
    spread = pd.concat([own.reindex(found.index)[["sd", "sd_sampling"]] for own in both], axis=1)
    largest = spread.max(axis=1).to_numpy()
    reach = np.divide(found.difference.abs(), largest, out=np.full(len(found), np.nan), where=largest > 0)
    return found.assign(deviations=reach)


def report(first: Path, second: Path, longest: int = 20) -> str:
    """What differs, for people: verdicts, the `longest` cells that moved most; raises ComparisonError."""
    ledger, moved = claims(first, second), cells(first, second)
    folders = {"first": first, "second": second}
    lines, turned = [], ledger[ledger.turned]
    for which, own in folders.items():
        found = (_tables(own)[name].dropna().unique() for name in ORIGIN)
        lines.append(f"{which:6}  {own}: {'; '.join(', '.join(sorted(map(str, each))) for each in found)}")
    lines += ["", f"{len(turned)} of {len(ledger)} verdicts differ"]
    for name, row in turned.iterrows():
        for which in folders:
            bounds = f"{row[f'low ({which})']:.3g} to {row[f'high ({which})']:.3g}"
            lines.append(f"  {name if which == 'first' else '':48} {row[f'verdict ({which})']:13} {bounds}")
    timed = moved.index.get_level_values("metric").str.startswith(TIMES)
    moved = moved[~timed]
    other = moved[moved.difference != 0].sort_values("deviations", ascending=False)
    beyond = int((other.deviations > 2).sum())
    said = f"{len(other)} of {len(moved)} cells differ, {beyond} by more than two deviations of their seeds"
    said += f" ({timed.sum()} times on the clock apart)" if timed.any() else ""
    lines += ["", said]
    for key, row in other.head(longest).iterrows():
        table, method, metric, nfe = key
        calls = "" if pd.isna(nfe) else f" at {nfe:g}"
        values = f"{row['value (first)']:.4g} and {row['value (second)']:.4g}"
        lines.append(f"  {table}: {method}, {metric}{calls}: {values} ({row.deviations:.1f} deviations)")
    if len(other) > longest:
        lines.append(f"  and {len(other) - longest} more")
    return "\n".join(lines)
