"""Tables: many measured rows become one tidy row a cell, beside the published number."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..settings.tiers import ExperimentSettings
from . import provenance, published
from .sample import EXACT, labels

COLUMNS = (
    "experiment", "table", "method", "metric", "nfe", "value", "sd", "sd_sampling", "seeds", "samples", "tier", "protocol",
    "published", "status", "source", *provenance.COLUMNS,
)  # fmt: skip


def _cell(group: pd.DataFrame) -> dict:
    """Mean over all seeds; `sd` between training seeds (each averaged over its samplings), `sd_sampling` within."""
    by_training = group.groupby("train_seed").value
    trained, drawn = by_training.ngroups, int(by_training.size().iloc[0])
    means, within = by_training.mean(), by_training.var(ddof=1).mean()
    between = means.std(ddof=1) if trained > 1 else np.nan
    if (group.train_seed == -1).all():
        return {
            "value": means.mean(),
            "sd": np.sqrt(within),
            "sd_sampling": np.sqrt(within),
            "seeds": f"{drawn} sampling",
        }
    return {
        "value": means.mean(),
        "sd": between,
        "sd_sampling": np.sqrt(within),
        "seeds": f"{trained} training x {drawn} sampling",
    }


def build(
    rows: pd.DataFrame, settings: ExperimentSettings, name: str, tier: str, experiment: str | None = None
) -> pd.DataFrame:
    """The table `name` from the measured `rows` of one experiment at one tier, columns as COLUMNS.

    `experiment` is the experiment's name where it is not the table's.

    Raises ProvenanceError for a row that cannot be traced and ValueError when one cell mixes protocols.
    """
    provenance.require(rows, name)
    numbers = published.load()
    names = labels(settings)
    order = {method: k for k, method in enumerate(names)}
    cells = []
    for (method, metric, nfe), group in rows.groupby(["method", "metric", "nfe"], sort=False):
        if group.protocol.nunique() > 1:
            raise ValueError(
                f"{name}: {method}, {metric}, nfe {nfe} mixes evaluation protocols: they cannot be averaged"
            )
        label = names[method]
        value, status, source = published.lookup(numbers, name, label, metric, nfe, group.protocol.iloc[0])
        cells.append(
            {
                "experiment": experiment or name,
                "table": name,
                "method": label,
                "metric": metric,
                "nfe": nfe,
                "order": order[method],
            }
            | _cell(group)
            | {"samples": int(group.samples.iloc[0]), "tier": tier, "protocol": group.protocol.iloc[0]}
            | {"published": value, "status": status, "source": source}
            | {column: group[column].iloc[0] for column in provenance.COLUMNS}
        )
    table = pd.DataFrame(cells).sort_values(["metric", "order", "nfe"], kind="stable")
    return table[list(COLUMNS)].reset_index(drop=True)


# metrics of whose size two decimals tell enough
COARSE = ("FID", "T-FID", "FID as JPEG")


def readable(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric of a table for people: methods down, network calls across, `ours ± sd | published | difference`.

    A published cell carries its status: c for confirmed, s for second-hand, a dash for not on file.
    """
    part, digits = table[table.metric == metric], 2 if metric in COARSE else 3

    def text(row: pd.Series) -> str:
        ours = f"{row.value:.{digits}f}" + (f" ± {row.sd:.{digits}f}" if row.sd == row.sd else "")
        if pd.isna(row.published):
            return f"{ours} | – | –"
        return (
            f"{ours} | {row.published:.{digits}f} {row.status[0]} | {row.value - row.published:+.{digits}f}"
        )

    shown = part.assign(text=part.apply(text, axis=1))
    wide = shown.pivot(index="method", columns="nfe", values="text").reindex(list(dict.fromkeys(part.method)))
    wide = wide.fillna("").rename(columns=lambda n: f"N = {n}")
    return wide.rename_axis(columns=metric)


def floor(table: pd.DataFrame, metric: str) -> float:
    """What an exact sampler scores: the `exact` row at its fewest calls."""
    return float(table[(table.metric == metric) & (table.method == EXACT)].sort_values("nfe").value.iloc[0])
