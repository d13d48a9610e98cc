"""What readers of published archives share: finding and reading files, errors of damaged ones, arrays kept.

A reader decodes once, into one .npy file. Nothing is unpickled, and no path in an archive is ever written to.
A rehearsal's tiny archives are read only where rehearsal.json beside them says what they are.
"""

import hashlib
import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from ...storage import stand_in
from ...storage.workspace import find_root

ENVIRONMENT = "FEWSTEP_DATA"  # The folder that holds a folder for each data set, in the place of paper/data
MOST = 2**28  # bytes beyond which a file is not what it should be: a list, an annotation file or a picture


class ArchiveError(RuntimeError):
    """A file of data is damaged or not what it should be; the message names it and the cure."""


def folder_of(name: str) -> Path:
    """The folder of the data set `name`: $FEWSTEP_DATA/<name> where that is set, else paper/data/<name>."""
    chosen = os.environ.get(ENVIRONMENT)
    return (Path(chosen) if chosen else find_root() / "paper" / "data") / name


def raise_together(*checks: Callable[[], None]) -> None:
    """Do all `checks`; raise what one raised, and for several one ArchiveError that says what all did."""
    found: list[Exception] = []
    for check in checks:
        try:
            check()
        except (OSError, RuntimeError) as error:
            found.append(error)
    if found:
        raise found[0] if len(found) == 1 else ArchiveError("; and ".join(map(str, found)))


def no_file(path: Path) -> str:
    """What stands at `path` in a file's place, in words; "" for a file, and for nothing at all."""
    if path.is_dir():
        return "is a folder and no file"
    if path.exists():
        return "" if path.is_file() else "is a pipe, socket or device and no file"
    return "is a link to nothing" if path.is_symlink() else ""


def content_of(path: Path, cure: str) -> bytes:
    """The bytes of a file; raises ArchiveError with the `cure` for none, and for one of more than MOST."""
    try:
        if not (what := no_file(path)):  # looked at first: to open a pipe is to wait for a writer
            with open(path, "rb") as file:
                content = file.read(MOST + 1)
            if len(content) <= MOST:
                return content
            what = f"has {path.stat().st_size:,} bytes, and no such file has more than {MOST:,}"
    except OSError as error:
        what = f"cannot be read ({error.strerror})"
    raise ArchiveError(f"{path} {what}: {cure}")


def as_text(content: bytes) -> str:
    """A text in UTF-8 without its byte-order mark, lines ended by \\n; raises ValueError for no such text."""
    return content.decode("utf-8-sig").replace("\r\n", "\n")


def tidy(caption: str) -> str:
    """A caption on one line, single blanks between its words."""
    return " ".join(caption.split())


def text_of(path: Path, cure: str) -> str:
    """The text of a file; raises ArchiveError as `content_of`, and for one that is not in UTF-8."""
    try:
        return as_text(content_of(path, cure))
    except ValueError:
        raise ArchiveError(f"{path} is no text in UTF-8: {cure}") from None


def is_hidden(name: str | Path) -> bool:
    """Whether a path is, or lies in, what desktops and notebooks leave beside files: ._0.png, __MACOSX."""
    return any(part.startswith(".") or part == "__MACOSX" for part in Path(name).parts)


def files_below(folder: Path, suffixes: Collection[str]) -> list[Path]:
    """Files below `folder` that end so, by name, not hidden; ArchiveError for links and what is no file."""

    def fail(error: OSError) -> None:
        raise error

    found = []
    for place, folders, names in os.walk(folder, onerror=fail) if folder.is_dir() else ():
        folders[:] = [name for name in folders if not is_hidden(name)]
        if linked := [Path(place, name) for name in folders if Path(place, name).is_symlink()]:
            raise ArchiveError(f"{linked[0]} is a linked folder: link {folder} itself in its place")
        wanted = [name for name in names if Path(name).suffix.lower() in suffixes and not is_hidden(name)]
        found += [Path(place, name) for name in wanted]
    for path in found:
        if what := no_file(path):
            raise ArchiveError(f"{path} {what}: put the file there, or remove it")
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


@dataclass(frozen=True)
class Archive:
    """The published files of the data set `name`; `source` says what to get, and from where."""

    name: str
    source: str

    @property
    def folder(self) -> Path:
        return folder_of(self.name)

    def count(self, part: str, published: int) -> int:
        """The number of images of `part`: the `published` one, or the one that a rehearsal's file gives."""
        tiny = stand_in.read(self.folder)
        return tiny.count(part) if tiny else published

    def missing(self, what: str) -> FileNotFoundError:
        """The error that `what` is not there."""
        cure = f"get {self.source} and put it there, or set {ENVIRONMENT} to the folder that holds"
        return FileNotFoundError(f"{what} is not in {self.folder}: {cure} '{self.folder.name}'")

    def present(self, name: str | Path) -> Path:
        """The path of a file; raises FileNotFoundError as `missing`, and ArchiveError for what is no file."""
        path = self.folder / name
        if what := no_file(path):
            raise self.damaged(path, what)
        if not path.exists():
            raise self.missing(str(name))
        return path

    def damaged(self, path: Path, what: str) -> ArchiveError:
        """The error that `path` is `what`."""
        return ArchiveError(f"{path} {what}: {self._or_rehearsed(f'get {self.source} again')}")

    def _or_rehearsed(self, cure: str) -> str:
        """`cure`, unless what was expected came from a rehearsal's file."""
        says = "says what a rehearsal's tiny archives hold, delete it if these are the published ones"
        return f"{self.folder / stand_in.FILE} {says}" if stand_in.is_marked(self.folder) else cure

    def require_published(self) -> None:
        """Raise ArchiveError where the folder holds a rehearsal's archives."""
        if stand_in.is_marked(self.folder):
            found = f"holds a rehearsal's tiny archives ({stand_in.FILE} says so)"
            raise ArchiveError(f"{self.folder} {found}: put {self.source} in their place")

    def verify(self, path: Path, expected: str) -> None:
        """Raise ArchiveError unless `expected` is the MD5 of the file `path`."""
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
        if found != expected:
            cure = self._or_rehearsed("it is truncated or not the published file, download it again")
            size = path.stat().st_size
            raise ArchiveError(f"{path} ({size:,} bytes) has md5 {found} instead of {expected}: {cure}")

    def digest(self, paths: Sequence[Path], *others: object) -> str:
        """16 digits that change with the names, sizes and times of `paths`, and with `others`."""
        found = [(path.relative_to(self.folder).as_posix(), path.stat()) for path in paths]
        stamps = [*others, *((name, status.st_size, status.st_mtime_ns) for name, status in found)]
        return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]

    def cached(
        self, part: str, paths: Sequence[Path], shape: tuple[int, ...], fill: Callable[[np.ndarray], None]
    ) -> np.ndarray:
        """The uint8 array of `shape` that `fill` writes from the files `paths`, memory-mapped read-only.

        It is filled only if the folder does not hold it, under a name of `part` and a digest of the files.
        """
        path = self.folder / f"fewstep-{part}.{self.digest(paths, shape)}.npy"
        with suppress(OSError, ValueError, EOFError):  # absent, or damaged, it is made again
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.shape == shape and found.dtype == np.uint8:
                return found
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            try:
                array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
                # a full disk is an error here, where writing to the map would kill the process
                if hasattr(os, "posix_fallocate"):
                    with open(temporary, "r+b") as file:
                        os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            except OSError as error:
                problem = f"{error.strerror}; there is no place for the decoded images,"
                raise OSError(error.errno, f"{problem} {prod(shape):,} bytes in", str(path)) from None
            with open(temporary, "r+b") as file:
                fill(array)
                array.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        finally:
            temporary.unlink(missing_ok=True)
        for old in self.folder.glob(f"fewstep-{part}.*.npy"):
            if old != path:
                old.unlink(missing_ok=True)
        return np.load(path, mmap_mode="r", allow_pickle=False)
