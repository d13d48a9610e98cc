"""The whole site: it stands by itself on the disk, and a browser finds nothing amiss in it."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

import numpy as np
import pytest

from fewstep.pipeline import site, typeset
from fewstep.pipeline.site_api import ROOMS
from fewstep.settings.names import ZOO

from .pages import Links, published

FURTHER = ["notebooks/2-students-fmm-cifar10.html", "api/metrics.html"]
# (foreground, background) of every text in site.css
PAIRS = [(a, b) for a in ("text", "muted", "accent") for b in ("page", "panel")]


def test_every_link_resolves_and_nothing_is_loaded_from_elsewhere(files, folder):
    pages = {name: Links(own.decode()) for name, own in files.items() if name.endswith(".html")}
    assert len(pages) == len(site.PAGES) + len(ROOMS) + 42 + 13
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
    assert site.build(workspace, published(root), published(root, ZOO)) == files
    assert sum(map(len, files.values())) < 25e6


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


@pytest.mark.parametrize("name", [*(f"{own}.html" for own in site.PAGES), *FURTHER])
def test_a_page_fits_a_phone_and_the_dark(opened, name):
    page = opened(name, width=400, dark=True)
    assert page.value("document.documentElement.scrollWidth") == 400
    assert page.value("getComputedStyle(document.body).backgroundColor") == "rgb(21, 23, 26)"
    assert page.value(
        "[...document.images].every((own) => !own.src || own.loading === 'lazy' || own.naturalWidth > 0)"
    )
