"""The ledger: what the papers say in words, each claim with a statistic over seeds, an interval and a verdict.

A statistic is written so that the claim says it is at least a threshold. Its interval is a Student t interval
(95 %) over training seeds, each averaged over its sampling seeds. Where a table has fewer than three training seeds, the
interval covers sampling seeds instead: it then says how well these networks were measured, and nothing of how
another training would turn out. The ledger names which of the two. The claim is supported when the whole interval
lies above the threshold, contradicted when it lies below, and undecided otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = ("claim", "paper", "statement", "statistic", "value", "low", "high", "verdict", "tier", "table")
CONFIDENCE = 0.95
TRAINING, SAMPLING = "training seeds", "sampling seeds"
# training seeds that an interval needs
FEW = 3


@dataclass(frozen=True)
class Claim:
    """A statement of a paper and one value of its statistic for each seed; claimed to be >= threshold.

    over  what the values, and so the interval, run over: "training seeds" or "sampling seeds"
    """

    name: str
    paper: str
    statement: str
    statistic: str
    values: tuple[float, ...]
    table: str
    threshold: float = 0.0
    over: str = TRAINING


def interval(values: tuple[float, ...]) -> tuple[float, float]:
    """The Student t interval of the mean; without bounds when there are fewer than two values."""
    if len(values) < 2:
        return -np.inf, np.inf
    mean, error = float(np.mean(values)), float(np.std(values, ddof=1) / np.sqrt(len(values)))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
    return mean - reach, mean + reach


def verdict(low: float, high: float, threshold: float) -> str:
    """supported, contradicted or undecided."""
    if low > threshold:
        return "supported"
    return "contradicted" if high < threshold else "undecided"


def ledger(claims: list[Claim], tier: str) -> pd.DataFrame:
    """The claims as a table, columns as COLUMNS."""
    rows = []
    for c in claims:
        low, high = interval(c.values)
        cover = f"{len(c.values)} {c.over}"
        rows.append(
            {
                "claim": c.name, "paper": c.paper, "statement": c.statement,
                "statistic": f"{c.statistic}; claimed > {c.threshold:g}; interval over {cover}",
                "value": float(np.mean(c.values)), "low": low, "high": high,
                "verdict": verdict(low, high, c.threshold), "tier": tier, "table": c.table,
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _by(seed: str, rows: pd.DataFrame, method: str, nfe: int, metric: str) -> pd.Series:
    part = rows[(rows.method == method) & (rows.nfe == nfe) & (rows.metric == metric)]
    if part.empty:
        raise KeyError(f"no row {method}, {metric}, nfe {nfe}: `sampling.steps` in params.yaml must draw it")
    return part.groupby(seed).value.mean()


def per_seed(rows: pd.DataFrame, method: str, nfe: int, metric: str = "KL to target") -> pd.Series:
    """The metric of a method at `nfe`, by training seed, averaged over sampling seeds; KeyError when there is none."""
    return _by("train_seed", rows, method, nfe, metric)


def by_sampling_seed(rows: pd.DataFrame, method: str, nfe: int, metric: str) -> pd.Series:
    """The metric of a method at `nfe`, by sampling seed, averaged over training seeds; KeyError when there is none."""
    return _by("sample_seed", rows, method, nfe, metric)


def values_of(
    rows: pd.DataFrame, cells: Sequence[tuple[str, int]], metric: str
) -> tuple[list[pd.Series], str]:
    """The metric of each (method, nfe) of `cells`, all by the same kind of seed, and the word for that kind.

    Training seeds where the cells have three or more (an interval over two says next to nothing); sampling seeds, each
    averaged over the training seeds, otherwise. The index of each series is
    named as the column of `rows` that it runs over. Raises KeyError for a cell without rows and ValueError when the
    cells do not have the same seeds, so that they cannot be compared seed by seed, or not the same protocol.
    """
    protocols = rows[
        (rows.metric == metric) & rows.method.isin([method for method, _ in cells])
    ].protocol.unique()
    if len(protocols) > 1:
        raise ValueError(
            f"{metric} was measured under {len(protocols)} protocols and cannot be compared: {protocols[0]} | {protocols[1]}"
        )
    found, over = [per_seed(rows, method, nfe, metric) for method, nfe in cells], TRAINING
    if max(len(values) for values in found) < FEW:
        found, over = [by_sampling_seed(rows, method, nfe, metric) for method, nfe in cells], SAMPLING
    for (method, nfe), values in zip(cells, found):
        if not values.index.equals(found[0].index):
            first = f"{cells[0][0]} at {cells[0][1]} has {list(found[0].index)}"
            raise ValueError(
                f"{method} at {nfe} has the {over} {list(values.index)}, {first}: {metric} cannot be compared"
            )
    return found, over


def calls_to_match(curve: pd.DataFrame, quality: pd.Series, by: str = "train_seed") -> tuple[float, ...]:
    """For each seed of `quality`, the calls at which `curve` reaches it, by log-log interpolation; lower is better.

    `curve` holds the measured rows of one method and one metric, and `by` is its column that indexes `quality`.
    Where the curve is already better with its fewest calls, those; where it never gets there, its most. Raises
    ValueError when the curve has no row of a seed.
    """
    values = []
    for seed, target in quality.items():
        own = curve[curve[by] == seed].groupby("nfe").value.mean().sort_index()
        if own.empty:
            raise ValueError(f"the curve has no row with {by} {seed}")
        best = own.cummin()[::-1]
        values.append(
            float(np.exp(np.interp(np.log(target), np.log(best.to_numpy()), np.log(best.index.to_numpy()))))
        )
    return tuple(values)
