"""The published results of a tier: tables, claims, figures, headline metrics and a page that shows them all."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Mapping

import pandas as pd

from . import published
from .files import write_atomically
from .plots.picture import Picture
from .tables import readable
from .workspace import Workspace

KL = "KL to target"
README_TABLES = ("fmm-checkerboard", "selfdistill-checkerboard")
README_MARKS = ("<!-- results -->\n", "<!-- end of results -->\n")


@dataclass(frozen=True)
class Results:
    """What the figures notebook hands over: tables by name, the ledger, and pictures by file name."""

    tables: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    pictures: Mapping[str, Picture]


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.6g}"


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV; floats with six digits, which is more than any seed repeats elsewhere."""
    floats = table.select_dtypes("float").columns
    return table.assign(**{c: table[c].map(_number) for c in floats}).to_csv(index=False, lineterminator="\n").encode()


def headline(tables: Mapping[str, pd.DataFrame]) -> dict:
    """table -> method -> "metric N=..." -> value, for `dvc metrics`."""
    found: dict = {}
    for name, table in tables.items():
        for row in table.itertuples():
            found.setdefault(name, {}).setdefault(row.method, {})[f"{row.metric} N={row.nfe}"] = float(f"{row.value:.6g}")
    return found


def _markdown(frame: pd.DataFrame) -> str:
    head = [frame.index.name or "", *map(str, frame.columns)]
    rows = [[str(i), *map(str, row)] for i, row in zip(frame.index, frame.to_numpy())]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def page(results: Results, tier: str) -> str:
    """The report as Markdown: every table, the ledger and the pictures, each with what it came from."""
    parts = [f"# Results at tier {tier}", "Each cell reads *ours ± deviation over training seeds | published | difference*."]
    parts.append(f"Published numbers: c confirmed, s second-hand, – {published.NOT_ON_FILE} or by another protocol.")
    for name, table in results.tables.items():
        first = table.iloc[0]
        parts.append(f"## {name}")
        parts.append(f"From [{first.notebook}](notebooks/{first.notebook}.ipynb) at revision {first.revision}, {first.hardware}; {first.software}.")
        for metric in dict.fromkeys(table.metric):
            protocol = table[table.metric == metric].protocol.iloc[0]
            seeds = table[table.metric == metric].seeds.iloc[0]
            parts += [f"**{metric}** ({protocol}; {seeds} seeds)", _markdown(readable(table, metric))]
    parts += ["## Claims", _markdown(ledger_for_people(results.claims))]
    parts.append("## Figures (drawn by [5-figures](notebooks/5-figures.ipynb))")
    parts += [f"![{picture.title}](figures/{name}.png)\n\n{picture.title}" for name, picture in results.pictures.items()]
    return "\n\n".join(parts) + "\n"


def ledger_for_people(claims: pd.DataFrame) -> pd.DataFrame:
    """The ledger with its figures rounded and its interval in one column."""
    shown = pd.DataFrame(
        {
            "statement": claims.statement,
            "statistic": claims.statistic.str.partition(";")[0] + ", claimed > " + claims.statistic.str.extract(r"claimed > ([^;]+)")[0],
            "value": claims.value.map("{:.3f}".format),
            "95 % interval": [f"{low:.3f} to {high:.3f}" for low, high in zip(claims.low, claims.high)],
            "verdict": claims.verdict,
        }
    )
    return shown.set_index(claims.claim)


def write(workspace: Workspace, results: Results) -> None:
    """Write everything below results/<tier> (or the scratch copy of it)."""
    folder = workspace.results
    for name, table in results.tables.items():
        write_atomically(folder / "tables" / f"{name}.csv", csv(table))
    write_atomically(folder / "claims.csv", csv(results.claims))
    for name, picture in results.pictures.items():
        picture.save(folder / "figures" / f"{name}.png")
    write_atomically(folder / "metrics.json", (json.dumps(headline(results.tables), indent=1, sort_keys=True) + "\n").encode())
    write_atomically(folder / "report.md", page(results, workspace.tier).encode())


def readme_block(root: Path, tier: str = "laptop") -> str:
    """The part of the README that shows results, made from the published files of a tier."""
    parts = []
    for name in README_TABLES:
        table = pd.read_csv(root / "results" / tier / "tables" / f"{name}.csv")
        kl = table[table.metric == KL]
        first = kl.iloc[0]
        parts.append(f"**{name}**, {KL} ({first.seeds} seeds, {first.samples} samples; {first.hardware})")
        parts.append(_markdown(readable(table, KL)))
    claims = pd.read_csv(root / "results" / tier / "claims.csv")
    shown = ledger_for_people(claims).drop(columns="statistic").set_index("statement")
    return "\n\n".join([*parts, "**Claims**", _markdown(shown)]) + "\n"


def refresh_readme(root: Path, text: str) -> str:
    """`text` with what stands between its marks replaced by the results; ValueError without the marks."""
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise ValueError(f"README.md has lost its marks {begin.strip()} and {end.strip()}: restore them")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{readme_block(root)}\n{end}{rest.partition(end)[2]}"
