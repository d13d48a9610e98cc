"""What readers of published archives share: where files are, errors of damaged ones, decoded arrays kept.

A reader decodes once, into one .npy file. Nothing is unpickled, and no path in an archive is ever written to.
A rehearsal's tiny archives are read only where rehearsal.json beside them says what they are.
"""

import hashlib
import os
import re
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...storage import stand_in
from ...storage.workspace import find_root

# The folder that holds a folder for each data set, in the place of paper/data
ENVIRONMENT = "FEWSTEP_DATA"
# `md5sum *` of the files, where somebody has put it beside them
CHECKSUMS = "checksums.md5"
# what np.load and its arrays raise for a damaged npz file
NPZ_ERRORS = (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error)


class ArchiveError(RuntimeError):
    """A published file is damaged or not what it should be; the message names it and the cure."""


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


@dataclass(frozen=True)
class Archive:
    """The published files of a data set, below `folder`; `source` says what to get, and from where."""

    folder: Path
    source: str

    def count(self, part: str, published: int) -> int:
        """The number of images of `part`: the `published` one, or the one that a rehearsal's file gives."""
        tiny = stand_in.read(self.folder)
        return tiny.count(part) if tiny else published

    def missing(self, path: Path) -> FileNotFoundError:
        """The error that the file `path` is not there."""
        cure = f"get {self.source} and put it there, or set {ENVIRONMENT} to the folder that holds"
        return FileNotFoundError(f"{path.name} is not in {path.parent}: {cure} '{path.parent.name}'")

    def present(self, path: Path) -> Path:
        """`path`; raises FileNotFoundError as `missing` where there is no such file."""
        if not path.is_file():
            raise self.missing(path)
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

    def verify_listed(self, paths: Sequence[Path]) -> None:
        """Hold `paths` against checksums.md5 in the folder, if it is there; it must then list them all."""
        listing = self.folder / CHECKSUMS
        if not listing.is_file():
            return
        line = r"(?m)^([0-9a-f]{32}) [ *](?:\./)?(.+)$"
        listed = {name: md5 for md5, name in re.findall(line, listing.read_text(encoding="utf-8"))}
        for path in paths:
            name = path.relative_to(self.folder).as_posix()
            if name not in listed:
                cure = "write it again with `md5sum` in that folder, or delete it"
                raise ArchiveError(f"{listing} gives no md5 for {name}: {cure}")
            self.verify(path, listed[name])

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
        stamped = [*paths, *self.folder.glob(CHECKSUMS)]
        path = self.folder / f"fewstep-{part}.{self.digest(stamped, shape)}.npy"
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False)
            if found.shape == shape and found.dtype == np.uint8:
                return found
        except (OSError, ValueError, EOFError):
            pass  # absent, or damaged: it is made again
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
            with open(temporary, "r+b") as file:
                # a full disk is an error here, where writing to the map would kill the process
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
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
