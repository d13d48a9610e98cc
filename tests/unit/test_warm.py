"""Forked kernels: they are what fresh ones are, end when they should, and nothing fails without them."""

from __future__ import annotations

import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import nbformat
import pytest

from fewstep.pipeline import kernels

pytestmark = pytest.mark.skipif(
    not kernels.wanted({kernels.CHOICE: "1"}), reason="kernels are not forked on this machine"
)

# what a notebook could notice of its process, but for what must differ between two processes
FACTS = """
import json, multiprocessing, os, signal, sys, threading
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import process, spawn

from tqdm.auto import tqdm
import comm
import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas
import torch
import fewstep.networks.unet

drawn = [np.random.rand(), torch.rand(1).item()]
torch.manual_seed(0)
plt.plot([1, 2])
plt.show()
with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as executor:
    worker = executor.submit(eval, "[__import__('sys').argv[1:2], __import__('os').getcwd(), __import__('sys').path]").result()
main, prepared = sys.modules["__main__"], spawn.get_preparation_data("worker")
own = ("JPY_PARENT_PID", "FEWSTEP_WARM", "FEWSTEP_START_METHOD", "FEWSTEP_PROGRESS")
os.umask(mask := os.umask(0))
facts = {
    "here": [os.getcwd(), process.ORIGINAL_DIR, sys.path, sys.executable, mask, os.nice(0), os.getsid(0) == os.getpid(), os.read(0, 1) == b""],
    "words": [sys.argv[0], sys.argv[1], sys.argv[3:], sys.orig_argv[:4], [str(flag) for flag in sys.flags], sys.warnoptions],
    "main": [main.__name__, str(main.__spec__), hasattr(main, "__file__"), sorted(set(vars(main)))],
    "spawned": [worker, {k: v for k, v in prepared.items() if k not in ("authkey", "sys_argv")}],
    "environment": {k: v for k, v in os.environ.items() if k not in own},
    "libraries": [matplotlib.get_backend(), [str(base) for base in tqdm.__mro__], sorted(comm.get_comm_manager().targets), torch.get_num_threads(), torch.rand(3).tolist()],
    "options": [sorted(map(str, matplotlib.rcParams.items())), str(pandas.DataFrame([range(10 ** 8, 10 ** 8 + 30)])), str(pandas.options.display.max_rows)],
    "rest": [str(signal.getsignal(signal.SIGINT)).partition(" at ")[0], type(sys.stdout).__name__, sys.__stdout__.line_buffering, os.isatty(1)],
}
print(json.dumps({"facts": facts, "drawn": drawn, "forked": "kernels.py" in open("/proc/self/cmdline").read()}, default=str))
"""  # noqa: E501


def test_a_fork_is_what_a_fresh_kernel_is(tmp_path):
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell(text) for text in ("tier = 'smoke'", FACTS)]
    )
    notebook.cells[0].metadata["tags"] = ["parameters"]
    notebook.metadata["kernelspec"] = {"display_name": "Python 3", "language": "python", "name": "python3"}
    (tmp_path / "notebooks").mkdir()
    nbformat.write(notebook, tmp_path / "notebooks" / "facts.ipynb")
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text("{}\n", encoding="utf-8")
    told = []
    for choice in ("0", "1", "1"):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FEWSTEP_")} | {
            kernels.CHOICE: choice,
            "AN_ÜMLAUT": "ß\n",
        }
        words = [sys.executable, "-m", "fewstep", "run", "facts", "--tier", "smoke"]
        done = subprocess.run(
            words, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=400
        )
        assert done.returncode == 0, done.stderr
        outputs = (
            nbformat.read(tmp_path / "artifacts/smoke/notebooks/facts.ipynb", as_version=4).cells[-1].outputs
        )
        assert "image/png" in outputs[0].data
        told.append(
            json.loads(outputs[1].text)
            | {
                "picture": outputs[0].data["image/png"],
                "said": re.sub(".* gone.*\n", "", done.stderr + done.stdout),
            }
        )
    fresh, *forked = told
    assert not fresh["forked"] and all(own["forked"] for own in forked), "the wrong kernels were tried"
    for own in forked:
        for name, fact in fresh["facts"].items():
            assert own["facts"][name] == fact, name
        assert (own["picture"], own["said"]) == (fresh["picture"], fresh["said"])
    assert len({number for own in told for number in own["drawn"]}) == 6, (
        "numbers without a seed are the same in two kernels"
    )


def ended(pid: int, seconds: float) -> bool:
    """Whether the process has ended before so many seconds are over."""
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    try:
        return bool(select.select([process], [], [], seconds)[0])
    finally:
        os.close(process)


class Place:
    """A folder whose kernels are forked by a process that has nothing but ipykernel loaded."""

    def __init__(self, folder: Path):
        self.folder = folder
        folder.mkdir()
        kept = {k: v for k, v in os.environ.items() if not k.startswith("FEWSTEP_")}
        self.environment = kept | {kernels.CHOICE: "1", "IPYTHONDIR": str(folder.parent / "ipython")}

    def launch(self) -> kernels.Kernel | None:
        started = self.folder.parent / str(time.monotonic_ns())
        command = [
            sys.executable,
            "-m",
            kernels.LAUNCHER,
            "-f",
            f"{started}.json",
            "--transport=ipc",
            f"--IPKernelApp.exec_lines=open('{started}', 'w').close()",
        ]
        kernel = kernels.launch(command, str(self.folder), self.environment)
        if kernel is not None:
            limit = time.monotonic() + 20
            while not started.exists() and kernel.poll() is None and time.monotonic() < limit:
                time.sleep(0.02)
            assert started.exists(), kernel.returncode
        return kernel

    def forker(self) -> int | None:
        line = kernels._connect(kernels.address(str(self.folder), self.environment))
        if line is None:
            return None
        with line:
            return kernels._peer(line)[0]


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setattr(kernels, "LIBRARIES", ["ipykernel.kernelapp"])
    monkeypatch.setattr(kernels, "IDLE", 60.0)
    place = Place(tmp_path / "notebooks")
    yield place
    if place.folder.exists() and (pid := place.forker()):
        os.kill(pid, signal.SIGKILL)


def test_a_forked_kernel_is_handled_as_a_subprocess(place):
    kernel = place.launch()
    assert kernel.poll() is None and kernel.returncode is None and os.getpgid(kernel.pid) == kernel.pid
    with pytest.raises(subprocess.TimeoutExpired):
        kernel.wait(0.01)
    forker = place.forker()
    kernel.send_signal(signal.SIGINT)  # ipykernel ignores it while no cell runs
    second = place.launch()
    assert place.forker() == forker and second.pid != kernel.pid
    second.send_signal(signal.SIGTERM)
    assert second.wait(10) == -signal.SIGTERM == second.poll()
    assert kernel.poll() is None
    kernel.kill()
    assert kernel.wait(10) == -signal.SIGKILL
    kernel.kill()


@contextmanager
def stage(place: Place, name: str, *leader: str):
    """A stage that waits beside its kernel, in its own process group; yields the group and both ids."""
    script = f"""
import sys, time; sys.path[:] = {sys.path!r}
from pathlib import Path
from fewstep.pipeline import kernels; from tests.unit.test_warm import Place
kernels.LIBRARIES, kernels.IDLE = {kernels.LIBRARIES!r}, 60.0
place = Place(Path({str(place.folder / name)!r}))
print(place.launch().pid, place.forker(), flush=True); time.sleep(60)
"""
    with subprocess.Popen(
        [*leader, sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as first:
        try:
            kernel, forker = map(int, first.stdout.readline().split())
            assert os.getpgid(forker) == first.pid and not ended(kernel, 0) and not ended(forker, 0)
            yield first.pid, kernel, forker
        finally:
            os.killpg(first.pid, signal.SIGKILL)


@pytest.mark.parametrize("kill", [os.kill, os.killpg])
def test_the_kernel_and_the_forker_end_with_what_started_them(place, kill):
    """The stage is killed, alone or with its process group, and nothing that it started is left."""
    with stage(place, "own") as (group, kernel, forker):
        kill(group, signal.SIGKILL)
        assert ended(kernel, 5) and ended(forker, 5)


def test_a_stage_outlives_the_leader_of_its_group(place):
    def ticks() -> int:
        return sum(
            map(
                int,
                Path(f"/proc/{forker}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[11:13],
            )
        )

    with stage(place, "led", "sh", "-c", '"$@" & wait', "sh") as (group, kernel, forker):
        os.kill(group, signal.SIGKILL)
        assert not ended(kernel, 0.3)
        before = ticks()
        assert not ended(forker, 0.7) and ticks() - before < 0.2 * os.sysconf("SC_CLK_TCK"), "it waits busily"
    assert ended(kernel, 5) and ended(forker, 5)


def test_a_forker_ends_when_it_is_idle_and_when_its_folder_is_gone(place, monkeypatch, tmp_path):
    kernel = place.launch()
    forker = place.forker()
    shutil.rmtree(place.folder)
    assert not ended(forker, 1), "a kernel that runs is left alone"
    kernel.kill()
    kernel.wait(10)
    assert ended(forker, 5) and place.folder.exists() is False
    monkeypatch.setattr(kernels, "IDLE", 1.0)
    other = Place(tmp_path / "other")
    kernel = other.launch()
    forker = other.forker()
    assert not ended(forker, 2), "it is not idle while its kernel runs"
    kernel.kill()
    kernel.wait(10)
    assert ended(forker, 5) and other.forker() is None


def test_another_forker_follows_one_that_was_killed(place):
    kernel = place.launch()
    first = place.forker()
    os.kill(first, signal.SIGKILL)
    assert ended(first, 5) and kernel.poll() is None, "a kernel does its work without its forker"
    second = place.launch()
    assert place.forker() not in (None, first)
    for each in (kernel, second):
        each.kill()
        assert each.wait(10) == -signal.SIGKILL


def test_an_ordinary_kernel_is_wanted_where_no_fork_can_be_had(place, monkeypatch):
    kernel = place.launch()
    kernel.kill()
    kernel.wait(10)
    # one that hangs is waited for, and makes room
    monkeypatch.setattr(kernels, "PATIENCE", 1.0)
    forker = place.forker()
    os.kill(forker, signal.SIGSTOP)
    assert place.launch() is None and ended(forker, 5)
    monkeypatch.setattr(kernels, "PATIENCE", 20.0)
    # libraries that do not load, and a forker that does not start
    monkeypatch.setattr(kernels, "LIBRARIES", ["no_such_library"])
    assert place.launch() is None
    os.kill(place.forker(), signal.SIGKILL)
    monkeypatch.setattr(kernels, "FORKER", ["-c", "raise SystemExit(1)"])
    monkeypatch.setattr(kernels, "LIBRARIES", ["ipykernel.kernelapp"])
    assert place.launch() is None
    monkeypatch.setattr(kernels, "FORKER", ["-c", "import os; os._exit(0)"])
    assert place.launch() is None
    # another interpreter's kernel
    assert kernels.launch(["python9", "-m", kernels.LAUNCHER], str(place.folder), place.environment) is None


def test_kernels_are_forked_in_the_pipeline_unless_somebody_says_no(monkeypatch):
    assert kernels.wanted({"DVC_STAGE": "tour@smoke"}) and not kernels.wanted({})
    assert not kernels.wanted({"DVC_STAGE": "tour@smoke", kernels.CHOICE: "0"})
    monkeypatch.setattr(kernels.os.path, "exists", lambda path: path == "/dev/nvidiactl")
    assert not kernels.wanted({kernels.CHOICE: "1"}), "there is a GPU"


def test_a_forker_serves_what_an_import_cannot_tell_apart(tmp_path, monkeypatch):
    base = {"OMP_NUM_THREADS": "1", "DVC_STAGE": "tour@smoke", "FEWSTEP_PROGRESS": "/a"}
    name = kernels.address(str(tmp_path), base)
    assert name == kernels.address(
        str(tmp_path), base | {"DVC_STAGE": "figures@smoke", "FEWSTEP_PROGRESS": "/b"}
    )
    other = tmp_path / "other"
    other.mkdir()
    differ = {
        kernels.address(str(tmp_path), base | {"OMP_NUM_THREADS": "2"}),
        kernels.address(str(tmp_path), base | {"MPLBACKEND": "agg"}),
        kernels.address(str(other), base),
    }
    shim = tmp_path / "shim.py"
    shim.write_text("changed = 1\n", encoding="utf-8")
    monkeypatch.setattr(kernels, "SHIM", str(shim))
    differ |= {kernels.address(str(tmp_path), base)}
    assert len(differ | {name}) == 5
