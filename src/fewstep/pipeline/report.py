"""The results of a tier: each notebook that draws figures writes a part, and `publish` puts them together."""

import json
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from ..evaluation import claims, tables
from ..evaluation.plots.picture import Picture
from ..evaluation.provenance import ProvenanceError
from ..storage.files import write_atomically, write_json
from ..storage.workspace import Workspace
from .stages import plan

FIRST = "checkerboard"  # the part that stands first
# what the README shows of each table
README_TABLES = (
    ("fmm-checkerboard", "KL to target"), ("selfdistill-checkerboard", "KL to target"),
    ("fmm-cifar10", "FID"), ("fmm-imagenet32", "FID"), ("selfdistill-cifar10", "FID"),
    ("scflow-celebahq", "FID"), ("scflow-ablation", "FID"), ("scflow-consistency", "PSNR to N = 1"),
    ("scflow-coco2017", "FID"), ("scflow-coco2017", "attribute accuracy"),
)  # fmt: skip
HOW_TO_READ = (
    "Each cell reads *ours ± deviation over training seeds*.",
    "Beside it stands the published number where there is one by the same protocol: c confirmed, "
    "s second-hand, and in brackets ours less theirs.",
)
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
    """One notebook's results, read from `folder`: the pictures' titles and alt texts by file."""

    folder: Path
    notebook: str
    tables: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    pictures: Mapping[Path, Mapping[str, str]]


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV; floats with six digits, which is more than any seed repeats elsewhere."""
    return table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()


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
    lines = [head, ["---"] * len(head), *(map(str, row) for row in frame.itertuples(name=None))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _claims(ledger: pd.DataFrame) -> list[str]:
    """The ledger as Markdown, the claims over training seeds apart from those in one training."""
    found = claims.shown(ledger).items()
    return [text for title, part in found for text in (f"**{title}**", _markdown(part))]


def page(parts: Sequence[Part], tier: str) -> str:
    """The report as Markdown: every table, the ledger and the pictures, each with what it came from."""
    text = [f"# Results at tier {tier}", *HOW_TO_READ]
    for name, table in ((name, table) for part in parts for name, table in part.tables.items()):
        first, settings = table.iloc[0], table.parameters.iloc[0]
        source = f"[{first.notebook}](notebooks/{first.notebook}.ipynb) at revision {first.revision}"
        by = f"[settings](settings/{settings}.json), {first.hardware}; {first.software}"
        text += [f"## {name}", f"From {source}, {by}."]
        for metric in dict.fromkeys(table.metric):
            own = table[table.metric == metric].iloc[0]
            text.append(f"**{metric}** ({own.protocol}; {own.seeds} seeds)")
            text.append(_markdown(tables.shown(table, metric)))
    text += ["## Claims", *_claims(pd.concat([part.claims for part in parts]))]
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
            again = "run `dvc repro`, which measures it again"
            raise ProvenanceError(f"{measured}, and others are in force: {again}")
    folder = workspace.write(f"report/{name}/part.json").parent
    for table_name, table in results.tables.items():
        write_atomically(folder / "tables" / f"{table_name}.csv", csv(table))
    for code, settings in results.settings.items():
        write_json(folder / "settings" / f"{code}.json", settings)
    write_atomically(folder / "claims.csv", csv(results.claims))
    pictures = {}
    for file, picture in results.pictures.items():
        picture.save(folder / "figures" / f"{file}.png")
        pictures[f"{file}.png"] = {"title": picture.title, "alt": " ".join(picture.alt.split())}
    described = {"notebook": notebook, "tables": list(results.tables), "pictures": pictures}
    write_json(folder / "part.json", described)


def read_parts(folder: Path) -> list[Part]:
    """The parts below `folder`, the checkerboard's first; raises FileNotFoundError when there is none."""
    parts = []
    for path in sorted(folder.glob("*/part.json"), key=lambda p: (p.parent.name != FIRST, p.parent.name)):
        described, own = json.loads(path.read_text(encoding="utf-8")), path.parent
        found = {name: pd.read_csv(own / "tables" / f"{name}.csv") for name in described["tables"]}
        pictures = {own / "figures" / name: texts for name, texts in described["pictures"].items()}
        parts.append(Part(own, described["notebook"], found, pd.read_csv(own / "claims.csv"), pictures))
    if not parts:
        wanted = "run `dvc repro`, whose figures notebooks write them"
        raise FileNotFoundError(f"{folder} holds no part of a report: {wanted}")
    return parts


def _replace_folder(target: Path, files: Iterable[Path]) -> None:
    """`target` with copies of `files` alone; a reader sees the old folder or the new one."""
    fresh = target.with_name(f"{target.name}.new")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    for path in files:
        shutil.copy(path, fresh)
    shutil.rmtree(target, ignore_errors=True)
    fresh.rename(target)


def publish(workspace: Workspace) -> None:
    """Put the parts of the report and the executed notebooks together as results/<tier>."""
    folder = workspace.root / "results" / workspace.tier
    parts = read_parts(workspace.pipeline / "report")
    kept: dict[str, list[Path]] = {"tables": [], "settings": [], "figures": []}
    numbers: dict[str, pd.DataFrame] = {}
    for part in parts:
        numbers |= part.tables
        codes = {code for table in part.tables.values() for code in table.parameters}
        kept["tables"] += [part.folder / "tables" / f"{name}.csv" for name in part.tables]
        kept["settings"] += [part.folder / "settings" / f"{code}.json" for code in codes]
        kept["figures"] += part.pictures
    # those of today's stages alone: what an earlier pipeline has left there is nobody's result
    outs = [workspace.root / out for stage in plan(workspace.root, workspace.tier) for out in stage.outs]
    kept["notebooks"] = [path for path in outs if path.suffix == ".ipynb" and path.is_file()]
    for name, paths in kept.items():
        _replace_folder(folder / name, sorted(paths))
    write_atomically(folder / "claims.csv", csv(pd.concat([part.claims for part in parts])))
    metrics = json.dumps(headline(numbers), indent=1, sort_keys=True)
    write_atomically(folder / "metrics.json", f"{metrics}\n".encode())
    write_atomically(folder / "report.md", page(parts, workspace.tier).encode())


def refresh_readme(root: Path, text: str) -> str:
    """`text` with what stands between its marks replaced by the results; ValueError without the marks."""
    begin, end = README_MARKS
    if begin not in text or end not in text:
        raise ValueError(f"README.md has lost its marks {begin.strip()} and {end.strip()}: restore them")
    parts, folder = [], root / "results" / "laptop"
    for name, metric in README_TABLES:
        table = pd.read_csv(folder / "tables" / f"{name}.csv")
        first = table[table.metric == metric].iloc[0]
        against = re.search(r"split=([^;]+);", first.protocol)
        extractor = first.protocol.partition("extractor=")[2].partition(" (")[0]
        data = f" against {against[1]} in features of a {extractor}" if against else ""
        how = f"{first.seeds} seeds, {first.samples} samples; {first.hardware}"
        parts += [f"**{name}**, {metric}{data} ({how})", _markdown(tables.shown(table, metric))]
    parts += ["**Claims**", *_claims(pd.read_csv(folder / "claims.csv"))]
    (head, _, rest), block = text.partition(begin), "\n\n".join(parts)
    return f"{head}{begin}\n{block}\n\n{end}{rest.partition(end)[2]}"
