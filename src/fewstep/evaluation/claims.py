"""The ledger: what the papers say in words (claims.yaml), each with a statistic, an interval and a verdict.

The interval is Student's t (95 %) over training seeds, each averaged over its sampling seeds; with fewer than
three, over sampling seeds: it then says nothing of how another training would turn out. A claim is supported
when the whole interval lies above its threshold, contradicted when it lies below, and undecided otherwise.
Effect and sign test stand beside the verdict and do not make it (`statistics`).
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..training.experiment import Experiment
from .csv_files import BOUND, NUMBER, OR_NOTHING, TEXT, DamagedFileError, entries, read, require_once
from .measure import load, require_whole
from .statistics import calls_to_match, effect, instability, interval, sign_test, verdict

COLUMNS = (
    "claim", "paper", "statement", "statistic", "value", "low", "high", "verdict", "effect", "effect_low",
    "effect_high", "sign_p", "over", "tier", "table",
)  # fmt: skip
# a ledger as it is published; those of earlier versions lack the columns LATER
LATER = {"over": TEXT, "effect": OR_NOTHING[NUMBER]}
LATER |= {"effect_low": BOUND, "effect_high": BOUND, "sign_p": NUMBER}
KINDS = dict.fromkeys(set(COLUMNS) - set(LATER), TEXT) | {"value": NUMBER, "low": BOUND, "high": BOUND}
VERDICTS = ("supported", "contradicted", "undecided")
TRAINING, SAMPLING = "training seeds", "sampling seeds"
SEED = {TRAINING: "train_seed", SAMPLING: "sample_seed"}
# training seeds that an interval needs
FEW = 3
FILE = Path(__file__).with_name("claims.yaml")
Logs = Mapping[str, Sequence[Mapping[str, np.ndarray]]]


# what an entry of claims.yaml says, and what a statistic of each kind is computed from
WORDS = ("id", "paper", "metric", "statement", "words", "unit", "statistic")
NEEDS = {
    "value": {"cells"}, "difference": {"cells"}, "within": {"cells", "bound"}, "near": {"cells", "bound"},
    "ratio": {"cells", "bound"}, "calls": {"cells", "of"}, "gradient norm": {"trainings"},
}  # fmt: skip


@dataclass(frozen=True)
class Claim:
    """A statement of a paper and one value of its statistic for each seed; claimed to be > threshold.

    over  what the values run over: "3 training seeds" or "3 sampling seeds of one training"
    """

    name: str
    paper: str
    statement: str
    statistic: str
    values: tuple[float, ...]
    table: str
    over: str
    threshold: float = 0.0


def by_seeds(
    rows: pd.DataFrame, cells: Sequence[tuple[str, int, str]], over: str | None = None
) -> tuple[list[pd.Series], str]:
    """Each cell (method, nfe, metric) by the seeds `over`, and these: TRAINING or SAMPLING.

    Without `over`, training seeds where there are three or more. Raises ValueError for a cell without rows,
    and for cells of different seeds, or of several protocols of a metric: they cannot be compared.
    """
    for metric in dict.fromkeys(metric for _, _, metric in cells):
        methods = [method for method, _, own in cells if own == metric]
        protocols = rows[(rows.metric == metric) & rows.method.isin(methods)].protocol.unique()
        if len(protocols) > 1:
            found = f"{metric} was measured under {len(protocols)} protocols"
            raise ValueError(f"{found} and cannot be compared: {protocols[0]} | {protocols[1]}")
    parts = [_measured(rows, method, metric, nfe) for method, nfe, metric in cells]
    found = [part.groupby(SEED[over or TRAINING]).value.mean() for part in parts]
    if over is None and max(len(values) for values in found) < FEW:
        return by_seeds(rows, cells, SAMPLING)
    over = over or TRAINING
    for (method, nfe, metric), values in zip(cells, found):
        if not values.index.equals(found[0].index):
            first = f"{cells[0][0]} at {cells[0][1]} has {list(found[0].index)}"
            if metric != cells[0][2]:
                first += f" in {cells[0][2]}"
            own = f"{method} at {nfe} has the {over} {list(values.index)}"
            raise ValueError(f"{own}, {first}: {metric} cannot be compared")
    return found, over


def _less_stable(logs: Logs, loose: str, steady: str) -> tuple[float, ...]:
    for label in (loose, steady):
        if not logs.get(label):
            raise ValueError(f"no training log of {label}; there are {', '.join(logs)}")
    both = [[log["gradient_norm"] for log in logs[label]] for label in (loose, steady)]
    # over as many steps as both have: a longer run has more time to settle
    length = min(len(norms) for own in both for norms in own)
    spread = [[instability(norms[:length]) for norms in own] for own in both]
    return tuple(float(np.log(a / b)) for a, b in zip(*spread, strict=True))


def _measured(rows: pd.DataFrame, method: str, metric: str, nfe: int | None = None) -> pd.DataFrame:
    """The rows of a method and metric, and of one number of network calls; ValueError where there is none."""
    found = rows[(rows.method == method) & (rows.metric == metric)]
    found = found if nfe is None else found[found.nfe == nfe]
    if found.empty:
        cell = f"{method}, {metric}" + ("" if nfe is None else f", nfe {nfe}")
        raise ValueError(f"no row {cell}: `sampling.steps` in params.yaml must draw it")
    return found


def most_calls(rows: pd.DataFrame, method: str, metric: str) -> int:
    """The most network calls at which a method was measured; ValueError where it was not."""
    return int(_measured(rows, method, metric).nfe.max())


def _groups(claim: Mapping[str, Any], rows: pd.DataFrame) -> list[list[tuple[str, int, str]]]:
    """The cells of a statistic as (method, nfe, metric), in one list those of which the least counts."""

    def cell(method: str, nfe: int | str, metric: str = claim["metric"]) -> tuple[str, int, str]:
        calls = {"N": claim["N"], "most": nfe == "most" and most_calls(rows, method, metric)}
        return method, int(calls.get(nfe, nfe)), metric

    entries = claim["statistic"]["cells"]
    return [[cell(*c) for c in (e["least"] if isinstance(e, dict) else [e])] for e in entries]


def _values(claim: Mapping[str, Any], rows: pd.DataFrame, logs: Logs) -> tuple[tuple[float, ...], str]:
    """The values of a claim's statistic, one a seed, and what they run over."""
    own = claim["statistic"]
    if own["kind"] == "gradient norm":
        values = _less_stable(logs, *own["trainings"])
        return values, _over(len(values), TRAINING, len(values))
    groups = _groups(claim, rows)
    cells = [cell for group in groups for cell in group]
    found, over = by_seeds(rows, cells, claim.get("over"))
    series = iter(found)
    a, b = ([pd.concat([next(series) for _ in group], axis=1).min(axis=1) for group in groups] + [None])[:2]
    curve = rows[(rows.method == own.get("of")) & (rows.metric == claim["metric"])]
    statistics = {
        "value": lambda: a,
        "difference": lambda: a - own.get("factor", 1) * b,
        "within": lambda: own["bound"] - (a - b),
        "near": lambda: own["bound"] - (a - b).abs(),
        "ratio": lambda: np.log(own["bound"]) - np.log(a / b),
        "calls": lambda: np.divide(calls_to_match(curve, a, SEED[over]), own.get("each", 1)).tolist(),
    }
    values, trainings = statistics[own["kind"]](), rows[rows.method == cells[0][0]].train_seed.nunique()
    return tuple(values), _over(len(values), over, trainings)


def _over(count: int, over: str, trainings: int) -> str:
    seeds = f"{count} {over if count > 1 else over.removesuffix('s')}"
    of = "one training" if trainings == 1 else f"{trainings} trainings"
    return seeds if over == TRAINING else f"{seeds} of {of}"


@cache
def _file(path: Path = FILE) -> list[dict[str, Any]]:
    """The groups of claims.yaml; DamagedFileError where it is cut short."""
    cure = "restore it from the repository"
    with entries(path, cure) as groups:
        for own in ({**group, **claim} for group in groups for claim in group["claims"]):
            absent = {key for key in WORDS if not own.get(key)}
            if absent := absent or NEEDS[own["statistic"]["kind"]] - set(own["statistic"]):
                said = f"the claim '{own.get('id')}' lacks {', '.join(sorted(absent))}"
                raise DamagedFileError(f"{path}: {said}: {cure}")
    return groups


def _listed(experiment: str, measured: Collection[str]) -> Iterator[dict[str, Any]]:
    """The entries of claims.yaml for an experiment, one for each N, with what their group says."""
    for group in _file():
        for claim in group["claims"] if experiment in group["experiments"] else ():
            if claim.get("only") in {None, *measured} and claim.get("not") not in measured:
                for n in claim.get("for", [None]):
                    name = claim["id"].format(table=experiment.rpartition("-")[2], N=n)
                    yield {**group, **claim, "N": n, "id": name}


def evaluate(experiment: Experiment, rows: pd.DataFrame, logs: Logs | None = None) -> list[Claim]:
    """The claims that an experiment tests, from its measured `rows` and its trainings' `logs`, by label.

    Raises ValueError for what was not measured or logged, and for other seeds or protocols compared.
    """
    require_whole(rows, f"the measured rows of {experiment.name}")
    found = []
    for own in _listed(experiment.name, set(rows.metric)):
        values, over = _values(own, rows, logs or {})
        words = {"N": own["N"], "data": experiment.data_name}
        if "{most}" in own["words"]:
            words["most"] = most_calls(rows, "si", own["metric"])
        name, statement, said = own["id"], *(own[key].format(**words) for key in ("statement", "words"))
        said, threshold = f"{said} ({own['unit']})", float(own.get("threshold", 0))
        found.append(Claim(name, own["paper"], statement, said, values, experiment.name, over, threshold))
    return found


def cells_behind(experiment: str, rows: pd.DataFrame) -> dict[str, list[tuple[str, int, str]]]:
    """By claim of an experiment, the cells (method, nfe, metric) of its `rows` from which it is computed.

    A claim on training logs has none, nor has one whose cells were not measured.
    """
    found = {}
    for own in _listed(experiment, set(rows.metric)):
        statistic, cells = own["statistic"], []
        with suppress(ValueError, KeyError):
            cells = [cell for group in _groups(own, rows) for cell in group]
        curve = rows[(rows.method == statistic.get("of")) & (rows.metric == own["metric"])]
        cells += [(row.method, int(row.nfe), row.metric) for row in curve.itertuples()]
        found[own["id"]] = cells
    return found


def ledger(claims: list[Claim], tier: str) -> pd.DataFrame:
    """The claims as a table, columns as COLUMNS."""
    rows = []
    for c in claims:
        bounds, said = interval(c.values), f"{c.statistic}; claimed > {c.threshold:g}"
        found = float(np.mean(c.values)), *bounds, verdict(*bounds, c.threshold)
        found += *effect(c.values, c.threshold), sign_test(c.values, c.threshold)
        rows.append((c.name, c.paper, c.statement, said, *found, c.over, tier, c.table))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def with_others(own: pd.DataFrame, published: Collection[str], tier: str) -> pd.DataFrame:
    """The ledger `own`, and below it the claims on experiments of the tables `published` that it has none of.

    They are computed from the measured rows; an experiment's table has its name. Raises as `evaluate` does.
    """
    tested, found = {name for group in _file() for name in group["experiments"]} - set(own.table), []
    for experiment in (Experiment.open(tier, name) for name in published if name in tested):
        found += evaluate(experiment, load(experiment))
    return pd.concat([part for part in (own, ledger(found, tier)) if len(part)]) if found else own


def read_ledger(path: Path, measured: Mapping[str, Collection[str]]) -> pd.DataFrame:
    """A ledger as it was published, of the experiments whose `measured` metrics are given by their names.

    Raises DamagedFileError, with the file, the line and the cure, where it is damaged or a claim is missing.
    """
    cure = "run `dvc repro`, which writes it again"
    there = read(path, KINDS, cure).columns
    found = read(path, KINDS | {name: kind for name, kind in LATER.items() if name in there}, cure)
    if other := set(found.verdict) - set(VERDICTS):
        raise DamagedFileError(f"{path} has the verdict '{other.pop()}', not {', '.join(VERDICTS)}: {cure}")
    require_once(found, ["claim"], str(path), cure)
    for experiment, metrics in measured.items():
        names = list(found[found.table == experiment].claim)
        for own in _listed(experiment, metrics):
            if own["id"] not in names:
                raise DamagedFileError(f"{path} lacks the claim '{own['id']}': {cure}")
    return found


def effect_text(row: Any) -> str:
    """The effect of a ledger's row for readers; nothing where none is known or there is no column."""
    found, low, high = (getattr(row, name, np.nan) for name in ("effect", "effect_low", "effect_high"))
    return "" if pd.isna(found) else f"{found:.3g} ({low:.3g} to {high:.3g})"


def sign_text(row: Any) -> str:
    """The sign test of a ledger's row for readers, with the least p that so many seeds can have."""
    p = getattr(row, "sign_p", np.nan)
    return "" if pd.isna(p) else f"{p:.3g} (least {0.5 ** int(row.over.split()[0]):.3g})"


def shown(ledger: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """The ledger for its readers, by title: claims over training seeds apart from the others."""
    said = ledger.statistic.str.partition("; claimed > ")
    # ledgers written by earlier versions say at the end of the statistic what the interval runs over
    claimed = said[2].str.partition("; interval over ")
    over = ledger.over if "over" in ledger else claimed[2]
    sampling = over.str.contains("sampling")
    where = over.str.contains("trainings").map({True: " in these trainings", False: " in this training"})
    columns = {"statistic": said[0], "claimed": "> " + claimed[0], "value": ledger.value.map("{:.3f}".format)}
    columns["95 % interval"] = [f"{low:.3f} to {high:.3f}" for low, high in zip(ledger.low, ledger.high)]
    if "sign_p" in ledger:
        for name, text in (("effect", effect_text), ("sign test", sign_text)):
            columns[name] = [text(row) for row in ledger.itertuples()]
    columns |= {"over": over, "verdict": ledger.verdict + where.where(sampling, "")}
    table = ledger[["claim", "statement"]].assign(**columns).set_index("claim")
    titles = ("Over training seeds, of the method", "Over sampling seeds, of these trainings alone")
    parts = zip(titles, (~sampling, sampling))
    return {title: table[part.to_numpy()] for title, part in parts if part.any()}
