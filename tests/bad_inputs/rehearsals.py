"""What `rehearse`, `preflight` and `fetch` are given."""

import contextlib
import fcntl
import os
import shutil
from collections.abc import Callable
from pathlib import Path

from fewstep.data import cifar10
from fewstep.pipeline.stages import PAPER_ONLY
from fewstep.rehearsal.fetch import fetch
from fewstep.rehearsal.preflight import preflight
from fewstep.rehearsal.rehearse import TREE, rehearse
from fewstep.settings import tiers
from fewstep.storage import stand_in

from .case import Case

ROOT = Path(__file__).parents[2]


def _clone(folder: Path) -> None:
    for name in ("params.yaml", "dvc.yaml", PAPER_ONLY):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def _thesis(folder: Path) -> None:
    _clone(folder)
    (folder / TREE).mkdir(parents=True)
    (folder / TREE / "thesis.txt").write_text("mine", encoding="utf-8")


def _file(folder: Path) -> None:
    _clone(folder)
    (folder / TREE.parent).mkdir()
    (folder / TREE).write_text("mine", encoding="utf-8")


def _running(folder: Path) -> None:
    _clone(folder)
    stand_in.mark(folder / TREE)
    (folder / TREE / "half").write_text("of a stage", encoding="utf-8")


def _second(folder: Path) -> None:
    first = os.open(folder / TREE, os.O_RDONLY)
    try:
        fcntl.flock(first, fcntl.LOCK_EX)
        rehearse(folder, "cpu", ["check"])
    finally:
        os.close(first)


def _small(*names: str) -> Callable[[Path], None]:
    return lambda folder: rehearse(folder, "cpu", names)


def _none_to_look_at(folder: Path) -> None:
    empty = tiers.load(ROOT / "params.yaml", "smoke").model_copy(update={"experiments": {}})
    preflight(folder, "smoke", empty)


CIFAR10 = Path("paper/data/cifar10")


def _fetch(*names: str) -> Callable[[Path], None]:
    def run(folder: Path) -> None:
        with contextlib.chdir(folder):
            fetch(names, yes=True)

    return run


def _in_place(put: Callable[[Path], object]) -> Callable[[Path], None]:
    """A clone in which something is put where CIFAR-10's archive belongs."""

    def prepare(folder: Path) -> None:
        _clone(folder)
        (folder / CIFAR10).mkdir(parents=True)
        put(folder / CIFAR10 / cifar10.FILE)

    return prepare


def cases() -> list[Case]:
    """Stages, trees and tiers that there are not, or that are somebody else's."""
    mine = r"artifacts/rehearsal holds something that is no rehearsal's: move it away or delete it"
    running = r"another rehearsal is running in \S+artifacts/rehearsal: wait for its end, or end it"
    nothing = "tier 'smoke' has no experiments"
    unknown = "there is no stage 'students@fmm' at tier paper; there are"
    away = "move it away, and fetch again"
    other = rf"{cifar10.FILE} is another file \(md5:\w+ instead of md5:{cifar10.MD5}\): {away}"
    return [
        Case(
            "fetch",
            "a name that there is not",
            _fetch("cifar"),
            "no 'cifar' to fetch; there are cifar10",
            _clone,
        ),
        Case("fetch", "a name that climbs", _fetch("../x"), r"no '\.\./x' to fetch; there are", _clone),
        Case("fetch", "no name", _fetch(), "say what to fetch; there are cifar10", _clone),
        Case(
            "fetch", "data of drives", _fetch("celeba64"), "celeba64 has to be got by hand: .*CelebA", _clone
        ),
        Case(
            "fetch", "another file", _fetch("cifar10"), other, _in_place(lambda own: own.write_bytes(b"mine"))
        ),
        Case(
            "fetch", "a folder", _fetch("cifar10"), f"is a folder and no file: {away}", _in_place(Path.mkdir)
        ),
        Case("fetch", "a pipe", _fetch("cifar10"), f"is a pipe.* and no file: {away}", _in_place(os.mkfifo)),
        Case(
            "fetch",
            "a link to nothing",
            _fetch("cifar10"),
            f"is a link to nothing: {away}",
            _in_place(lambda own: own.symlink_to("nowhere")),
        ),
        Case(
            "fetch",
            "a rehearsal's archives",
            _fetch("cifar10"),
            rf"cifar10 holds a rehearsal's files \(rehearsal.json says so\): {away}",
            _in_place(lambda own: stand_in.mark(own.parent)),
        ),
        Case("rehearse", "a stage that there is not", _small("students@fmm"), unknown, _clone),
        Case("rehearse", "a stage without a name", _small(""), "there is no stage '' at tier paper", _clone),
        Case("rehearse", "somebody's folder in its place", _small("check"), mine, _thesis),
        Case("rehearse", "a file in its place", _small("check"), mine, _file),
        Case("rehearse", "while another one runs", _second, running, _running),
        Case("preflight", "a tier without experiments", _none_to_look_at, nothing, _clone),
    ]
