"""The ledger: what the papers say in words, each claim with a statistic over seeds, an interval and a verdict.

A statistic is written so that the claim says it is at least a threshold. Its interval is a Student t interval
(95 %) over training seeds, each averaged over its sampling seeds; the claim is supported when the whole
interval lies above the threshold, contradicted when it lies below, and undecided otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

COLUMNS = ("claim", "paper", "statement", "statistic", "value", "low", "high", "verdict", "tier", "table")
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Claim:
    """A statement of a paper and one value of its statistic for each training seed; claimed to be >= threshold."""

    name: str
    paper: str
    statement: str
    statistic: str
    values: tuple[float, ...]
    table: str
    threshold: float = 0.0


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
        cover = f"{len(c.values)} training seeds"
        rows.append(
            {
                "claim": c.name, "paper": c.paper, "statement": c.statement,
                "statistic": f"{c.statistic}; claimed > {c.threshold:g}; interval over {cover}",
                "value": float(np.mean(c.values)), "low": low, "high": high,
                "verdict": verdict(low, high, c.threshold), "tier": tier, "table": c.table,
            }
        )  # fmt: skip
    return pd.DataFrame(rows, columns=list(COLUMNS))


def per_seed(rows: pd.DataFrame, method: str, nfe: int, metric: str = "KL to target") -> pd.Series:
    """The metric of a method at `nfe`, by training seed, averaged over sampling seeds; KeyError when there is none."""
    part = rows[(rows.method == method) & (rows.nfe == nfe) & (rows.metric == metric)]
    if part.empty:
        raise KeyError(f"no row {method}, {metric}, nfe {nfe}: `sampling.steps` in params.yaml must draw it")
    return part.groupby("train_seed").value.mean()
