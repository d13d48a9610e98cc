"""What readers of published archives share: where files are, errors of damaged ones, decoded arrays kept.

A reader decodes once and writes one .npy file beside what it read, whose name carries a digest of the files'
names, sizes and times: files that changed are read again. Nothing is unpickled, and no path in an archive is
ever written to. A rehearsal's tiny archives are read only where rehearsal.json beside them says what they
are.
"""

from __future__ import annotations

import hashlib
import os
import re
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


class ArchiveError(RuntimeError):
    """A published file is damaged or not what it should be; the message names it and the cure."""


def folder_of(name: str) -> Path:
    """The folder of the data set `name`: $FEWSTEP_DATA/<name> where that is set, else paper/data/<name>."""
    chosen = os.environ.get(ENVIRONMENT)
    return (Path(chosen) if chosen else find_root() / "paper" / "data") / name


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
        parent = path.parent
        return FileNotFoundError(
            f"{path.name} is not in {parent}: get {self.source} and put it there, "
            f"or set {ENVIRONMENT} to the folder that holds '{parent.name}'"
        )

    def damaged(self, path: Path, what: str) -> ArchiveError:
        """The error that `path` is `what`."""
        return ArchiveError(f"{path} {what}: {self._or_rehearsed(f'get {self.source} again')}")

    def _or_rehearsed(self, cure: str) -> str:
        """`cure`, unless what was expected came from a rehearsal's file."""
        if not stand_in.is_marked(self.folder):
            return cure
        mark = self.folder / stand_in.FILE
        return f"{mark} says what a rehearsal's tiny archives hold, delete it if these are the published ones"

    def require_published(self) -> None:
        """Raise ArchiveError where the folder holds a rehearsal's archives."""
        if stand_in.is_marked(self.folder):
            raise ArchiveError(
                f"{self.folder} holds a rehearsal's tiny archives ({stand_in.FILE} says so): "
                f"put {self.source} in their place"
            )

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
        lines = re.findall(r"(?m)^([0-9a-f]{32}) [ *](?:\./)?(.+)$", listing.read_text(encoding="utf-8"))
        listed = {name: md5 for md5, name in lines}
        for path in paths:
            name = path.relative_to(self.folder).as_posix()
            if name not in listed:
                cure = "write it again with `md5sum` in that folder, or delete it"
                raise ArchiveError(f"{listing} gives no md5 for {name}: {cure}")
            self.verify(path, listed[name])

    def digest(self, paths: Sequence[Path], *others: object) -> str:
        """16 digits that change with the names, sizes and times of `paths`, and with `others`."""
        stamps: list = list(others)
        for path in paths:
            status = path.stat()
            stamps.append((path.relative_to(self.folder).as_posix(), status.st_size, status.st_mtime_ns))
        return hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]

    def cached(
        self, part: str, paths: Sequence[Path], shape: tuple[int, ...], fill: Callable[[np.ndarray], None]
    ) -> np.ndarray:
        """The uint8 array of `shape` that `fill` writes from the files `paths`, memory-mapped read-only.

        It is filled only if the folder does not hold it. `part` names it, and all that decides how it is made
        besides the files.
        """
        listing = self.folder / CHECKSUMS
        stamped = [*paths, *([listing] if listing.is_file() else [])]
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
