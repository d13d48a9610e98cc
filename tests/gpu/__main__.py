"""`python -m tests.gpu [--device cuda|cpu] [--minutes 10]`: see `make gpu`."""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from fewstep.evaluation import provenance
from fewstep.settings import tiers
from fewstep.storage.files import require_writable, write_atomically

from . import cells, noise, report, steps

ROOT = Path(__file__).resolve().parents[2]
# of all the time, what the tests may take, and the experiments; the measurements have the rest
TESTS, EXPERIMENTS = 0.35, 0.4


@dataclass(frozen=True)
class Plan:
    """What is run, on which device ("cuda" or "cpu"), within how many `seconds`.

    steps_tier   whose networks and batches are timed; `networks` are those of some experiments alone
    cells_tier   whose `experiments` are run
    """

    device: str
    steps_tier: str
    cells_tier: str
    seconds: float = 600.0
    tests: bool = True
    networks: tuple[str, ...] | None = None
    precisions: tuple[str, ...] = steps.PRECISIONS
    experiments: tuple[str, ...] = cells.EXPERIMENTS


PLANS = {"cuda": Plan("cuda", "paper", "laptop"), "cpu": Plan("cpu", "smoke", "smoke")}


def lacking(device: str) -> str | None:
    """Why `device` cannot be used, in one sentence, or None."""
    if device == "cpu" or torch.cuda.is_available():
        return None
    where = "a machine with a GPU and a CUDA build of torch"
    small = "`make gpu DEVICE=cpu` runs the same in small on a CPU"
    return f"no CUDA device is visible to torch {torch.__version__}: run `make gpu` on {where}; {small}"


def driver(device: str) -> str:
    """The version of the GPU's driver, "none" for a CPU, "unknown" where nvidia-smi does not say it."""
    if device == "cpu":
        return "none"
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, encoding="utf-8", check=True, timeout=20)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return (done.stdout.split() or ["unknown"])[0]


def machine(root: Path, device: str) -> steps.Machine:
    """What the columns of every row say of this machine."""
    name = provenance.hardware(device).partition(";" if device == "cuda" else ",")[0]
    return steps.Machine(name, torch.__version__, driver(device), provenance.revision(root))


def file_name(device: str) -> str:
    """The name of a device as that of a file: "NVIDIA H200" is nvidia-h200."""
    return re.sub(r"[^a-z0-9]+", "-", device.lower()).strip("-") or "device"


def folder(root: Path, device: str) -> Path:
    """Where the files go: a CPU's figures are not results."""
    return root / ("results" if device == "cuda" else "artifacts") / "gpu"


def marked(root: Path) -> list[str]:
    """The files of tests in which some are marked `cuda`, below `root`."""
    found = sorted((root / "tests").rglob("test_*.py"))
    return [str(p.relative_to(root)) for p in found if "mark.cuda" in p.read_text(encoding="utf-8")]


def run_tests(root: Path, device: str, seconds: float) -> report.Outcome:
    """Run the tests marked `cuda` on `device`, in a process of their own, for at most so many `seconds`."""
    with tempfile.TemporaryDirectory() as place:
        junit = Path(place) / "junit.xml"
        options = ["-m", "cuda", "--device", device, "-q", "-p", "no:cacheprovider", f"--junitxml={junit}"]
        command = [sys.executable, "-m", "pytest", *options, *marked(root)]
        try:
            subprocess.run(command, cwd=root, timeout=seconds)
        except subprocess.TimeoutExpired:
            return report.Outcome(problem=f"they were not finished in {seconds:.0f} s")
        if not junit.is_file():
            return report.Outcome(problem="pytest stopped before it wrote them down")
        return report.outcome(junit.read_text(encoding="utf-8"))


def run_experiments(root: Path, plan: Plan, seconds: float) -> tuple[list[cells.Cell], list[str]]:
    """The cells of the experiments, and what kept some from being run in so many `seconds`."""
    found: list[cells.Cell] = []
    with tempfile.TemporaryDirectory() as place:
        tree = Path(place).resolve()
        try:
            with steps.at_most(seconds):
                cells.lay_out(root, tree, plan.cells_tier, plan.device)
                for own in cells.of_experiments(root, tree, plan.cells_tier, plan.experiments):
                    found += own
        # whatever a device may raise: what was measured before it stands
        except Exception as error:
            done = len({own.experiment for own in found})
            return found, [f"{plan.experiments[done]} has no cells: {steps.failed(error)}"]
    return found, []


def run(root: Path, plan: Plan) -> tuple[Path, bool]:
    """Run `plan` and write its two files; returns that of the page, and whether nothing went wrong.

    Raises OSError, before anything is computed, where the files cannot be written.
    """
    until = time.monotonic() + plan.seconds
    place, own = folder(root, plan.device), machine(root, plan.device)
    require_writable(place)
    tests = run_tests(root, plan.device, TESTS * plan.seconds) if plan.tests else None
    found, problems = run_experiments(root, plan, EXPERIMENTS * plan.seconds)
    tier = tiers.load(root / "params.yaml", plan.steps_tier)
    chosen = steps.steps_of(plan.networks or tuple(noise.networks_of(tier)), plan.precisions)
    rows = steps.rows(tier, plan.steps_tier, chosen, plan.device, own, until - time.monotonic())
    page = report.page(own, plan.device, plan.cells_tier, tests, rows, found, problems)
    path = place / f"{file_name(own.device)}.md"
    write_atomically(path.with_suffix(".csv"), report.as_csv(rows))
    write_atomically(path, page.encode())
    return path, not problems and (tests is None or tests.good)


def main() -> int:
    """The exit status is 0 only where the tests passed and the experiments ran."""
    parser = argparse.ArgumentParser(prog="python -m tests.gpu", description=__doc__)
    parser.add_argument("--device", choices=tuple(PLANS), default="cuda")
    parser.add_argument("--minutes", type=float, default=10.0, help="the most that it takes (default: 10)")
    given = parser.parse_args()
    if problem := lacking(given.device):
        print(problem, file=sys.stderr)
        return 1
    # as the Makefile sets it: every number is computed by one thread
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    plan = PLANS[given.device]
    path, good = run(ROOT, Plan(**(vars(plan) | {"seconds": 60 * given.minutes})))
    print(f"{path} and the .csv beside it are written{'' if good else '; not all went well: see there'}")
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
