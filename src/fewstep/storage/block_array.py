"""A large array that is filled on disk, block after block, and goes on from wherever an earlier run has stopped."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .files import write_atomically


@dataclass(frozen=True, eq=False)
class BlockArray:
    """An array of float32 in `path`, and the small file beside it that says how many of its blocks are whole."""

    path: Path
    values: np.ndarray
    done: int

    @classmethod
    def open(cls, path: Path, shape: tuple[int, ...]) -> BlockArray:
        """The array of `shape` that is being filled in `path`; a new one unless what lies there is whole and of that shape."""
        marker = path.with_suffix(".blocks")
        try:
            done = int(marker.read_text())
            values = np.load(path, mmap_mode="r+", allow_pickle=False)
            if values.shape == shape and values.dtype == np.float32:
                return cls(path, values, done)
        except (OSError, ValueError, EOFError):
            pass  # absent, or damaged: it is made again
        marker.unlink(missing_ok=True)
        values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        with path.open("r+b") as file:
            # a full disk is an error here, where writing to the map would kill the process (not every system can say)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        return cls(path, values, 0)

    def mark_done(self, blocks: int) -> None:
        """Say on disk that so many blocks are whole; what was written before is there first."""
        self.values.flush()
        write_atomically(self.path.with_suffix(".blocks"), str(blocks).encode())

    def finish(self, target: Path) -> None:
        """Move the whole array to `target`, in the place of whatever is there."""
        os.replace(self.path, target)
        self.path.with_suffix(".blocks").unlink(missing_ok=True)
