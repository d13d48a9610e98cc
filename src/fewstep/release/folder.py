"""A saved student's folder: written whole or not at all, over nothing but itself, verified when opened."""

import os
import re
import shutil
from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from pathlib import Path, PurePosixPath

from ..storage.checkpoint import CheckpointError
from ..storage.files import amiss, checksum, mapping, write_atomically
from ..storage.workspace import find_root

INDEX, SUMS, CLASS = "model_index.json", "SHA256SUMS", "FewStepPipeline"
SHOWCASE = "students"  # the folder of a clone with the students that come with it
# what a pipeline may be made of; a text for people, which is no part of the student, may be edited
READ, CARDS = (".safetensors", ".json", ".py", ".txt"), ".md"
CURE, AGAIN = "`python -m fewstep save` writes one", "save the student again"


class FolderError(ValueError):
    """A folder is no saved student, or none can be written there; the message names it and the way out."""


def list_files(folder: Path) -> None:
    """Write the checksums of all files below `folder` into it."""
    lines = [f"{checksum(folder / name)}  {name}\n" for name in _unlisted(folder, {SUMS})]
    write_atomically(folder / SUMS, "".join(lines).encode())


def _listed(folder: Path) -> dict[str, str]:
    """The checksum of every file that was written into `folder`, by its name below it."""
    path = folder / SUMS
    if not path.is_file():
        why = "the folder was not copied whole, or is no saved student"
        raise FolderError(f"{path} {amiss(path)}: {why}; {AGAIN}")
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    found = [re.fullmatch(r"([0-9a-f]{64})  (\S.*)", line) for line in lines]
    listed = {line[2]: line[1] for line in found if line}
    if not lines or len(listed) < len(lines):
        raise FolderError(f"{path} is no list of checksums and names, each once: {AGAIN}")
    for name in listed:
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise FolderError(f"{path} lists {name}, which lies outside the folder: {AGAIN}")
    return listed


def _unlisted(folder: Path, listed: Collection[str]) -> Iterator[str]:
    """The files below `folder` that are not among `listed`, in order."""
    names = (path.relative_to(folder).as_posix() for path in sorted(folder.rglob("*")) if not path.is_dir())
    return (name for name in names if name not in listed)


def find(given: Path) -> Path:
    """The folder `given` or, where there is none, the student of that name that came with the clone around.

    Raises FolderError, with the names that there are, for another name.
    """
    with suppress(FileNotFoundError):
        place = find_root() / SHOWCASE
        names = sorted(path.parent.name for path in place.glob(f"*/{INDEX}"))
        if names and not given.exists():
            if str(given) in names:
                return place / given
            cure = f"{CURE}, and {', '.join(names)} came with the clone"
            raise FolderError(f"{given} is no saved student: there is no such folder; {cure}")
    return given


def check(folder: Path) -> None:
    """Raise FolderError where `folder` is no whole saved student, CheckpointError for a changed file."""
    if not folder.is_dir():
        cure = f"{CURE}, and one on a hub must be downloaded first"
        raise FolderError(f"{folder} is no saved student: there is no such folder; {cure}")
    if not (folder / INDEX).exists():
        raise FolderError(f"{folder} is no saved student: it holds no {INDEX}; {CURE}")
    found = mapping(folder / INDEX, AGAIN, FolderError).get("_class_name")
    if found != CLASS:
        raise FolderError(f"{folder} holds a {found} and no saved student ({CLASS}); {CURE}")
    listed = _listed(folder)
    for name, total in listed.items():
        path = folder / name
        if path.suffix == CARDS:
            continue
        if not path.is_file():
            raise FolderError(f"{path} {amiss(path)}: copy the folder whole, or {AGAIN}")
        if checksum(path) != total:
            changed = f"is damaged (its checksum differs from that in {SUMS})"
            raise CheckpointError(f"{path} {changed}: copy it again, or {AGAIN}")
        if path.suffix == ".json":
            mapping(path, AGAIN, FolderError)
    for name in _unlisted(folder, {SUMS, *listed}):
        if name.endswith(READ):
            raise FolderError(f"{folder / name} is not listed in {SUMS}: move it away, or {AGAIN}")


def check_free(target: Path) -> None:
    """Raise FolderError unless `target` is free, or holds an older student and no other file."""
    way = "nothing was written; name another folder"
    for blocked in (target, *target.parents):
        if blocked.is_symlink() and not blocked.exists() and Path(os.path.realpath(blocked)) == blocked:
            raise FolderError(f"{blocked} is a link that leads nowhere: {way}")
        if blocked.exists() and not blocked.is_dir():
            raise FolderError(f"{blocked} is a file: {way}")
    if not target.exists() or not any(target.iterdir()):
        return
    try:
        own = mapping(target / INDEX, AGAIN).get("_class_name") == CLASS and {SUMS, *_listed(target)}
    except (OSError, ValueError):
        own = False
    if not own:
        raise FolderError(f"{target} exists and is no saved student: {way}")
    for name in _unlisted(target, own):
        why = f"holds {name}, which is no part of a saved student: nothing was written"
        raise FolderError(f"{target} {why}; move it away, or name another folder")


def write(target: Path, fill: Callable[[Path], None]) -> None:
    """Make `target` the folder that `fill(folder)` fills, with its checksums; raises as `check_free`.

    Where `target` is a link, the folder that it leads to is written. Whatever stops `fill` leaves `target` as
    it was. The older student is moved aside before the new one takes its place: a power cut between these two
    steps leaves it beside `target`, its name ending in .old.tmp.
    """
    asked, target = target, Path(os.path.realpath(target))
    check_free(target)
    fresh, old = (target.with_name(f".{target.name}.{os.getpid()}.{what}.tmp") for what in ("new", "old"))
    try:
        fresh.mkdir(parents=True)
        fill(fresh)
        list_files(fresh)
        if target.exists():
            target.rename(old)
        try:
            fresh.rename(target)
        except OSError:
            if old.exists():
                old.rename(target)
            raise
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        problem = f"{error.strerror or error}; nothing was written to"
        raise OSError(error.errno, problem, str(asked)) from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
