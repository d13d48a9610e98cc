"""Repositories of huggingface.co with published weights, found on this machine and never fetched."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from huggingface_hub import try_to_load_from_cache

from ...data.formats.archives import ENVIRONMENT, folder_of
from ...storage import stand_in

HUB = "https://huggingface.co"


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True)
class Repository:
    """The repository `name` (owner/name).

    kind     what it holds, in a word
    files    what is read of it
    weights  the file with the weights, one of them
    sha256   of the published weights, where that is on record
    """

    name: str
    kind: str
    files: tuple[str, ...]
    weights: str
    sha256: str | None = None

    def find(self) -> tuple[Path, str]:
        """Its folder, beside the data sets or in the hub's cache, and where that is in words.

        Raises FileNotFoundError, saying what to fetch and where to put it.
        """
        folder = folder_of(self.name.partition("/")[2])
        absent = [name for name in self.files if not (folder / name).is_file()]
        if not absent:
            return folder, f"the folder {folder.name} beside the data"
        cached = [try_to_load_from_cache(self.name, name) for name in self.files]
        if all(isinstance(path, str) for path in cached):
            snapshot = Path(cached[0].removesuffix(self.files[0]))
            return snapshot, f"the hub's cache, revision {snapshot.name}"
        raise FileNotFoundError(
            f"the {self.kind} {self.name} is not in {folder}: download {', '.join(absent)} from "
            f"{HUB}/{self.name} to that folder (fewstep never does), set {ENVIRONMENT} to the folder that "
            f"holds '{folder.name}', or fill the hub's cache with `hf download {self.name}`"
        )

    def title(self, folder: Path) -> str:
        """Its name, unless `folder` holds a rehearsal's stand-in."""
        return f"a rehearsal's stand-in for {self.name}" if stand_in.is_marked(folder) else self.name

    def verified(self, folder: Path, expected: str | None = None) -> str:
        """The checksum of the weights in `folder`; raises ValueError where it is not the expected one.

        That is the published one, where it is on record and this is no rehearsal, unless another is given.
        """
        path = folder / self.weights
        expected, found = expected or (None if stand_in.is_marked(folder) else self.sha256), checksum(path)
        if expected not in (None, found):
            cure = f"delete it and download it from {HUB}/{self.name} again"
            raise ValueError(f"{path} has SHA-256 {found} and not {expected}: it was not loaded; {cure}")
        return found

    def check(self, checksums: bool) -> None:
        """Raise as `find`, and ValueError for a rehearsal's or (with `checksums`) as `verified`."""
        folder, _ = self.find()
        if stand_in.is_marked(folder):
            found = f"holds a rehearsal's {self.kind} ({stand_in.FILE} says so)"
            raise ValueError(f"{folder} {found}: put {self.name} in its place")
        if checksums:
            self.verified(folder)
