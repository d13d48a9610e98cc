"""The command line: words that are refused before anything is read, run or written."""

import contextlib
import shutil
from collections.abc import Callable
from pathlib import Path

from fewstep import cli

from .case import Case
from .settings import PARAMS


def _clone(folder: Path) -> None:
    """The files by which a clone is known."""
    for name in ("params.yaml", "dvc.yaml", "paper/dvc.yaml"):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(PARAMS.parent / name, folder / name)


def _run(words: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        with contextlib.chdir(folder):
            cli.run(words.split(" "))

    return run


def _case(name: str, words: str, says: str) -> Case:
    return Case("command line", name, _run(words), says, _clone)


def cases() -> list[Case]:
    """Names that climb, numbers out of what is possible, commands and options that there are not."""
    name = r"a name is made of up to 64 letters, digits, .*: rename "
    return [
        _case("zero steps", "sample there --steps 0", r"--steps.*whole number from 1 to 10,000, not 0"),
        _case(
            "a billion steps", "sample there --steps 1000000000", r"--steps.*whole number from 1 to 10,000"
        ),
        _case("steps in words", "sample there --steps many", r"--steps: invalid int value: 'many'"),
        _case("no image", "sample there --count 0", r"--count.*whole number from 1 to 1,024, not 0"),
        _case(
            "a negative seed",
            "sample there --seed -1",
            r"--seed.*whole number from 0 to 2,147,483,647, not -1",
        ),
        _case(
            "a seed of 2**63", f"sample there --seed {2**63}", r"--seed.*whole number from 0 to 2,147,483,647"
        ),
        _case(
            "a training seed of -1",
            "save --experiment a --method b --seed -1",
            r"--seed.*whole number from 0",
        ),
        _case(
            "a tier that climbs",
            "run 0-tour --tier ../../../evil",
            r"tier: there is no tier '\.\./.*there are smoke",
        ),
        _case(
            "a tier to check that climbs",
            "check --tier ../x",
            r"tier: there is no tier '\.\./x'; there are smoke",
        ),
        _case("a tier to publish", "publish --tier huge", r"tier: there is no tier 'huge'; there are smoke"),
        _case(
            "a tier to look ahead to",
            "preflight --tier huge",
            r"tier: there is no tier 'huge'; there are smoke",
        ),
        _case(
            "a tier to save from",
            "save --experiment a --method b --tier /",
            r"tier: there is no tier '/'; there",
        ),
        _case(
            "a tier to select",
            "tier huge",
            r"tier: there is no tier 'huge'; there are smoke, laptop, overnight, paper",
        ),
        _case(
            "an experiment that climbs",
            "run 3-sample --tier smoke --experiment ../../../../x",
            rf"experiment: {name}'\.\.",
        ),
        _case("data that climb", "run 0-prepare --tier smoke --data ../x", rf"data: {name}'\.\./x'"),
        _case("data that are absolute", "run 0-prepare --tier smoke --data /tmp/x", rf"data: {name}'/tmp/x'"),
        _case(
            "an experiment of a command", "run a --tier smoke --experiment a;touch", rf"experiment: {name}'a;"
        ),
        _case("a notebook that climbs", "run ../../x --tier smoke", rf"notebook: {name}'\.\./\.\./x'"),
        _case(
            "an experiment to save that climbs",
            "save --experiment ../x --method lmd",
            rf"experiment: {name}'\.\./x'",
        ),
        _case(
            "a method to save that climbs", "save --experiment a --method ../x", rf"method: {name}'\.\./x'"
        ),
        _case("an empty experiment", "run 3-sample --tier smoke --experiment ", rf"experiment: {name}''"),
        _case("heads of no channel", "convert-lfm a b --heads 0", r"--heads.*whole number from 1 to 1,024"),
        _case("settings of nothing", "settings ../x", r"there is no '\.\./x'; there are tour"),
        _case("a stage that there is not", "rehearse ../x", r"there is no stage '\.\./x' at tier paper"),
        _case("a command that there is not", "trian", r"invalid choice: 'trian' \(choose from"),
        _case("no command", "", r"invalid choice: ''|required: command"),
        _case("an option that is missing", "run 0-tour", r"the following arguments are required: --tier"),
        _case("an option that there is not", "check --tire smoke", r"unrecognized arguments: --tire smoke"),
        _case("a device that there is not", "rehearse --device tpu", r"invalid choice: 'tpu'"),
    ]
