"""The results of a tier as pages that open from the disk: no server, nothing from the network, no clock.

They show what `publish` has at hand and compute nothing again; pictures, settings and tables stay where they
are beside the pages.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from ..evaluation.sample import EXACT
from ..storage.workspace import Workspace
from . import site_pages, timings, typeset
from .stages import plan

WEB = Path(__file__).with_name("web")
ASSETS = ("site.css", "flowmap.js", "home.js", "results.js", "gallery.js")
PAGES = {
    "index": "Home", "results": "Results", "claims": "Claims", "methods": "Methods", "gallery": "Gallery",
    "notebooks": "Notebooks", "provenance": "Provenance",
}  # fmt: skip


@dataclass(frozen=True)
class Published:
    """What `publish` puts under results/<tier>.

    tables    by name, in the order of the report
    pictures  by the notebook that drew them: file -> {"title": ..., "alt": ...}
    files     all others by their paths below results/<tier>, with the notebooks and settings/<hash>.json
    """

    tables: Mapping[str, pd.DataFrame]
    ledger: pd.DataFrame
    pictures: Mapping[str, Mapping[str, Mapping[str, str]]]
    files: Mapping[str, bytes]

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
        "software": first.software, "files": published.files,
    }  # fmt: skip
    return web


def build(workspace: Workspace, published: Published) -> dict[str, bytes]:
    """The site's files by their paths below results/<tier>/site.

    Raises ValueError for a table whose settings are not among the files.
    """
    web, pictures = _environment(workspace, published), dict[str, bytes]()
    cells = Cells(published.tables)
    known = {hashlib.sha256(own).digest(): f"../../{name}" for name, own in published.files.items()}

    def picture(content: bytes) -> str:
        """Where a picture of a notebook lies, as its page says it; a figure of the report lies there once."""
        code = hashlib.sha256(content)
        if code.digest() in known:
            return known[code.digest()]
        pictures[name := f"pictures/{code.hexdigest()[:16]}.png"] = content
        return f"../{name}"

    notebooks = {
        Path(name).stem: typeset.notebook(own, picture)
        for name, own in published.files.items()
        if name.startswith("notebooks/")
    }
    stages = plan(workspace.root, workspace.tier)
    seconds = timings.read(workspace)
    shown = {name: site_pages.table(own, cells.index) for name, own in published.tables.items()}
    names = {name: published.labels(name) for name in published.tables}
    claims = site_pages.claims(published.ledger, published.tables, names, cells.find)
    flow = site_pages.flow_map(workspace)
    context: dict[str, dict[str, Any]] = {
        "index": {"flow": flow, "claims": claims, "shown": shown},
        "results": {"shown": shown, "data": cells.data()},
        "claims": {"papers": claims},
        "methods": {"methods": site_pages.methods(workspace.root, published, shown)},
        "gallery": {"pictures": published.pictures},
        "notebooks": {"notebooks": notebooks},
        "provenance": {"graph": site_pages.graph(stages, seconds), "seconds": seconds},
    }
    out = {
        f"{name}.html": web.get_template(f"{name}.html").render(page=name, up="", **context[name])
        for name in PAGES
    }
    page = web.get_template("notebook.html")
    for name, (title, html) in notebooks.items():
        out[f"notebooks/{name}.html"] = page.render(
            page="notebooks", up="../", name=name, title=title, html=Markup(html), seconds=seconds.get(name)
        )
    if flow is not None:
        out["weights.js"] = f"const fewstepWeights = {json.dumps(flow)};\n"
    files = {name: text.encode() for name, text in out.items()}
    files |= {name: (WEB / name).read_bytes() for name in ASSETS}
    return files | pictures
