"""The papers' own numbers, each with its status and source.

Status is "confirmed" (read in the paper or in its authors' outputs), "second-hand" (quoted by somebody else)
or "not on file" (found nowhere: the cell stays empty).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

NOT_ON_FILE = "not on file"
STATUSES = ("confirmed", "second-hand", NOT_ON_FILE)
FILE = Path(__file__).with_name("published.csv")

OTHER_PROTOCOL = "other protocol"


@dataclass(frozen=True)
class Source:
    """Which published numbers belong to a table: our metric's name -> theirs, and the protocol they were taken by.

    protocol  what our protocol must say for the two to be set side by side: these pieces of text
    chosen    whether each published number is the best of several checkpoints, chosen by the number itself
    """

    paper: str
    dataset: str
    metrics: dict[str, str]
    protocol: tuple[str, ...]
    chosen: bool = False


def _images(dataset: str, data: str, samples: int) -> Source:
    return Source(
        "selfdistill",
        dataset,
        {"FID": "FID"},
        (f"samples={samples}; ", "extractor=inception", f"training images of {data};"),
        True,
    )


TABLES = {
    "selfdistill-checkerboard": Source(
        "selfdistill",
        "checker",
        {"KL to target": "KL"},
        ("KL(target || histogram), 64000 samples, 50x50 bins on [-1,1]^2, exact quadrature",),
    ),
    "selfdistill-cifar10": _images("CIFAR-10", "cifar10", 50_000),
    "selfdistill-celeba64": _images("CelebA-64", "celeba64", 50_000),
    "selfdistill-afhq64": _images("AFHQ-64", "afhq64", 10_000),
    "scflow-celebahq": Source(
        "scflow",
        "CelebA-HQ-256",
        {"FID": "FID", "recall": "Recall"},
        ("samples=50000; ", "extractor=inception", "training images of celebahq;"),
    ),
}
# CLIP scores are published as cosines, ours are a hundred times that: they stand in the list of what is published and beside no cell
TABLES |= {
    f"scflow-coco{year}": Source(
        "scflow",
        dataset,
        {"FID": "FID"},
        (f"samples={count}; ", "extractor=inception", f"prompts coco{year} of laion"),
    )
    for year, dataset, count in ((2017, "COCO-2017-5k", 5000), (2014, "COCO-2014-30k", 30_000))
}
BEST_CHECKPOINT = ", best of several checkpoints"


def load() -> pd.DataFrame:
    """All published numbers: paper, table, dataset, method, metric, nfe, value, status, source.

    Raises ValueError when a row has an unknown status.
    """
    numbers = pd.read_csv(FILE)
    unknown = set(numbers.status) - set(STATUSES)
    if unknown:
        raise ValueError(
            f"{FILE}: unknown status {sorted(unknown)}; a status is one of {', '.join(STATUSES)}"
        )
    return numbers


def lookup(
    numbers: pd.DataFrame, table: str, method: str, metric: str, nfe: int, protocol: str
) -> tuple[float | None, str, str]:
    """(value, status, source) of one cell; (None, "not on file", "") when nobody is known to have published it.

    A number measured by another protocol than the published one is not set beside it: its status says so.
    """
    source = TABLES.get(table)
    if source is None or metric not in source.metrics:
        return None, NOT_ON_FILE, ""
    match = numbers[
        (numbers.paper == source.paper)
        & (numbers.dataset == source.dataset)
        & (numbers.method == method)
        & (numbers.metric == source.metrics[metric])
        & (numbers.nfe == nfe)
    ]
    if match.empty:
        return None, NOT_ON_FILE, ""
    row = match.iloc[0]
    if not all(piece in protocol for piece in source.protocol):
        return None, OTHER_PROTOCOL, str(row.source)
    return float(row["value"]), str(row.status) + (BEST_CHECKPOINT if source.chosen else ""), str(row.source)


def as_table(table: str) -> pd.DataFrame:
    """The papers' own numbers for a table, methods down and network calls across; empty where none is on file."""
    source, numbers = TABLES.get(table), load()
    if source is None:
        return pd.DataFrame(index=pd.Index([], name=f"{table}: none on file"))
    own = numbers[(numbers.paper == source.paper) & (numbers.dataset == source.dataset)]
    if own.metric.nunique() > 1:
        return _several(own)
    wide = own.pivot(index="method", columns="nfe", values="value").reindex(list(dict.fromkeys(own.method)))
    metric = f"{source.dataset}, {own.metric.iloc[0]} ({', '.join(sorted(set(own.status)))}{BEST_CHECKPOINT if source.chosen else ''})"
    return wide.rename(columns=lambda n: f"N = {n}").rename_axis(columns=metric)


def _several(own: pd.DataFrame) -> pd.DataFrame:
    """Published numbers of several metrics, one row a method and number of calls, each with its status."""
    cells = own.assign(
        text=own.value.map("{:g}".format) + " " + own.status,
        calls=own.nfe.map(lambda n: "not said" if pd.isna(n) else str(int(n))),
    )
    order = list(dict.fromkeys(zip(cells.method, cells.calls)))
    wide = cells.pivot(index=["method", "calls"], columns="metric", values="text").reindex(order).fillna("")
    return wide.rename_axis(columns=own.dataset.iloc[0])
