"""The site of the results: it stands by itself on the disk, and a browser finds nothing amiss in it."""

from __future__ import annotations

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import numpy as np
import pandas as pd
import pytest
import torch

from fewstep import objectives
from fewstep.metrics.points import kl_to_checkerboard
from fewstep.networks import build, load_flow_map
from fewstep.pipeline import site, site_pages, typeset
from fewstep.storage.checkpoint import save_checkpoint
from fewstep.storage.files import read_written
from fewstep.storage.workspace import Workspace

from .. import chromium

TIER = "smoke"
MLP = {"kind": "mlp", "width": 16, "depth": 2, "frequencies": [1, 2], "time_frequencies": [1]}
# (foreground, background) of every text in site.css
PAIRS = [(a, b) for a in ("text", "muted", "accent") for b in ("page", "panel")]


def weights(path: Path, activation: str, seed: int) -> None:
    """A network whose every weight counts."""
    network = MLP | {"activation": activation}
    flow_map, generator = build(network, (2,)), torch.Generator().manual_seed(seed)
    tensors = {
        f"weights.{name}": torch.randn(own.shape, generator=generator) / own.shape[-1] ** 0.5
        for name, own in flow_map.state_dict().items()
    }
    save_checkpoint(path, tensors, {"network": network, "shape": [2], "fingerprint": "x"})


def published(root: Path, tier: str = TIER) -> site.Published:
    files = {k: v for k, v in read_written(root / "results" / tier).items() if not k.startswith("site/")}
    tables = {
        Path(name).stem: pd.read_csv(root / "results" / tier / name) for name in files if "tables/" in name
    }
    # smoke's own protocol is nobody's, so one published number is put here
    next(iter(tables.values())).loc[0, ["published", "status"]] = [0.5, "confirmed"]
    figures = [name.removeprefix("figures/") for name in files if name.startswith("figures/fmm")]
    pictures = {"5-figures": {name: {"title": f"The {name}", "alt": f'"{name}"'} for name in figures}}
    return site.Published(tables, pd.read_csv(root / "results" / tier / "claims.csv"), pictures, files)


@pytest.fixture(scope="module")
def workspace(root, tmp_path_factory) -> Workspace:
    own = tmp_path_factory.mktemp("site")
    for name in ("dvc.yaml", "docs/losses.md"):
        (own / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, own / name)
    shutil.copytree(root / "tests" / "analytic", own / "tests" / "analytic")
    shutil.copytree(root / "results" / TIER, own / "results" / TIER, ignore=shutil.ignore_patterns("site"))
    found = Workspace(own, TIER)
    for name, activation, seed in (("student", "silu", 1), ("teacher", "gelu", 2)):
        weights(found.pipeline / site_pages.LIVE[name] / site_pages.SEED, activation, seed)
    return found


@pytest.fixture(scope="module")
def files(root, workspace) -> dict[str, bytes]:
    return site.build(workspace, published(root))


@pytest.fixture(scope="module")
def folder(workspace, files) -> Path:
    own = workspace.root / "results" / TIER / "site"
    for name, content in files.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(content)
    return own


class Links(HTMLParser):
    """What a page links to, what it loads, its anchors, and the pictures that say nothing."""

    def __init__(self, text: str):
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.anchors: list[str] = []
        self.silent: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        words = dict(attrs)
        if "id" in words:
            self.anchors.append(words["id"])
        if tag == "a":
            self.links.append(words["href"])
        elif tag in ("link", "script", "img", "iframe", "source", "object"):
            self.loaded += [words[key] for key in ("href", "src", "data") if words.get(key)]
        if tag == "img" and not words.get("alt") and "src" in words:
            self.silent.append(words["src"])


def test_every_link_resolves_and_nothing_is_loaded_from_elsewhere(files, folder):
    pages = {name: Links(own.decode()) for name, own in files.items() if name.endswith(".html")}
    assert len(pages) == len(site.PAGES) + 42
    for name, page in pages.items():
        assert len(set(page.anchors)) == len(page.anchors), f"{name} has an anchor twice"
        assert not page.silent, f"{name} has pictures without alt texts"
        for address in (*page.links, *page.loaded):
            parts = urlsplit(address)
            if parts.scheme:
                assert address in page.links or address == "data:,", f"{name} loads {address}"
                continue
            path = (folder / name).parent / unquote(parts.path) if parts.path else folder / name
            assert path.is_file(), f"{name} leads to {address}, which is not there"
            if parts.fragment and path.suffix == ".html":
                target = pages[str(path.resolve().relative_to(folder.resolve()))]
                assert unquote(parts.fragment) in target.anchors, f"{name} leads to no anchor {address}"
    styles = files["site.css"].decode()
    assert "url(" not in styles and "@import" not in styles and "http" not in styles
    scripts = "".join(own.decode() for name, own in files.items() if name.endswith(".js"))
    assert "http" not in scripts.replace("http://www.w3.org/2000/svg", "") and "import(" not in scripts


def test_the_same_results_give_the_same_bytes(root, workspace, files):
    typeset.formula.cache_clear()
    typeset.code.cache_clear()
    assert site.build(workspace, published(root)) == files
    assert sum(map(len, files.values())) < 25e6


def test_without_weights_there_is_no_live_map_and_all_else(root, workspace, files, tmp_path):
    shutil.copy(workspace.root / "dvc.yaml", tmp_path)
    bare = site.build(Workspace(tmp_path, TIER), published(root))
    assert files.keys() - bare.keys() == {"weights.js"}
    assert b"<canvas" not in bare["index.html"] and b"<canvas" in files["index.html"]


def test_every_formula_of_an_objective_is_typeset(files):
    text = files["methods.html"].decode()
    for name in objectives.names():
        section = text[text.index(f'id="{name}"') :].partition("</section>")[0]
        (tex,) = re.findall(r"\$\$(.+?)\$\$", objectives.equation(name), re.DOTALL)
        assert typeset.formula(tex, block=True) in section
        assert f'<span class="nf">{name}</span>' in section and "How to read its curve" in section
    assert "$" not in re.sub(r"<pre.*?</pre>|aria-label=\"[^\"]*\"", "", text, flags=re.DOTALL)
    # what LaTeX the converter does not know, it would show as it stands
    shown = re.sub(r"<pre.*?</pre>|<[^>]+>", "", text, flags=re.DOTALL)
    assert "\\" not in shown


@pytest.mark.parametrize(
    ("text", "html"),
    [
        ("`$x$` costs $1$", "<code>$x$</code> costs <math "),
        ("$a$ and $b$", ' and <math aria-label="b"'),
        ("| a |\n|---|\n| $|x|$ |", '<div class="scroll" tabindex="0"><table>'),
        ("[t](../tests/t.py) [w](https://arxiv.org/abs/1) [n](5-figures.ipynb)",
         '<p>t <a href="https://arxiv.org/abs/1">w</a> <a href="5-figures.html">n</a></p>'),
        ("<script>alert(1)</script>", "&lt;script&gt;"),
    ],
)  # fmt: skip
def test_markdown_of_formulas_code_and_links(text, html):
    assert html in typeset.markdown(text)


def test_a_cell_shows_what_its_table_says(root, files):
    data = json.loads(re.search(r'id="data">(.*?)</script>', files["results.html"].decode(), re.DOTALL)[1])
    cells = [dict(zip(data["columns"], (data["texts"][k] for k in row))) for row in data["rows"]]
    rows = pd.concat(published(root).tables.values()).to_dict("records")
    assert len(cells) == len(rows)
    for cell, row in zip(cells, rows):
        assert cell == {key: None if pd.isna(row[key]) else row[key] for key in data["columns"]}


def test_a_claim_names_the_cells_that_it_is_computed_from(root):
    own = published(root)
    cells = site.Cells(own.tables)
    found = site_pages.claims(own.ledger, own.tables, {n: own.labels(n) for n in own.tables}, cells.find)
    found = {claim["name"]: claim for of_paper in found.values() for claim in of_paper}
    assert len(found) == len(own.ledger)
    for name, claim in found.items():
        assert claim["cells"] or "gradient" in name, name
        assert all(cell["id"] is not None for cell in claim["cells"]), name
    beats = found["lmd-beats-emd"]
    values = {cell["method"]: cells.rows[cell["id"]].value for cell in beats["cells"]}
    assert values["EMD"] - values["LMD"] == pytest.approx(beats["value"], abs=1e-4)
    assert beats["unit"] == "nats" and beats["threshold"] == "0"


def test_the_arrows_between_stages_are_those_of_dvc(root):
    stages = site.plan(root, TIER)
    graph = site_pages.graph(stages, {"2-students-fmm-cifar10": 1.5})
    arrows = set(graph["arrows"])
    chain = ["teacher", "students", "sample", "measure-images", "figures-images", "publish"]
    names = {
        phase: next(n for n in graph["boxes"] if re.match(rf"{phase}@smoke(-fmm)?(-cifar10)?$", n))
        for phase in ("prepare", *chain)
    }
    assert {(names[a], names[b]) for a, b in zip(chain, chain[1:])} <= arrows
    assert ("students-captions@smoke-scflow-coco2017", "sample-captions@smoke-scflow-coco2014") in arrows
    assert (names["prepare"], names["measure-images"]) in arrows
    # through another arrow: what is sampled comes from the teacher too
    assert (names["teacher"], names["sample"]) not in arrows
    assert graph["boxes"][names["students"]]["seconds"] == 1.5
    # no phase of an experiment is left out
    assert {stage.name for stage in stages if stage.experiment} <= set(graph["boxes"])
    assert ("protocol@smoke-scflow-celebahq", "publish@smoke") in arrows


def luminance(colour: str) -> float:
    parts = [int(colour[k : k + 2], 16) / 255 for k in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return float(np.dot(linear, [0.2126, 0.7152, 0.0722]))


@pytest.mark.parametrize("mode", ["light", "dark"])
def test_text_stands_out_from_its_ground(mode):
    style = (site.WEB / "site.css").read_text(encoding="utf-8")
    light, dark = re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    colours = dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", light if mode == "light" else dark))
    for front, back in (*PAIRS, ("page", "accent")):
        a, b = sorted((luminance(colours[front]), luminance(colours[back])))
        assert (b + 0.05) / (a + 0.05) >= 4.5, f"{front} on {back}"


# In a browser


def slide(name: str, value: float) -> str:
    own = f"document.querySelector('#{name}')"
    return f"{own}.value = {json.dumps(value)}; {own}.dispatchEvent(new Event('input'))"


def seen(selector: str, value: str) -> str:
    """`value` of each element `own` that is on the page and not hidden."""
    found = f"[...document.querySelectorAll('{selector}')].filter((own) => own.offsetParent)"
    return f"{found}.map((own) => {value})"


@pytest.fixture(scope="module")
def page(folder, tmp_path_factory):
    browser = chromium.found() or pytest.skip(f"no browser: none of {', '.join(chromium.NAMES)} is installed")
    with chromium.started(browser, tmp_path_factory.mktemp("browser")) as own:
        yield own


@pytest.fixture
def opened(page, folder):
    """A function that opens a page; in the end, it has asked for files alone and said nothing in red."""

    def show(name: str, width: int = 1400, dark: bool = False) -> chromium.Page:
        page.look(width, 900, dark)
        page.open("about:blank")
        page.open(f"{folder.as_uri()}/{name}")
        return page

    page.asked.clear()
    page.errors.clear()
    yield show
    assert not page.errors
    assert all(address.startswith(("file:", "data:", "about:")) for address in page.asked), page.asked


@pytest.mark.parametrize(
    "name", [*(f"{own}.html" for own in site.PAGES), "notebooks/2-students-fmm-cifar10.html"]
)
def test_a_page_fits_a_phone_and_the_dark(opened, name):
    page = opened(name, width=400, dark=True)
    assert page.value("document.documentElement.scrollWidth") == 400
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    assert page.value(
        "[...document.images].every((own) => !own.src || own.loading === 'lazy' || own.naturalWidth > 0)"
    )


def test_formulas_are_drawn(opened):
    page = opened("methods.html")
    drawn = "[...document.querySelectorAll('math')].map((own) => own.getBoundingClientRect().width)"
    sizes = page.value(drawn)
    assert len(sizes) > 30 and min(sizes) > 3
    # MathML is laid out, and not read out: an index is smaller than its letter
    size = "parseFloat(getComputedStyle(document.querySelector('msub').children[{}]).fontSize)"
    letter, index = (page.value(size.format(k)) for k in (0, 1))
    assert index < letter
    assert not page.value("document.querySelectorAll('merror').length")


def test_javascript_computes_what_python_does(opened, workspace):
    page, generator = opened("index.html"), torch.Generator().manual_seed(3)
    x = 1.5 * torch.randn(64, 2, generator=generator)
    s, t = torch.rand(2, 64, generator=generator)
    given = json.dumps(torch.cat([s[:, None], t[:, None], x], 1).tolist())
    for name in site_pages.LIVE:
        flow_map = load_flow_map(workspace.pipeline / site_pages.LIVE[name] / site_pages.SEED)
        found = page.value(f"{given}.map((own) => fewstep.{name}.jump(...own))")
        assert np.abs(np.array(found) - flow_map.jump(s, t, x).numpy()).max() < 1e-5
        ends = x.clone()
        for k in range(4):
            ends = ends + flow_map.velocity(torch.full((64,), k / 4), ends) / 4
        found = page.value(f"{given}.map((own) => fewstep.{name}.euler(4, own[2], own[3])[4])")
        assert np.abs(np.array(found) - ends.numpy()).max() < 1e-5
    points = 0.6 * torch.randn(1024, 2, generator=generator)
    found = page.value(f"fewstep.kl({json.dumps(points.tolist())}, 16)")
    assert found == pytest.approx(kl_to_checkerboard(points.numpy(), bins=16).value, abs=1e-9)


def ends(name: str, kind: str = "end") -> str:
    return f"[...document.querySelectorAll('#{name}-paths .{kind}')].map((own) => +own.getAttribute('cx'))"


def test_points_are_moved_by_slider_keys_and_pointer(opened):
    page = opened("index.html")
    teacher, student = page.value(ends("teacher")), page.value(ends("student"))
    page.value(slide("calls", 0))
    # one Euler step is another path; the student's jump is one call all the while
    assert page.value(ends("teacher")) != teacher and page.value(ends("student")) == student
    page.value(slide("time", 0))
    assert page.value(ends("student")) == page.value(ends("student", "start"))
    page.value(slide("time", 1))
    page.value("document.querySelector('#student-paths .start').focus()")
    page.press("ArrowRight")
    moved = page.value(ends("student"))
    assert moved[0] != student[0] and moved[1:] == student[1:]
    # the second point, to the right by a tenth of the field of three units
    page.value("document.querySelector('.live').scrollIntoView()")
    box = "((own) => [own.left, own.top, own.width])({}.getBoundingClientRect())"
    left, top, size = page.value(box.format("document.querySelectorAll('#student-paths .start')[1]"))
    _, _, field = page.value(box.format("document.querySelector('#student-paths')"))
    before = page.value(ends("student", "start"))[1]
    for kind, along in (("mousePressed", 0.0), ("mouseMoved", 0.1), ("mouseReleased", 0.1)):
        at = {"x": left + size / 2 + along * field, "y": top + size / 2}
        page.call("Input.dispatchMouseEvent", type=kind, button="left", buttons=1, clickCount=1, **at)
    assert page.value(ends("student", "start"))[1] == pytest.approx(before + 0.3, abs=0.02)


def test_kl_is_updated(opened):
    page = opened("index.html")
    wait = """(async () => {
      for (let k = 0; k < 300; k++) {
        const own = document.querySelector('#teacher-kl').textContent;
        if (own > 0) return own;
        await new Promise((done) => setTimeout(done, 20));
      }
    })()"""
    assert float(page.value(wait)) > 0


def test_rows_are_filtered_and_a_cell_tells_all(opened, root):
    page, rows = opened("results.html"), seen("tbody tr", "own.dataset.method")
    everything = page.value(rows)
    page.value(slide("filter", "lmd fmm-checkerboard"))
    assert page.value(rows) == ["LMD"] and len(everything) > 40
    page.value(slide("filter", "precision"))
    assert set(page.value(seen(".metric", "own.dataset.metric"))) == {"precision"}
    page.value(slide("filter", ""))
    # by keyboard alone
    page.value("[...document.querySelectorAll('.cell')].find((own) => own.offsetParent).focus()")
    page.press("Enter")
    told = page.value("document.querySelector('#detail').innerText")
    first = next(iter(published(root).tables.values())).iloc[0]
    again = f"make repro TIER={TIER} EXPERIMENT={first.experiment}"
    for word in (first.method, first.revision, f"{first.parameters}.json", first.seeds, again):
        assert str(word) in told
    page.press("Escape")
    assert "No cell" in page.value("document.querySelector('#detail').innerText")
    assert page.value("document.activeElement.className") == "cell"
    assert not page.value(seen(".published", "1"))
    page.value("document.querySelector('#published').click()")
    assert page.value(seen(".published", "1"))
    assert page.value("document.querySelectorAll('.chart svg .line').length") > 40


def test_links_to_a_claim_and_to_a_cell_open_them(opened):
    page = opened("claims.html#lmd-beats-emd")
    assert page.value("document.getElementById('lmd-beats-emd').open")
    target = page.value("document.querySelector('#lmd-beats-emd .pill').getAttribute('href')")
    opened(target)
    told = page.value("document.querySelector('#detail').innerText")
    assert "EMD, N = 1" in told and "KL to target of fmm-checkerboard" in told
