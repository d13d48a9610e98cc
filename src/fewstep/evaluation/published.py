"""The papers' own numbers, each with its status and source.

Status is "confirmed" (read in the paper or in its authors' outputs), "second-hand" (quoted by somebody else)
or "not on file" (found nowhere: the cell stays empty).
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pandas as pd

NOT_ON_FILE, OTHER_PROTOCOL = "not on file", "other protocol"
STATUSES = ("confirmed", "second-hand", NOT_ON_FILE)
FILE = Path(__file__).with_name("published.csv")


@dataclass(frozen=True)
class Source:
    """Which published numbers belong to a table: our metric's name -> theirs, and their protocol.

    protocol  what our protocol must say for the two to be set side by side: these pieces of text
    chosen    whether each published number is the best of several checkpoints, chosen by the number itself
    """

    paper: str
    dataset: str
    metrics: dict[str, str]
    protocol: tuple[str, ...]
    chosen: bool = False


def _inception(samples: int, split: str) -> tuple[str, ...]:
    return f"samples={samples}; ", "extractor=inception", split


def _self_distillation(dataset: str, data: str, samples: int) -> Source:
    protocol = _inception(samples, f"training images of {data};")
    return Source("selfdistill", dataset, {"FID": "FID"}, protocol, chosen=True)


def _captions(year: int, dataset: str, samples: int) -> Source:
    # CLIP scores are published as cosines, ours are a hundred times that: theirs stand beside none of ours
    protocol = _inception(samples, f"prompts coco{year} of laion")
    return Source("scflow", dataset, {"FID": "FID"}, protocol)


TABLES = {
    "selfdistill-checkerboard": Source(
        "selfdistill",
        "checker",
        {"KL to target": "KL"},
        ("KL(target || histogram), 64000 samples, 50x50 bins on [-1,1]^2, exact quadrature",),
    ),
    "selfdistill-cifar10": _self_distillation("CIFAR-10", "cifar10", 50_000),
    "selfdistill-celeba64": _self_distillation("CelebA-64", "celeba64", 50_000),
    "selfdistill-afhq64": _self_distillation("AFHQ-64", "afhq64", 10_000),
    "scflow-celebahq": Source(
        "scflow",
        "CelebA-HQ-256",
        {"FID": "FID", "recall": "Recall"},
        _inception(50_000, "training images of celebahq;"),
    ),
    "scflow-coco2017": _captions(2017, "COCO-2017-5k", 5000),
    "scflow-coco2014": _captions(2014, "COCO-2014-30k", 30_000),
}
BEST_CHECKPOINT = ", best of several checkpoints"


def load() -> pd.DataFrame:
    """All published numbers: paper, table, dataset, method, metric, nfe, value, status, source.

    Raises ValueError when a row has an unknown status.
    """
    numbers = pd.read_csv(FILE)
    unknown = set(numbers.status) - set(STATUSES)
    if unknown:
        known = ", ".join(STATUSES)
        raise ValueError(f"{FILE}: unknown status {sorted(unknown)}; a status is one of {known}")
    return numbers


def lookup(
    numbers: pd.DataFrame, table: str, method: str, metric: str, nfe: int, protocol: str
) -> tuple[float | None, str, str]:
    """(value, status, source) of a cell; (None, "not on file", "") where there is no published value.

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
    """The papers' numbers for a table with their status: metrics and methods down, network calls across."""
    source, numbers = TABLES.get(table), load()
    if source is None:
        return pd.DataFrame(index=pd.Index([], name=f"no published value for {table}"))
    own = numbers[(numbers.paper == source.paper) & (numbers.dataset == source.dataset)]
    best = BEST_CHECKPOINT if source.chosen else ""
    calls = own.nfe.map(lambda n: "N not said" if pd.isna(n) else f"N = {int(n)}")
    cells = own.assign(text=own.value.map("{:g}".format) + " " + own.status + best, calls=calls)
    columns = dict.fromkeys(cells.sort_values("nfe", kind="stable").calls)
    rows = dict.fromkeys(zip(cells.metric, cells.method))
    wide = cells.pivot(index=["metric", "method"], columns="calls", values="text")
    return wide.reindex(list(rows))[list(columns)].fillna("").rename_axis(columns=source.dataset)
