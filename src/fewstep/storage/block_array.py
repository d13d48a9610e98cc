"""A large array that is filled on disk block after block, and resumed after the last complete one."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from .files import write_atomically


@dataclass(frozen=True, eq=False)
class BlockArray:
    """A float32 array in `path`; a small file beside it counts its complete blocks, `done` at its opening."""

    path: Path
    values: np.ndarray
    done: int

    @classmethod
    def open(cls, path: Path, shape: tuple[int, ...]) -> Self:
        """The array of `shape` in `path`; a new one unless a whole one of that shape is there."""
        counter = path.with_suffix(".blocks")
        try:
            done = int(counter.read_text(encoding="utf-8"))
            values = np.load(path, mmap_mode="r+", allow_pickle=False)
            if values.shape == shape and values.dtype == np.float32:
                return cls(path, values, done)
        except (OSError, ValueError, EOFError):
            pass  # absent or damaged: it is begun anew
        counter.unlink(missing_ok=True)
        values = np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
        # a full disk is an error here, where writing to the map would kill the process
        try:
            with path.open("r+b") as file:
                if hasattr(os, "posix_fallocate"):
                    os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            path.unlink(missing_ok=True)
            reason = f"{error.strerror}; there is no room for {values.nbytes:,} bytes in"
            raise OSError(error.errno, reason, str(path)) from error
        return cls(path, values, 0)

    def mark_done(self, blocks: int) -> None:
        """Record on disk that so many blocks are complete, after flushing them."""
        self.values.flush()
        write_atomically(self.path.with_suffix(".blocks"), str(blocks).encode())

    def finish(self, target: Path) -> None:
        """Move the complete array to `target`, replacing what is there."""
        os.replace(self.path, target)
        self.path.with_suffix(".blocks").unlink(missing_ok=True)
