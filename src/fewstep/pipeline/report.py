"""The results of a tier: each notebook that draws figures writes a part, and `publish` puts them together."""

import io
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from ..evaluation import claims, lagrangian_eulerian, tables
from ..evaluation.plots.curves import forest
from ..evaluation.plots.picture import Picture
from ..evaluation.provenance import ProvenanceError
from ..storage.files import add_files, as_json, read_written, replace_files, write_atomically
from ..storage.workspace import Workspace
from . import site
from .stages import plan

FIRST = "checkerboard"  # the part that stands first
# what the README shows of each table
README_TABLES = {"fmm-checkerboard": "KL to target", "scflow-celebahq": "FID"}
HOW_TO_READ = (
    "Each cell reads *ours ± deviation over training seeds*.",
    "Beside it stands the published number where there is one by the same protocol: c confirmed, "
    "s second-hand, and in brackets ours less theirs.",
)
CLAIMS_PICTURE = "claims.png"
HOW_TO_READ_CLAIMS = (
    "The verdict is that of the interval alone. *Effect* is the distance from the threshold in standard "
    "deviations over the seeds, with its 95 % interval (noncentral t). *Sign test* is the one-sided p of as "
    "many seeds above the threshold, and in brackets the least that n seeds allow, 2^-n: two cannot come "
    "below 0.25, five below 0.031. No p is corrected for the number of claims."
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
    """One notebook's results as they were read, and the pictures' titles and alt texts by file."""

    files: Mapping[str, bytes]
    notebook: str
    tables: Mapping[str, pd.DataFrame]
    claims: pd.DataFrame
    pictures: Mapping[str, Mapping[str, str]]


def csv(table: pd.DataFrame) -> bytes:
    """A table as CSV; floats with six digits, which is more than any seed repeats elsewhere."""
    return table.to_csv(index=False, lineterminator="\n", float_format="%.6g").encode()


def headline(tables: Mapping[str, pd.DataFrame]) -> dict:
    """table -> method -> "metric N=..." -> value, for `dvc metrics`; without times, which never repeat."""
    found: dict = {}
    for name, table in tables.items():
        for row in table[~table.metric.str.startswith("seconds")].itertuples():
            own = found.setdefault(name, {}).setdefault(row.method, {})
            own[f"{row.metric} N={row.nfe}"] = float(f"{row.value:.6g}")
    return found


def markdown(frame: pd.DataFrame) -> str:
    """A table of texts as Markdown, its index first."""
    head = [frame.index.name or "", *map(str, frame.columns)]
    lines = [head, ["---"] * len(head), *(map(str, row) for row in frame.itertuples(name=None))]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


TEMPLATES = Environment(
    loader=FileSystemLoader(site.WEB), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters |= {"markdown": markdown, "of_metric": tables.shown, "by_seeds": claims.shown}
TEMPLATES.globals |= {"how_to_read": HOW_TO_READ, "how_to_read_claims": HOW_TO_READ_CLAIMS}


def _tables(parts: Sequence[Part]) -> dict[str, pd.DataFrame]:
    return {name: table for part in parts for name, table in part.tables.items()}


def mixture(tables: Iterable[pd.DataFrame]) -> str | None:
    """A sentence where `tables` come from several revisions or machines; None where all are of one."""
    found: dict[tuple[str, str], list[str]] = {}
    for table in tables:
        for origin in dict.fromkeys(zip(table.revision, table.hardware)):
            found.setdefault(origin, []).append(table.table.iloc[0])
    if len(found) < 2:
        return None
    said = "; ".join(f"{revision} on {on}: {', '.join(names)}" for (revision, on), names in found.items())
    return f"These tables come from {len(found)} revisions or machines, and not from one run: {said}."


def page(parts: Sequence[Part], tier: str, claims_alt: str | None, file: str = CLAIMS_PICTURE) -> str:
    """The report as Markdown: every table, the ledger and the pictures, each with what it came from.

    `claims_alt` says in words what the picture of all claims, `file`, shows; None where there are no claims.
    """
    found, ledger = _tables(parts), pd.concat([part.claims for part in parts])
    words = {"parts": parts, "tables": found, "mixture": mixture(found.values()), "ledger": ledger}
    text = TEMPLATES.get_template("report.md").render(words, tier=tier, claims_alt=claims_alt, file=file)
    return text.rstrip() + "\n"


def write(workspace: Workspace, name: str, notebook: str, results: Results, folder: str = "") -> None:
    """Write the part `name` of the report, drawn by `notebook`, to report/<name> below the tier's artifacts.

    `folder` is that of a pipeline beside the main one, which stands between the two.

    The claims on experiments of its tables that the notebook has not evaluated are, and a table of what was
    measured twice over: `lagrangian_eulerian`. Raises ProvenanceError for a table that was measured with
    settings which are not among the results.
    """
    for table_name, table in results.tables.items():
        if unknown := set(table.parameters) - set(results.settings):
            measured = f"the table '{table_name}' was measured with settings {', '.join(sorted(unknown))}"
            again = "run `dvc repro`, which measures it again"
            raise ProvenanceError(f"{measured}, and others are in force: {again}")
    found = {**results.tables, **lagrangian_eulerian.table(results.tables)}
    files = {f"tables/{file}.csv": csv(table) for file, table in found.items()}
    files |= {f"settings/{code}.json": as_json(settings) for code, settings in results.settings.items()}
    files["claims.csv"] = csv(claims.with_others(results.claims, results.tables, workspace.tier))
    files |= {f"figures/{file}.png": picture.png() for file, picture in results.pictures.items()}
    drawn = results.pictures.items()
    pictures = {f"{file}.png": {"title": p.title, "alt": " ".join(p.alt.split())} for file, p in drawn}
    described = {"notebook": notebook, "tables": list(found), "pictures": pictures}
    replace_files(workspace.writable / folder / "report" / name, files | {"part.json": as_json(described)})


def _read_csv(content: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(content))


def read_parts(folder: Path) -> list[Part]:
    """The parts below `folder`, the checkerboard's first; raises FileNotFoundError when there is none."""
    parts = []
    for path in sorted(folder.glob("*/part.json"), key=lambda p: (p.parent.name != FIRST, p.parent.name)):
        files = read_written(path.parent)
        own = json.loads(files["part.json"])
        found = {name: _read_csv(files[f"tables/{name}.csv"]) for name in own["tables"]}
        parts.append(Part(files, own["notebook"], found, _read_csv(files["claims.csv"]), own["pictures"]))
    if not parts:
        wanted = "run `dvc repro`, whose figures notebooks write them"
        raise FileNotFoundError(f"{folder} holds no part of a report: {wanted}")
    return parts


def _collected(workspace: Workspace, parts: Sequence[Part], folder: str = "") -> dict[str, bytes]:
    """The files of `parts` and the executed notebooks, by their paths below results/<tier>."""
    # those of today's stages alone: what an earlier pipeline has left there is nobody's result
    stages = plan(workspace.root, workspace.tier, folder)
    outs = (workspace.root / out for stage in stages for out in stage.outs)
    notebooks = (path for path in outs if path.suffix == ".ipynb" and path.is_file())
    files = {f"notebooks/{path.name}": path.read_bytes() for path in notebooks}
    for part in parts:
        codes = {code for table in part.tables.values() for code in table.parameters}
        chosen = ("tables/", "figures/", *(f"settings/{code}." for code in codes))
        files |= {name: own for name, own in part.files.items() if name.startswith(chosen)}
    return files


def publish_so_far(workspace: Workspace) -> list[str]:
    """Put the parts that are there under results/<tier>, beside what lies there; returns their tables.

    For whoever waits for a long run. What puts all experiments together, the report, is left to `publish`.
    Raises FileNotFoundError where there is no part.
    """
    folder, parts = workspace.root / "results" / workspace.tier, read_parts(workspace.pipeline / "report")
    ledger = pd.concat([part.claims for part in parts])
    with suppress(OSError, ValueError, AttributeError):
        others = pd.read_csv(folder / "claims.csv")
        ledger = pd.concat([ledger, others[~others.table.isin(ledger.table)]])
    add_files(folder, _collected(workspace, parts) | {"claims.csv": csv(ledger)})
    return list(_tables(parts))


def publish(workspace: Workspace, mixed: bool = False, beside: str = "") -> None:
    """Put the parts of the report and the executed notebooks together as results/<tier>, whole or not at all.

    Those of a pipeline `beside` the main one, by its folder, stand among them, with a report of their own;
    that they are of another revision or machine than the main ones is printed, and no reason to refuse them.
    Only what an earlier call for the same pipeline has written there is removed. Raises FileNotFoundError,
    naming the file and its stage, where one is missing, ValueError for a table that is cut, and
    ProvenanceError for tables of several revisions or machines unless `mixed`, in which case the report says
    so on top.
    """
    root, folder = workspace.root, workspace.root / "results" / workspace.tier
    report = workspace.pipeline / beside / "report"
    own, where = (f"{beside}-", f"{beside}/dvc.yaml:") if beside else ("", "")
    shown = f"results/{workspace.tier}" + (f"/{beside}.md" if beside else "")
    parts = read_parts(report)
    for stage in plan(root, workspace.tier, beside):
        for out in map(root.joinpath, stage.outs):
            path = out / "part.json" if out.parent == report else out
            published = out.suffix == ".ipynb" and (folder / "notebooks" / out.name).exists()
            if (path != out or published) and not path.is_file():
                cure = f"{shown} stays as it was: run `dvc repro {where}{stage.name}` first"
                raise FileNotFoundError(f"{path} is missing, and the results would not be whole; {cure}")
    numbers = _tables(parts)
    if (several := mixture(numbers.values())) and not mixed:
        raise ProvenanceError(
            f"{shown} is not what one run gives. {several} Either run `dvc repro --force`, "
            "which makes all of them anew, or have them put together as they are, which the report then says "
            "on top: set `publish.mixed: true` in params.yaml (`dvc exp run -S publish.mixed=true ...`)"
        )
    ledger = pd.concat([part.claims for part in parts])
    files = _collected(workspace, parts, beside) | {f"{own}claims.csv": csv(ledger)}
    picture = forest(ledger, f"All claims at tier {workspace.tier}") if len(ledger) else None
    drawn = own + CLAIMS_PICTURE
    if picture:
        files[f"figures/{drawn}"] = picture.png()
    files[f"{own}metrics.json"] = (json.dumps(headline(numbers), indent=1, sort_keys=True) + "\n").encode()
    files[f"{beside or 'report'}.md"] = page(parts, workspace.tier, picture and picture.alt, drawn).encode()
    if beside:
        replace_files(folder, files, f"{beside}.json")
        site.refresh(workspace, files)
    else:
        replace_files(folder, files | site.pages(workspace, files, site.of_zoo(folder)))
    others: list[pd.DataFrame] = []
    with suppress(OSError, ValueError):  # what an earlier call has left may be damaged
        there = read_written(folder) if beside else {}
        others = [_read_csv(own) for name, own in there.items() if name.startswith("tables/")]
    if beside and mixture([*others, *numbers.values()]):
        first = next(iter(numbers.values())).iloc[0]
        said = f"{shown} is of revision {first.revision} on {first.hardware}, and not all of"
        print(f"{said} results/{workspace.tier} is: numbers of the two do not compare")


def refresh_readme(root: Path, text: str) -> str:
    """`text` with what stands between its marks replaced by the results of tier overnight, the evidence.

    Where that was not run, by those of tier laptop.

    Raises ValueError unless each mark is a line of it once, in order, and for results that are damaged.
    """
    begin, end = README_MARKS
    if [line for line in text.splitlines(keepends=True) if line in README_MARKS] != [begin, end]:
        wrong = f"README.md needs one line {begin.strip()} and after it one line {end.strip()}"
        raise ValueError(f"{wrong}, between which the results are put: restore them")
    tier = "overnight" if (root / "results" / "overnight").is_dir() else "laptop"
    files, parts = read_written(root / "results" / tier), []
    for name, metric in README_TABLES.items():
        table = _read_csv(files[f"tables/{name}.csv"])
        first = table[table.metric == metric].iloc[0]
        against = re.search(r"split=([^;]+);", first.protocol)
        extractor = first.protocol.partition("extractor=")[2].partition(" (")[0]
        data = f" against {against[1]} in features of a {extractor}" if against else ""
        how = f"{first.seeds} seeds, {first.samples} samples; {first.hardware}"
        parts += [f"**{name}**, {metric}{data} ({how})", markdown(tables.shown(table, metric))]
    ledger = _read_csv(files["claims.csv"])
    found = ", ".join(f"{count} *{verdict}*" for verdict, count in ledger.verdict.value_counts().items())
    where = f"[each with its statistic and interval](results/{tier}/report.md#claims)"
    parts.append(f"**{len(ledger)} claims of the papers**: {found}; {where}.")
    parts.append(f"![All claims with their intervals](results/{tier}/figures/{CLAIMS_PICTURE})")
    (head, _, rest), block = text.partition(begin), "\n\n".join(parts)
    return f"{head}{begin}\n{block}\n\n{end}{rest.partition(end)[2]}"


def write_readme(root: Path) -> None:
    """Bring README.md up to date, as `refresh_readme` says; a link and its line ends stay what they are."""
    path = (root / "README.md").resolve()
    try:
        text = path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path} is not UTF-8 at byte {error.start}: store it as such") from None
    end = "\r\n" if "\r\n" in text else "\n"
    fresh = refresh_readme(root, text.replace("\r\n", "\n"))
    write_atomically(path, fresh.replace("\n", end).encode())
