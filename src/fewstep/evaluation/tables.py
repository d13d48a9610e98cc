"""Tables: many measured rows become one row a cell, beside the published number where there is one."""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from ..training.experiment import Experiment
from . import provenance, published
from .csv_files import ANY, NUMBER, OR_NOTHING, TEXT, WHOLE, DamagedFileError, read, require_once
from .measure import require_whole
from .measures import AGREEMENT, ATTRIBUTES, CLIP_SCORE, FID, JPEG, NAMES, SAME_NOISE, T_FID
from .provenance import Provenance
from .sample import EXACT, labels

COLUMNS = (
    "experiment", "table", "method", "metric", "nfe", "value", "sd", "sd_sampling", "seeds", "samples",
    "tier", "protocol", "published", "status", "source", *provenance.COLUMNS,
)  # fmt: skip
KINDS = dict.fromkeys(COLUMNS, TEXT) | {"nfe": WHOLE, "samples": WHOLE, "value": NUMBER, "source": ANY}
KINDS |= dict.fromkeys(("sd", "sd_sampling", "published"), OR_NOTHING[NUMBER])
CURE = "run `dvc repro`, which writes it again"
# metrics that are shown with two decimals; the others have three
COARSE = (FID, T_FID, JPEG)
# what stands above numbers that are not of samples, whose network calls are 0
UNSAMPLED = "value"
# the metrics that are shown first, in this order
FIRST = (FID, CLIP_SCORE, ATTRIBUTES, *NAMES.values())


def _cell(group: pd.DataFrame) -> dict:
    """Mean over all seeds; `sd` between training seeds, of averages over samplings, `sd_sampling` within."""
    by_training = group.groupby("train_seed").value
    trainings, (samplings, *others) = by_training.ngroups, set(by_training.size())
    if others or group.samples.nunique() > 1:
        cell = f"{group.method.iloc[0]}, {group.metric.iloc[0]}, nfe {group.nfe.iloc[0]}"
        raise ValueError(f"{cell}: trainings differ in their samplings or samples: measure again")
    means, within = by_training.mean(), np.sqrt(by_training.var(ddof=1).mean())
    if (group.train_seed == -1).all():
        between, seeds = within, f"{samplings} sampling"
    else:
        between = means.std(ddof=1) if trainings > 1 else np.nan
        seeds = f"{trainings} training x {samplings} sampling"
    return {"value": means.mean(), "sd": between, "sd_sampling": within, "seeds": seeds}


def of_rows(experiment: Experiment, rows: pd.DataFrame, name: str) -> pd.DataFrame:
    """The table `name` of some of an experiment's measured rows, methods in the order of its settings."""
    provenance.require(rows, name)
    numbers, names, cells = published.load(), labels(experiment.settings), []
    groups = rows.groupby(["method", "metric", "nfe"], sort=False)
    for (method, metric, nfe), count in groups.protocol.nunique().items():
        if count > 1:
            cell = f"{method}, {metric}, nfe {nfe}"
            raise ValueError(f"{name}: {cell} mixes evaluation protocols: they cannot be averaged")
    require_whole(rows, f"the table '{name}'")
    for (method, metric, nfe), group in groups:
        own = dict(group.iloc[0]) | _cell(group)
        own |= {"method": names[method], "order": list(names).index(method)}
        theirs = published.lookup(numbers, name, own["method"], metric, nfe, own["protocol"])
        cells.append(own | dict(zip(("published", "status", "source"), theirs)))
    table = pd.DataFrame(cells).sort_values(["metric", "order", "nfe"], kind="stable")
    table = table.assign(experiment=experiment.name, table=name, tier=experiment.tier)
    return table[list(COLUMNS)].reset_index(drop=True)


def read_table(path: Path) -> pd.DataFrame:
    """A table as it was published; DamagedFileError, with its line and the cure, if it is damaged."""
    table = read(path, KINDS, CURE)
    if set(table.table) != {path.stem} or table.tier.nunique() != 1:
        named = f"{', '.join(sorted(set(table.table)))} at tier {', '.join(sorted(set(table.tier)))}"
        raise DamagedFileError(f"{path} holds rows of the table {named}: {CURE}")
    require_once(table, ["method", "metric", "nfe"], str(path), CURE)
    return table


def consistency_name(experiment: Experiment) -> str:
    """The name of an experiment's table of the distances between the images of one noise."""
    return "scflow-t2i-consistency" if experiment.settings.sampling.prompts else "scflow-consistency"


def build(experiment: Experiment, rows: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Every table of an experiment by name, columns as COLUMNS: those its settings name, or one of all rows.

    A named one keeps one distance between images of the same noise; a table of its own holds all of these.
    Raises ProvenanceError for a row that cannot be traced and ValueError when one cell mixes protocols.
    """
    tables = experiment.settings.tables
    if not tables:
        return {experiment.name: of_rows(experiment, rows, experiment.name)}
    distances = rows.metric.isin(SAME_NOISE)
    chosen = rows[~distances | (rows.metric == AGREEMENT)]
    parts = {name: chosen[chosen.method.isin(methods)] for name, methods in tables.items()}
    if distances.any():
        parts[consistency_name(experiment)] = rows[distances]
    return {name: of_rows(experiment, part, name) for name, part in parts.items()}


def computed(cells: Iterable[Mapping[str, Any]], name: str, tier: str, origin: Provenance) -> pd.DataFrame:
    """The table `name` of what is no sample's number, columns as COLUMNS: nothing is published beside it.

    Each cell says its method, metric, nfe, value, seeds, samples and protocol, and the deviations it has.
    """
    shared = {"experiment": name, "table": name, "tier": tier, "published": np.nan, "sd": np.nan}
    shared |= {"sd_sampling": np.nan, "status": published.NOT_ON_FILE, "source": "", **origin._asdict()}
    return pd.DataFrame([shared | cell for cell in cells])[list(COLUMNS)]


def with_cost(table: pd.DataFrame, seconds: Sequence[pd.DataFrame], name: str | None = None) -> pd.DataFrame:
    """`table`, called `name` where there is one, with the rows of the tables `seconds` below its own."""
    parts = [table, *(part for part in seconds if len(part))]
    name = name or str(table.table.iloc[0])
    return pd.concat([part.assign(table=name) for part in parts], ignore_index=True)[list(COLUMNS)]


def metrics(table: pd.DataFrame) -> list[str]:
    """The metrics of a table in the order in which they are shown."""
    found = list(dict.fromkeys(table.metric))
    return [metric for metric in FIRST if metric in found] + [m for m in found if m not in FIRST]


def fit(table: pd.DataFrame) -> str:
    """The metric of how well images fit captions: what a probe reads or, without one, the CLIP score."""
    return ATTRIBUTES if (table.metric == ATTRIBUTES).any() else CLIP_SCORE


def shown(table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One metric of a table for readers: methods down, network calls across, `ours ± deviation`.

    Beside N stand published numbers by the same protocol: c confirmed, s second-hand, and the difference.
    """
    part, digits = table[table.metric == metric], 2 if metric in COARSE else 3
    columns: dict[str, dict[str, str]] = defaultdict(dict)
    for row in part.sort_values("nfe", kind="stable").itertuples():
        if not row.nfe:
            columns[UNSAMPLED][row.method] = f"{row.value:.4g}"
            continue
        deviation = "" if pd.isna(row.sd) else f" ± {row.sd:.{digits}f}"
        columns[f"N = {row.nfe}"][row.method] = f"{row.value:.{digits}f}{deviation}"
        if part.published[part.nfe == row.nfe].notna().any():
            theirs, difference = row.published, row.value - row.published
            said = f"{theirs:.{digits}f} {str(row.status)[0]} ({difference:+.{digits}f})"
            columns[f"N = {row.nfe}, published"][row.method] = "" if pd.isna(theirs) else said
    wide = pd.DataFrame(columns, index=part.method.unique()).fillna("")
    return wide.rename_axis(index="method", columns=metric)


def floor(table: pd.DataFrame, metric: str) -> float:
    """What an exact sampler scores: the `exact` row at its fewest calls."""
    return float(table[(table.metric == metric) & (table.method == EXACT)].sort_values("nfe").value.iloc[0])
