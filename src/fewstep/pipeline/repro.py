"""What `make repro` calls: DVC, experiment by experiment, so that the first results show early."""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from ..settings import tiers
from ..settings.base import SettingsError
from ..storage.workspace import Workspace
from . import report
from .stages import plan


class ReproError(RuntimeError):
    """DVC ended without finishing; its own words stand above."""


def _dvc(root: Path, stages: Sequence[str]) -> None:
    # a stage's command is `python -m fewstep ...`: with this interpreter, whatever the shell finds first
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    words = [sys.executable, "-m", "dvc", "repro", *stages]
    code = subprocess.run(words, cwd=root, env=os.environ | {"PATH": path}).returncode
    if code:
        raise ReproError(
            "`dvc repro` stopped (see above); what is finished is kept, and the next run goes on"
        )


def _minutes(started: float) -> str:
    return "{} min {:02d} s".format(*divmod(round(time.monotonic() - started), 60))


def repro(root: Path, experiment: str | None = None, folder: str = "") -> None:
    """Rebuild the results at the tier that params.yaml selects, or the stages of one experiment alone.

    After each experiment's figures its tables, claims and pictures are put under results/<tier>. With a
    `folder`, those of the pipeline beside the main one whose dvc.yaml lies there, and what it needs of the
    main one. Raises SettingsError for an experiment or a pipeline that the tier has no stage of, and
    ReproError where DVC stops.
    """
    tier, started = tiers.read(root / "params.yaml")["tier"], time.monotonic()
    stages = plan(root, tier, folder)
    if folder and not stages:
        raise SettingsError(f"tier {tier} has no stage in {folder}/dvc.yaml: select another tier")
    if folder and experiment is None:
        _dvc(root, [f"{folder}/dvc.yaml"])
        print(f"done in {_minutes(started)}; the report is results/{tier}/{folder}/report.md")
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
    for stage in stages:
        if stage.name.startswith("figures"):
            _dvc(root, [stage.name])
            fresh = [name for name in report.publish_so_far(workspace) if name not in shown]
            shown.update(fresh)
            print(f"after {_minutes(started)}: results/{tier} has {', '.join(fresh)}", flush=True)
    _dvc(root, [])
    print(f"done in {_minutes(started)}; the report is results/{tier}/report.md")
