"""An executed notebook, opened in JupyterLab by a browser without a screen: its pictures are pictures."""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fewstep.evaluation.plots.picture import NUMBERS

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking "
    "--disable-component-update --disable-sync --window-size=1200,3000"
).split()
PICTURE, TREE = re.compile('<img src="data:image/png'), re.compile('class="[^"]*jp-RenderedJSON')


@contextmanager
def started(words: list[str], scratch: Path, output: Path) -> Iterator[subprocess.Popen]:
    """A process that knows nothing of its user's settings, and that ends with everything that it started."""
    own = {f"JUPYTER_{kind}_DIR": str(scratch / kind.lower()) for kind in ("CONFIG", "DATA", "RUNTIME")}
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JUPYTER")} | own
    environment["HOME"] = str(scratch)
    with output.open("wb") as file, open(os.devnull, "wb") as nothing:
        process = subprocess.Popen(
            words, stdout=file, stderr=nothing, env=environment, cwd=scratch, start_new_session=True
        )
    try:
        yield process
    finally:
        for end in (signal.SIGTERM, signal.SIGKILL):
            try:
                os.killpg(process.pid, end)
                process.wait(5)
            except (ProcessLookupError, subprocess.TimeoutExpired):
                pass


@pytest.fixture
def browser() -> str:
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    return found or pytest.skip(f"no browser: none of {', '.join(BROWSERS)} is installed")


@pytest.fixture
def lab(tmp_path) -> Iterator[tuple[Path, str]]:
    """A JupyterLab without kernels: its folder, and the address of a notebook in it but for the name."""
    folder, scratch, token = tmp_path / "notebooks", tmp_path / "scratch", secrets.token_hex(8)
    folder.mkdir()
    scratch.mkdir()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ServerApp.token": token,
        "ServerApp.root_dir": folder,
        "ServerApp.port": port,
        "ServerApp.port_retries": 0,
        "KernelSpecManager.allowed_kernelspecs": "none",
    }
    words = [sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1"]
    words += [f"--{name}={value}" for name, value in options.items()]
    with started(words, scratch, scratch / "lab.txt") as process:
        for _ in range(300):
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/api", timeout=5).close()
                break
            except OSError:
                assert process.poll() is None, "JupyterLab did not start"
                time.sleep(0.1)
        yield folder, f"http://127.0.0.1:{port}/doc/tree/{{}}?token={token}"


@pytest.fixture
def shown(browser, lab, tmp_path):
    """The page, as HTML, that the browser makes of a notebook."""
    folder, address = lab

    def show(notebook: dict) -> str:
        name = f"{secrets.token_hex(4)}.ipynb"
        (folder / name).write_text(json.dumps(notebook), encoding="utf-8")
        page = tmp_path / "scratch" / f"{name}.html"
        words = [browser, *FLAGS, f"--user-data-dir={tmp_path / name}", "--virtual-time-budget=30000"]
        with started([*words, "--dump-dom", address.format(name)], tmp_path / "scratch", page) as process:
            process.wait(40)
        return page.read_text(encoding="utf-8")

    return show


def test_jupyterlab_shows_pictures_and_no_trees(shown, root):
    texts = [path.read_text(encoding="utf-8") for path in (root / "results/smoke/notebooks").glob("*.ipynb")]
    notebook = json.loads(min((text for text in texts if '"image/png"' in text), key=len))
    data = [o["data"] for cell in notebook["cells"] for o in cell.get("outputs", []) if "data" in o]
    drawn = [bundle for bundle in data if "image/png" in bundle]
    assert all(NUMBERS in bundle for bundle in drawn)
    page = shown(notebook)
    assert len(PICTURE.findall(page)) == len(drawn) and not TREE.search(page)
    # and the page would tell: plain JSON beside a picture hides it
    for bundle in drawn:
        bundle["application/json"] = bundle.pop(NUMBERS)
    page = shown(notebook)
    assert len(TREE.findall(page)) >= len(drawn) and not PICTURE.search(page)
