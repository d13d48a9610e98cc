"""What `make repro` calls: DVC on the checkerboard, then on the other experiments, two at a time."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from ..settings import tiers
from ..settings.base import SettingsError
from ..storage import progress
from ..storage.workspace import Workspace
from . import report, timings
from .stages import Stage, plan

# DVC in a process that ends with this one; its stages end with it
_DVC = """import sys; from fewstep.training.lifetime import exit_with_parent
exit_with_parent(int(sys.argv.pop(1))); from fewstep.pipeline.dvc import write_locks_quickly
write_locks_quickly(); from dvc.cli import main; sys.exit(main(sys.argv[1:]))"""


class ReproError(RuntimeError):
    """DVC ended without finishing; its own words stand above."""


def _dvc(root: Path, words: Sequence[str], beside_others: bool = False) -> None:
    # a stage's command is `python -m fewstep ...`: with this interpreter, whatever the shell finds first
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    environment = os.environ | {"PATH": path} | ({progress.LINES: "1"} if beside_others else {})
    # of two DVCs, one waits while the other writes dvc.lock
    call = [sys.executable, "-c", _DVC, str(os.getpid()), "--wait-for-lock", "repro", *words]
    if subprocess.run(call, cwd=root, env=environment).returncode:
        raise ReproError("`dvc repro` stopped (see above); what is finished is kept: run it again to go on")


def _minutes(started: float) -> str:
    return "{} min {:02d} s".format(*divmod(round(time.monotonic() - started), 60))


def groups(stages: Sequence[Stage]) -> list[list[Stage]]:
    """The stages that run notebooks, in groups that hand nothing on to each other, each in its order."""
    found: list[list[Stage]] = []
    for stage in stages:
        if stage.notebook is None:  # `check`, which all read, and `publish`, which reads all
            continue
        joined = [group for group in found if any(stage.reads(other) for other in group)]
        found = [group for group in found if group not in joined]
        found.append(sorted([*sum(joined, []), stage], key=stages.index))
    return found


def _in_order(found: list[list[Stage]], workspace: Workspace) -> list[list[Stage]]:
    """The group of the part that stands first, then the others, what took longest last time before all."""
    seconds = timings.read(workspace)
    first = f"report/{report.FIRST}"

    def key(group: list[Stage]) -> tuple[bool, float]:
        outs = [Path(out) for stage in group for out in stage.outs]
        own = any(out.as_posix().endswith(first) for out in outs)
        return not own, -sum(seconds.get(out.stem, 0.0) for out in outs if out.suffix == ".ipynb")

    return sorted(found, key=key)


def repro(root: Path, experiment: str | None = None, folder: str = "") -> None:
    """Rebuild the results at the tier that params.yaml selects, or the stages of one experiment alone.

    Where the tier has several workers on a CPU, two groups of experiments run side by side: a stage that
    trains one network leaves a core to the other's. As soon as a group is done, its tables, claims and
    pictures are put under results/<tier>. With a `folder`, those of the pipeline beside the main one whose
    dvc.yaml lies there, and what it needs of the main one. Raises SettingsError for an experiment or a
    pipeline that the tier has no stage of, and ReproError where DVC stops: of what had begun, the other group
    is finished before.
    """
    tier, started = tiers.read(root / "params.yaml")["tier"], time.monotonic()
    stages = plan(root, tier, folder)
    if folder and not stages:
        raise SettingsError(f"tier {tier} has no stage in {folder}/dvc.yaml: select another tier")
    if folder and experiment is None:
        _dvc(root, [f"{folder}/dvc.yaml"])
        print(f"done in {_minutes(started)}; the report is results/{tier}/{folder}.md")
        return
    if experiment is not None:
        chosen = [stage for stage in stages if stage.experiment == experiment]
        if not chosen:
            there = ", ".join(dict.fromkeys(stage.experiment for stage in stages if stage.experiment))
            raise SettingsError(f"tier {tier} has no stage of an experiment '{experiment}'; it has {there}")
        where = f"{folder}/dvc.yaml:" if folder else ""
        _dvc(root, [f"{where}{stage.name}" for stage in chosen])
        notebooks = [out for stage in chosen for out in stage.outs if out.endswith(".ipynb")]
        print(f"done in {_minutes(started)}; the last of its notebooks is {notebooks[-1]}")
        return
    workspace, shown = Workspace(root, tier), set[str]()
    compute = tiers.load(root / "params.yaml", tier).compute
    at_once = 2 if compute.device == "cpu" and compute.workers > 1 else 1

    def show() -> None:
        fresh = [name for name in report.publish_so_far(workspace) if name not in shown]
        shown.update(fresh)
        if fresh:
            print(f"after {_minutes(started)}: results/{tier} has {', '.join(fresh)}", flush=True)

    # by name and alone: what they need is finished, and must not be looked at while others are at work
    ordered = _in_order(groups(stages), workspace)
    first, *others = [["--single-item", *(stage.name for stage in group)] for group in ordered]
    _dvc(root, [first[0], stages[0].name, *first[1:]])
    show()
    pool = ThreadPoolExecutor(at_once)
    try:
        for done in as_completed([pool.submit(_dvc, root, names, at_once > 1) for names in others]):
            done.result()
            show()
    finally:
        pool.shutdown(cancel_futures=True)
    _dvc(root, [])
    print(f"done in {_minutes(started)}; the report is results/{tier}/report.md")
