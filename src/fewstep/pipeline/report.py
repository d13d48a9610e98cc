"""The results of a tier: tables, claims, figures, headline metrics and a page that shows them all.

The notebooks that draw figures each write a part; `publish` puts the parts and the executed notebooks together.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from ..evaluation import published
from ..evaluation.plots.picture import Picture
from ..evaluation.tables import readable
from ..storage.files import write_atomically
from ..storage.workspace import Workspace

# the part that stands first: what the README shows
FIRST = "checkerboard"
# what the README shows of each table
README_TABLES = (
    ("fmm-checkerboard", "KL to target"), ("selfdistill-checkerboard", "KL to target"),
    ("fmm-cifar10", "FID"), ("fmm-imagenet32", "FID"), ("selfdistill-cifar10", "FID"),
    ("scflow-celebahq", "FID"), ("scflow-ablation", "FID"), ("scflow-consistency", "PSNR to N = 1"),
    ("scflow-coco2017", "FID"), ("scflow-coco2017", "attribute accuracy"),
)  # fmt: skip
README_MARKS = ("<!-- results -->\n", "<!-- end of results -->\n")


@dataclass(frozen=True)
class Results:
    """What a figures notebook hands over: tables by name, its part of the ledger, and pictures by file name."""

    tables: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    pictures: Mapping[str, Picture]


@dataclass(frozen=True)
class Part:
    """One notebook's results as they lie on disk: tables, its part of the ledger, and the pictures' files and titles."""

    notebook: str
    tables: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    pictures: Mapping[Path, str]


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.6g}"


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV; floats with six digits, which is more than any seed repeats elsewhere."""
    floats = table.select_dtypes("float").columns
    return (
        table.assign(**{c: table[c].map(_number) for c in floats})
        .to_csv(index=False, lineterminator="\n")
        .encode()
    )


def headline(tables: Mapping[str, pd.DataFrame]) -> dict:
    """table -> method -> "metric N=..." -> value, for `dvc metrics`; times are left out, as they never repeat."""
    found: dict = {}
    for name, table in tables.items():
        for row in table[~table.metric.str.startswith("seconds")].itertuples():
            found.setdefault(name, {}).setdefault(row.method, {})[f"{row.metric} N={row.nfe}"] = float(
                f"{row.value:.6g}"
            )
    return found


def _markdown(frame: pd.DataFrame) -> str:
    head = [frame.index.name or "", *map(str, frame.columns)]
    rows = [[str(i), *map(str, row)] for i, row in zip(frame.index, frame.to_numpy())]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def page(parts: Sequence[Part], tier: str) -> str:
    """The report as Markdown: every table, the ledger and the pictures, each with what it came from."""
    text = [
        f"# Results at tier {tier}",
        "Each cell reads *ours ± deviation over training seeds | published | difference*.",
    ]
    text.append(
        f"Published numbers: c confirmed, s second-hand, – {published.NOT_ON_FILE} or by another protocol."
    )
    for name, table in ((name, table) for part in parts for name, table in part.tables.items()):
        first = table.iloc[0]
        text.append(f"## {name}")
        text.append(
            f"From [{first.notebook}](notebooks/{first.notebook}.ipynb) at revision {first.revision}, {first.hardware}; {first.software}."
        )
        for metric in dict.fromkeys(table.metric):
            protocol = table[table.metric == metric].protocol.iloc[0]
            seeds = table[table.metric == metric].seeds.iloc[0]
            text += [f"**{metric}** ({protocol}; {seeds} seeds)", _markdown(readable(table, metric))]
    text += ["## Claims", _markdown(claims_table(pd.concat([part.claims for part in parts])))]
    for part in parts:
        text.append(f"## Figures drawn by [{part.notebook}](notebooks/{part.notebook}.ipynb)")
        text += [f"![{title}](figures/{path.name})\n\n{title}" for path, title in part.pictures.items()]
    return "\n\n".join(text) + "\n"


def claims_table(claims: pd.DataFrame) -> pd.DataFrame:
    """The ledger with its figures rounded and its interval in one column."""
    shown = pd.DataFrame(
        {
            "statement": claims.statement,
            "statistic": claims.statistic.str.partition(";")[0]
            + ", claimed > "
            + claims.statistic.str.extract(r"claimed > ([^;]+)")[0],
            "value": claims.value.map("{:.3f}".format),
            "95 % interval": [
                f"{low:.3f} to {high:.3f} ({over})"
                for low, high, over in zip(
                    claims.low, claims.high, claims.statistic.str.extract("interval over (.+)$")[0]
                )
            ],
            "verdict": claims.verdict,
        }
    )
    return shown.set_index(claims.claim)


def write(workspace: Workspace, name: str, notebook: str, results: Results) -> None:
    """Write the part `name` of the report, drawn by the executed notebook `notebook`, to report/<name> below the tier's artifacts."""
    folder = workspace.write(f"report/{name}/part.json").parent
    for table_name, table in results.tables.items():
        write_atomically(folder / "tables" / f"{table_name}.csv", csv(table))
    write_atomically(folder / "claims.csv", csv(results.claims))
    for file, picture in results.pictures.items():
        picture.save(folder / "figures" / f"{file}.png")
    described = {
        "notebook": notebook,
        "tables": list(results.tables),
        "pictures": {f"{file}.png": picture.title for file, picture in results.pictures.items()},
    }
    write_atomically(folder / "part.json", (json.dumps(described, indent=1) + "\n").encode())


def read_parts(folder: Path) -> list[Part]:
    """The parts below `folder`, that of the checkerboard first; raises FileNotFoundError when there is none."""
    parts = []
    for path in sorted(folder.glob("*/part.json"), key=lambda p: (p.parent.name != FIRST, p.parent.name)):
        described = json.loads(path.read_text())
        tables = {name: pd.read_csv(path.parent / "tables" / f"{name}.csv") for name in described["tables"]}
        pictures = {path.parent / "figures" / name: title for name, title in described["pictures"].items()}
        parts.append(Part(described["notebook"], tables, pd.read_csv(path.parent / "claims.csv"), pictures))
    if not parts:
        raise FileNotFoundError(
            f"{folder} holds no part of a report: run `dvc repro`, whose figures notebooks write them"
        )
    return parts


def _replace_folder(target: Path, files: Mapping[str, Path]) -> None:
    """`target` with copies of `files`, by name, and nothing else; a reader sees the old folder or the new one."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for name, path in files.items():
        shutil.copy(path, fresh / name)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def publish(workspace: Workspace) -> None:
    """Put the parts of the report and the executed notebooks together as results/<tier>."""
    made, folder = workspace.pipeline, workspace.root / "results" / workspace.tier
    parts = read_parts(made / "report")
    tables = {name: table for part in parts for name, table in part.tables.items()}
    _replace_folder(
        folder / "tables", {path.name: path for path in sorted((made / "report").glob("*/tables/*.csv"))}
    )
    _replace_folder(folder / "figures", {path.name: path for part in parts for path in part.pictures})
    notebooks = sorted(
        path for path in (made / "notebooks").glob("*.ipynb") if not path.name.endswith(".failed.ipynb")
    )
    _replace_folder(folder / "notebooks", {path.name: path for path in notebooks})
    write_atomically(folder / "claims.csv", csv(pd.concat([part.claims for part in parts])))
    write_atomically(
        folder / "metrics.json", (json.dumps(headline(tables), indent=1, sort_keys=True) + "\n").encode()
    )
    write_atomically(folder / "report.md", page(parts, workspace.tier).encode())


def readme_block(root: Path, tier: str = "laptop") -> str:
    """The part of the README that shows results, made from the published files of a tier."""
    parts = []
    for name, metric in README_TABLES:
        table = pd.read_csv(root / "results" / tier / "tables" / f"{name}.csv")
        own = table[table.metric == metric]
        first = own.iloc[0]
        against = re.search(r"split=([^;]+);", first.protocol)
        data = (
            f" against {against[1]} in features of a {first.protocol.partition('extractor=')[2].partition(' (')[0]}"
            if against
            else ""
        )
        parts.append(
            f"**{name}**, {metric}{data} ({first.seeds} seeds, {first.samples} samples; {first.hardware})"
        )
        parts.append(_markdown(readable(table, metric)))
    claims = pd.read_csv(root / "results" / tier / "claims.csv")
    shown = claims_table(claims).drop(columns="statistic").set_index("statement")
    return "\n\n".join([*parts, "**Claims**", _markdown(shown)]) + "\n"


def refresh_readme(root: Path, text: str) -> str:
    """`text` with what stands between its marks replaced by the results; ValueError without the marks."""
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise ValueError(f"README.md has lost its marks {begin.strip()} and {end.strip()}: restore them")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{readme_block(root)}\n{end}{rest.partition(end)[2]}"
