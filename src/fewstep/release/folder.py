"""A saved student's folder: written whole or not at all, over nothing but itself, verified when opened."""

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..networks.autoencoder import checksum
from ..storage.checkpoint import CheckpointError
from ..storage.files import write_atomically

INDEX, SUMS, CLASS = "model_index.json", "SHA256SUMS", "FewStepPipeline"
# what is held against its checksum when a student is opened: any other file may be edited
WEIGHTS, TEXTS = ".safetensors", ("text_encoder", "tokenizer")
CURE = "`python -m fewstep save` writes one"


class FolderError(ValueError):
    """A folder is no saved student, or none can be written there; the message names it and the way out."""


def _listed(folder: Path) -> dict[str, str]:
    """The checksum of every file that was written into `folder`, by its name below it."""
    path = folder / SUMS
    if not path.is_file():
        why = "the folder was not copied whole, or is no saved student"
        raise FolderError(f"{path} is not there: {why}; save the student again")
    lines = [line.split("  ", 1) for line in path.read_text(encoding="utf-8").splitlines()]
    if not lines or any(len(line) != 2 for line in lines):
        raise FolderError(f"{path} is no list of checksums and names: save the student again")
    return {name: total for total, name in lines}


def _class(folder: Path) -> Any:
    """The class of the pipeline in `folder`; raises OSError, ValueError or AttributeError without one."""
    return json.loads((folder / INDEX).read_text(encoding="utf-8")).get("_class_name")


def check(folder: Path) -> None:
    """Raise FolderError where `folder` is no whole saved student, CheckpointError for a damaged file."""
    if not folder.is_dir():
        cure = f"{CURE}, and one on a hub must be downloaded first"
        raise FolderError(f"{folder} is no saved student: there is no such folder; {cure}")
    if not (folder / INDEX).is_file():
        raise FolderError(f"{folder} is no saved student: it holds no {INDEX}; {CURE}")
    try:
        found = _class(folder)
    except (ValueError, AttributeError):
        raise FolderError(f"{folder / INDEX} cannot be read as JSON: save the student again") from None
    if found != CLASS:
        raise FolderError(f"{folder} holds a {found} and no saved student ({CLASS}); {CURE}")
    for name, total in _listed(folder).items():
        path = folder / name
        if not path.is_file():
            # a text for people is no part of the student
            if path.suffix != ".md":
                raise FolderError(f"{path} is not there: copy the folder whole, or save the student again")
        elif (path.suffix == WEIGHTS or Path(name).parts[0] in TEXTS) and checksum(path) != total:
            cure = "copy it again, or save the student again"
            raise CheckpointError(f"{path} is damaged (its checksum differs from that in {SUMS}): {cure}")


def check_free(target: Path) -> None:
    """Raise FolderError unless `target` is free, or holds an older student and no other file."""
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not target.is_dir():
        raise FolderError(f"{target} is a file: nothing was written; name another folder")
    try:
        own = {SUMS, *_listed(target)} if _class(target) == CLASS else None
    except (OSError, ValueError, AttributeError):
        own = None
    if own is None:
        why = "exists and is no saved student"
        raise FolderError(f"{target} {why}: nothing was written; name another folder")
    for path in sorted(target.rglob("*")):
        name = path.relative_to(target).as_posix()
        if not path.is_dir() and name not in own:
            why = f"holds {name}, which is no part of a saved student"
            raise FolderError(f"{target} {why}: nothing was written; move it away, or name another folder")


def write(target: Path, fill: Callable[[Path], None]) -> None:
    """Make `target` the folder that `fill(folder)` fills, with its checksums; raises as `check_free`.

    Whatever stops `fill` leaves `target` as it was. The older student is moved aside before the new one takes
    its place: a power cut between these two steps leaves it beside `target`, its name ending in .old.tmp.
    """
    target = Path(os.path.abspath(target))
    check_free(target)
    fresh, old = (target.with_name(f".{target.name}.{os.getpid()}.{what}.tmp") for what in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
        fill(fresh)
        files = sorted(path for path in fresh.rglob("*") if path.is_file())
        lines = [f"{checksum(path)}  {path.relative_to(fresh).as_posix()}\n" for path in files]
        write_atomically(fresh / SUMS, "".join(lines).encode())
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
