"""The results of a tier: tables, claims, figures, headline metrics and a page that shows them all.

Notebooks that draw figures each write a part; `publish` puts the parts and the executed notebooks together.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluation import claims, tables
from ..evaluation.plots.picture import Picture
from ..evaluation.provenance import ProvenanceError
from ..storage.files import write_atomically
from ..storage.workspace import Workspace
from .stages import plan

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
    """What a notebook hands over: tables by name, claims, pictures by file name, settings by their hash."""

    tables: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    pictures: Mapping[str, Picture]
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Part:
    """One notebook's results in `folder`: tables, claims, the pictures' titles and alt texts by file."""

    folder: Path
    notebook: str
    tables: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    pictures: Mapping[Path, Mapping[str, str]]


def _number(value: float) -> str:
    return "" if pd.isna(value) else f"{value:.6g}"


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV; floats with six digits, which is more than any seed repeats elsewhere."""
    floats = table.select_dtypes("float").columns
    texts = table.assign(**{c: table[c].map(_number) for c in floats})
    return texts.to_csv(index=False, lineterminator="\n").encode()


def _json(value: Any, **options: Any) -> bytes:
    return (json.dumps(value, indent=1, **options) + "\n").encode()


def headline(tables: Mapping[str, pd.DataFrame]) -> dict:
    """table -> method -> "metric N=..." -> value, for `dvc metrics`; without times, which never repeat."""
    found: dict = {}
    for name, table in tables.items():
        for row in table[~table.metric.str.startswith("seconds")].itertuples():
            cell = f"{row.metric} N={row.nfe}"
            found.setdefault(name, {}).setdefault(row.method, {})[cell] = float(f"{row.value:.6g}")
    return found


def _markdown(frame: pd.DataFrame) -> str:
    head = [frame.index.name or "", *map(str, frame.columns)]
    rows = [[str(i), *map(str, row)] for i, row in zip(frame.index, frame.to_numpy())]
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _ledger(parts: Sequence[Part]) -> pd.DataFrame:
    return pd.concat([part.claims for part in parts])


def _claims(ledger: pd.DataFrame) -> list[str]:
    """The ledger as Markdown, the claims over training seeds apart from those in one training."""
    found = claims.shown(ledger).items()
    return [text for title, part in found for text in (f"**{title}**", _markdown(part))]


def page(parts: Sequence[Part], tier: str) -> str:
    """The report as Markdown: every table, the ledger and the pictures, each with what it came from."""
    text = [f"# Results at tier {tier}", "Each cell reads *ours ± deviation over training seeds*."]
    text.append(
        "Beside it stands the published number where there is one by the same protocol: c confirmed, s "
        "second-hand, and in brackets ours less theirs."
    )
    for name, table in ((name, table) for part in parts for name, table in part.tables.items()):
        first, settings = table.iloc[0], table.parameters.iloc[0]
        source = f"[{first.notebook}](notebooks/{first.notebook}.ipynb) at revision {first.revision}"
        by = f"[settings](settings/{settings}.json), {first.hardware}; {first.software}"
        text += [f"## {name}", f"From {source}, {by}."]
        for metric in dict.fromkeys(table.metric):
            own = table[table.metric == metric].iloc[0]
            text.append(f"**{metric}** ({own.protocol}; {own.seeds} seeds)")
            text.append(_markdown(tables.shown(table, metric)))
    text += ["## Claims", *_claims(_ledger(parts))]
    for part in parts:
        text.append(f"## Figures drawn by [{part.notebook}](notebooks/{part.notebook}.ipynb)")
        for path, picture in part.pictures.items():
            text.append(f"![{picture['alt']}](figures/{path.name})\n\n{picture['title']}")
    return "\n\n".join(text) + "\n"


def write(workspace: Workspace, name: str, notebook: str, results: Results) -> None:
    """Write the part `name` of the report, drawn by `notebook`, to report/<name> below the tier's artifacts.

    Raises ProvenanceError for a table that was measured with settings which are not among the results.
    """
    for table_name, table in results.tables.items():
        if unknown := set(table.parameters) - set(results.settings):
            measured = f"the table '{table_name}' was measured with settings {', '.join(sorted(unknown))}"
            raise ProvenanceError(
                f"{measured}, and others are in force: run `dvc repro`, which measures it again"
            )
    folder = workspace.write(f"report/{name}/part.json").parent
    for table_name, table in results.tables.items():
        write_atomically(folder / "tables" / f"{table_name}.csv", csv(table))
    for code, settings in results.settings.items():
        write_atomically(folder / "settings" / f"{code}.json", _json(settings))
    write_atomically(folder / "claims.csv", csv(results.claims))
    for file, picture in results.pictures.items():
        picture.save(folder / "figures" / f"{file}.png")
    pictures = {
        f"{file}.png": {"title": picture.title, "alt": " ".join(picture.alt.split())}
        for file, picture in results.pictures.items()
    }
    described = {"notebook": notebook, "tables": list(results.tables), "pictures": pictures}
    write_atomically(folder / "part.json", _json(described))


def read_parts(folder: Path) -> list[Part]:
    """The parts below `folder`, the checkerboard's first; raises FileNotFoundError when there is none."""
    parts = []
    for path in sorted(folder.glob("*/part.json"), key=lambda p: (p.parent.name != FIRST, p.parent.name)):
        described, own = json.loads(path.read_text()), path.parent
        found = {name: pd.read_csv(own / "tables" / f"{name}.csv") for name in described["tables"]}
        pictures = {own / "figures" / name: texts for name, texts in described["pictures"].items()}
        parts.append(Part(own, described["notebook"], found, pd.read_csv(own / "claims.csv"), pictures))
    if not parts:
        raise FileNotFoundError(
            f"{folder} holds no part of a report: run `dvc repro`, whose figures notebooks write them"
        )
    return parts


def _replace_folder(target: Path, files: Mapping[str, Path]) -> None:
    """`target` with copies of `files`, by name, alone; a reader sees the old folder or the new one."""
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
    # those of today's stages alone: what an earlier pipeline has left there is nobody's result
    outs = [workspace.root / out for stage in plan(workspace.root, workspace.tier) for out in stage.outs]
    notebooks = [path for path in outs if path.suffix == ".ipynb" and path.is_file()]
    kept = {
        "tables": [part.folder / "tables" / f"{name}.csv" for part in parts for name in part.tables],
        "settings": [
            part.folder / "settings" / f"{code}.json"
            for part in parts
            for code in sorted({code for table in part.tables.values() for code in table.parameters})
        ],
        "figures": [path for part in parts for path in part.pictures],
        "notebooks": notebooks,
    }
    for name, paths in kept.items():
        _replace_folder(folder / name, {path.name: path for path in sorted(paths)})
    numbers = {name: table for part in parts for name, table in part.tables.items()}
    write_atomically(folder / "claims.csv", csv(_ledger(parts)))
    write_atomically(folder / "metrics.json", _json(headline(numbers), sort_keys=True))
    write_atomically(folder / "report.md", page(parts, workspace.tier).encode())


def readme_block(root: Path, tier: str = "laptop") -> str:
    """The part of the README that shows results, made from the published files of a tier."""
    parts, folder = [], root / "results" / tier
    for name, metric in README_TABLES:
        table = pd.read_csv(folder / "tables" / f"{name}.csv")
        first = table[table.metric == metric].iloc[0]
        against = re.search(r"split=([^;]+);", first.protocol)
        extractor = first.protocol.partition("extractor=")[2].partition(" (")[0]
        data = f" against {against[1]} in features of a {extractor}" if against else ""
        how = f"{first.seeds} seeds, {first.samples} samples; {first.hardware}"
        parts += [f"**{name}**, {metric}{data} ({how})", _markdown(tables.shown(table, metric))]
    ledger = _claims(pd.read_csv(folder / "claims.csv"))
    return "\n\n".join([*parts, "**Claims**", *ledger]) + "\n"


def refresh_readme(root: Path, text: str) -> str:
    """`text` with what stands between its marks replaced by the results; ValueError without the marks."""
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise ValueError(f"README.md has lost its marks {begin.strip()} and {end.strip()}: restore them")
    head, _, rest = text.partition(begin)
    return f"{head}{begin}\n{readme_block(root)}\n{end}{rest.partition(end)[2]}"
