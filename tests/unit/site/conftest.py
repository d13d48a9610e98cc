"""A site of tier smoke in a tree of its own, on the disk and in a browser."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from fewstep.pipeline import site, site_pages
from fewstep.settings.names import ZOO
from fewstep.storage.workspace import Workspace

from ... import chromium
from .pages import DRAWN, TIER, published, samples, weights


@pytest.fixture(scope="package")
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
    for experiment in DRAWN:
        samples(found.pipeline / "samples", experiment)
    return found


@pytest.fixture(scope="package")
def files(root, workspace) -> dict[str, bytes]:
    return site.build(workspace, published(root), published(root, ZOO))


@pytest.fixture(scope="package")
def folder(workspace, files) -> Path:
    own = workspace.root / "results" / TIER / "site"
    for name, content in files.items():
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).write_bytes(content)
    return own


@pytest.fixture(scope="package")
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
