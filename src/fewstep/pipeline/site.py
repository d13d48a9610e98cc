"""The results of a tier as pages that open from the disk: no server, nothing from the network, no clock.

They show what `publish` has at hand and compute nothing again; pictures, settings and tables stay where they
are beside the pages.
"""

import hashlib
import io
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..evaluation.sample import EXACT
from ..settings.names import ZOO
from ..storage.files import read_written, replace_files
from ..storage.workspace import Workspace
from . import site_api, site_pages, site_samples, timings, typeset
from .stages import plan

WEB = Path(__file__).with_name("web")
ASSETS = ("site.css", "flowmap.js", "home.js", "results.js", "gallery.js")
PAGES = {
    "index": "Home", "results": "Results", "claims": "Claims", "methods": "Methods", "gallery": "Gallery",
    "notebooks": "Notebooks", "provenance": "Provenance", "api": "API",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """What `publish` puts under results/<tier> for one pipeline, or for both.

    tables    by name, in the order of the report
    pictures  by the notebook that drew them: file -> {"title": ..., "alt": ...}
    files     all others by their paths below results/<tier>, with the notebooks and settings/<hash>.json
    """

    tables: Mapping[str, pd.DataFrame]
    ledger: pd.DataFrame
    pictures: Mapping[str, Mapping[str, Mapping[str, str]]]
    files: Mapping[str, bytes]

    @classmethod
    def read(cls, files: Mapping[str, bytes], beside: str = "") -> Self:
        """From the files themselves: what order and which titles they have stands in the report.

        `beside`: those of the pipeline of that name. Raises KeyError for a file that the report lacks.
        """
        own, page = f"{beside}-" if beside else "", files[f"{beside or 'report'}.md"].decode()
        names = re.findall(r"^## (.+)\n\nFrom \[", page, re.MULTILINE)
        found = {name: pd.read_csv(io.BytesIO(files[f"tables/{name}.csv"])) for name in names}
        drawn = re.split(r"^## Figures drawn by \[(.+?)\].*$", page, flags=re.MULTILINE)
        figure = re.compile(r"^!\[(?P<alt>.*)\]\(figures/(?P<file>.+)\)\n\n(?P<title>.*)$", re.MULTILINE)
        pictures = {
            notebook: {m["file"]: {"alt": m["alt"], "title": m["title"]} for m in figure.finditer(part)}
            for notebook, part in zip(drawn[1::2], drawn[2::2])
        }
        ledger = pd.read_csv(io.BytesIO(files[f"{own}claims.csv"]))
        return cls(found, ledger, pictures, dict(sorted(files.items())))

    def with_other(self, other: "Published") -> "Published":
        """This and what another pipeline has published."""
        ledger = pd.concat([self.ledger, other.ledger]) if len(other.ledger) else self.ledger
        tables, pictures = {**self.tables, **other.tables}, {**self.pictures, **other.pictures}
        return Published(tables, ledger, pictures, {**self.files, **other.files})

    def settings(self, table: str) -> dict[str, Any]:
        """The settings that a table was measured with, as they are published."""
        own: dict[str, Any] = json.loads(self.files[f"settings/{self.tables[table].parameters.iloc[0]}.json"])
        return own

    def labels(self, table: str) -> dict[str, str]:
        """What the rows of a table are called, by method, as `evaluation.sample.labels` says."""
        settings = self.settings(table)
        own = {name: method["label"] for name, method in settings.get("methods", {}).items()} | {EXACT: EXACT}
        solvers = settings.get("sampling", {}).get("solvers", {}).items()
        return own | {f"{name}-{s}": f"{own[name]}, {s}" for name, further in solvers for s in further}


class Cells:
    """All cells of all tables, numbered in the order of the tables; what a click shows of each."""

    COLUMNS = (
        "table", "method", "metric", "nfe", "value", "sd", "sd_sampling", "seeds", "samples", "protocol",
        "published", "status", "source", "notebook", "revision", "parameters", "hardware", "software",
        "experiment",
    )  # fmt: skip

    def __init__(self, published: Mapping[str, pd.DataFrame]) -> None:
        self.rows: list[Any] = [row for table in published.values() for row in table.itertuples()]
        self.index = {(row.table, row.method, row.metric, row.nfe): k for k, row in enumerate(self.rows)}
        self.of_experiment: dict[tuple, int] = {}
        for k, row in enumerate(self.rows):
            key = (row.experiment, row.method, row.metric, row.nfe)
            if key not in self.of_experiment or row.table == row.experiment:
                self.of_experiment[key] = k

    def data(self) -> dict[str, Any]:
        """The cells for the page: every text once, each cell by its texts' numbers."""
        texts: dict[Any, int] = {}

        def coded(value: Any) -> int:
            plain = None if pd.isna(value) else value.item() if hasattr(value, "item") else value
            return texts.setdefault(plain, len(texts))

        rows = [[coded(getattr(row, name)) for name in self.COLUMNS] for row in self.rows]
        return {"columns": self.COLUMNS, "texts": list(texts), "rows": rows}

    def find(self, experiment: str, method: str, nfe: int, metric: str) -> int | None:
        """The number of a cell of an experiment, in its own table where it stands in several."""
        return self.of_experiment.get((experiment, method, metric, nfe))


def _environment(workspace: Workspace, published: Published) -> Environment:
    web = Environment(
        loader=FileSystemLoader(WEB), autoescape=True, undefined=StrictUndefined, trim_blocks=True,
        lstrip_blocks=True, keep_trailing_newline=True,
    )  # fmt: skip
    first = next(iter(published.tables.values())).iloc[0]
    pairs = [(t.revision.iloc[0], t.hardware.iloc[0]) for t in published.tables.values()]
    web.filters |= {
        "markdown": lambda text, level=0: Markup(typeset.markdown(text, level)),
        "code": lambda text, language="python": Markup(typeset.code(text, language)),
        "formula": lambda tex, block=False: Markup(typeset.formula(tex, block)),
        "number": site_pages.number,
        "subject": site_pages.subject,
    }
    web.globals |= {
        "pages": PAGES, "tier": workspace.tier, "origins": list(dict.fromkeys(pairs)),
        "revision": first.revision, "hardware": first.hardware,
        "software": first.software,
    }  # fmt: skip
    return web


def _samples(workspace: Workspace, published: Published, picture: Callable[[bytes], str]) -> dict[str, Any]:
    """The samples of each experiment that has tables, where they lie there."""
    found = {}
    for name, own in published.tables.items():
        experiment = own.experiment.iloc[0]
        if (folder := workspace.pipeline / "samples" / experiment).is_dir() and experiment not in found:
            data_name = published.settings(name)["training"]["data"]
            found[experiment] = site_samples.sheets(folder, published.labels(name), data_name, picture)
    return found


def build(workspace: Workspace, main: Published, beside: Published | None = None) -> dict[str, bytes]:
    """The site's files by their paths below results/<tier>/site: of the main pipeline, and of one beside it.

    Raises KeyError for a table whose settings are not among the files, and DamagedFileError for samples that
    are cut.
    """
    web, pictures = _environment(workspace, main), dict[str, bytes]()
    published = main.with_other(beside) if beside else main
    web.globals["files"] = published.files
    cells = Cells(published.tables)
    known = {hashlib.sha256(own).digest(): f"../{name}" for name, own in published.files.items()}

    def picture(content: bytes) -> str:
        """Where a picture lies, as a page says it; a figure of the report lies there once."""
        code = hashlib.sha256(content)
        if code.digest() in known:
            return known[code.digest()]
        pictures[name := f"pictures/{code.hexdigest()[:16]}.png"] = content
        return name

    notebooks = {
        Path(name).stem: typeset.notebook(own, lambda content: f"../{picture(content)}")
        for name, own in published.files.items()
        if name.startswith("notebooks/")
    }
    stages = plan(workspace.root, workspace.tier)
    seconds = timings.read(workspace)
    shown = {name: site_pages.table(own, cells.index) for name, own in published.tables.items()}
    names = {name: published.labels(name) for name in published.tables}
    claims = site_pages.claims(published.ledger, published.tables, names, cells.find)
    flow, rooms = site_pages.flow_map(workspace), site_api.rooms()
    context: dict[str, dict[str, Any]] = {
        "index": {"flow": flow, "claims": claims, "shown": shown},
        "results": {"shown": shown, "data": cells.data(), "beside": beside.tables if beside else {}},
        "claims": {"papers": claims},
        "methods": {"methods": site_pages.methods(workspace.root, published, shown)},
        "gallery": {"pictures": published.pictures, "samples": _samples(workspace, published, picture)},
        "notebooks": {"notebooks": notebooks},
        "provenance": {"graph": site_pages.graph(stages, seconds), "seconds": seconds},
        "api": {"rooms": rooms, **site_api.public_page(rooms)},
    }

    def page(template: str, own: str, up: str = "", **words: Any) -> str:
        return web.get_template(f"{template}.html").render(page=own, up=up, **words)

    out = {f"{name}.html": page(name, name, **context[name]) for name in PAGES}
    for room, modules in rooms.items():
        out[f"api/{room}.html"] = page("room", "api", "../", room=room, modules=modules)
    seconds = seconds | timings.read(workspace, ZOO)
    for name, (title, html) in notebooks.items():
        words = {"name": name, "title": title, "html": Markup(html), "seconds": seconds.get(name)}
        out[f"notebooks/{name}.html"] = page("notebook", "notebooks", "../", **words)
    if flow is not None:
        out["weights.js"] = f"const fewstepWeights = {json.dumps(flow)};\n"
    files = {name: text.encode() for name, text in out.items()}
    files |= {name: (WEB / name).read_bytes() for name in ASSETS}
    return files | pictures


def pages(workspace: Workspace, main: Mapping[str, bytes], zoo: Mapping[str, bytes]) -> dict[str, bytes]:
    """The site by path below results/<tier>, of the files of both pipelines; `zoo` may be empty."""
    found = build(workspace, Published.read(main), Published.read(zoo, ZOO) if zoo else None)
    return {f"site/{name}": content for name, content in found.items()}


def of_zoo(folder: Path) -> dict[str, bytes]:
    """What `make zoo` has published in `folder`; nothing where it has not, or, as is printed, was cut."""
    try:
        return read_written(folder, f"{ZOO}.json") if (folder / f"{ZOO}.json").exists() else {}
    except ValueError as error:
        print(f"the site does not show what `make zoo` has published: {error}")
        return {}


def refresh(workspace: Workspace, zoo: Mapping[str, bytes]) -> None:
    """Write the main pipeline's site anew, with `zoo`; where its results are not whole, print why not."""
    folder, stages = workspace.root / "results" / workspace.tier, plan(workspace.root, workspace.tier)
    try:
        if missing := [name for name in stages[-1].deps if not (workspace.root / name).exists()]:
            raise FileNotFoundError(f"{missing[0]} is missing")
        main = {name: own for name, own in read_written(folder).items() if not name.startswith("site/")}
        replace_files(folder, main | pages(workspace, main, zoo))
    except (FileNotFoundError, ValueError) as error:
        print(f"the site shows it after the next `dvc repro` only: {error}")
