"""CelebA-HQ at 256x256: the 27,000 training images of the published LMDB, or of a folder of images.

The LMDB is the one that NVAE's instructions make, which LSGM and Latent Flow Matching read as well: a folder
train.lmdb, whose keys "0", "1", ... hold 256*256*3 bytes each, row by row, the three colours of a pixel together.
Half of what is drawn is mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from ..storage import stand_in
from .formats.archives import (
    ArchiveError,
    _damaged,
    _kept,
    _missing,
    _verify_listed,
    check_folder,
    folder_of,
    read_folder,
    require_published,
)
from .images import ImagesOnFirstUse

if TYPE_CHECKING:
    import lmdb

COUNT, SIDE = 27_000, 256
DATABASE, FILE = "train.lmdb", "data.mdb"
BYTES = SIDE * SIDE * 3
HOME = "CelebA-HQ's 27,000 training images at 256x256 (the folder train.lmdb that NVAE's instructions make) from https://github.com/NVlabs/NVAE"


def key(k: int) -> bytes:
    """Under which image `k` stands in the LMDB."""
    return str(k).encode()


def _database(folder: Path) -> Path | None:
    """The LMDB's data file anywhere below `folder`, or None where there is no folder train.lmdb; raises FileNotFoundError for one that lacks it."""
    for found in sorted(folder.rglob(DATABASE)):
        if not (found / FILE).is_file():
            raise _missing(found / FILE, HOME)
        return found / FILE
    return None


def _package(path: Path) -> ModuleType:
    """The package lmdb, which only this data set needs; raises ArchiveError, naming what it is to read, where it is not installed."""
    try:
        import lmdb
    except ImportError:
        raise ArchiveError(
            f"{path} can be read only with the package lmdb, which is missing: install the pinned packages of pyproject.toml"
        ) from None
    return lmdb


@contextmanager
def _opened(path: Path, count: int) -> Iterator[lmdb.Environment]:
    """The LMDB in the file `path`; raises ArchiveError where it is none, ends early or does not hold `count` values."""
    lmdb = _package(path)
    try:
        database = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise _damaged(path, f"is truncated or no LMDB ({type(error).__name__})", HOME) from None
    try:
        # it is read through a memory map: past the end of a file cut short, the process would be killed
        statistics, found = database.stat(), path.stat().st_size
        needed = (database.info()["last_pgno"] + 1) * statistics["psize"]
        if found < needed:
            raise _damaged(path, f"is truncated ({found:,} of {needed:,} bytes)", HOME)
        if statistics["entries"] != count:
            raise _damaged(path, f"holds {statistics['entries']:,} images instead of {count:,}", HOME)
        yield database
    finally:
        database.close()


def read_lmdb(folder: Path, path: Path, count: int = COUNT) -> np.ndarray:
    """The images of the LMDB's data file `path`, below `folder`, in the order of their keys: (count, 3, 256, 256), uint8, memory-mapped.

    Raises ArchiveError for one cut short, another number of images, a missing key, or a value that is no raw image of
    256x256. The file is held against checksums.md5 if that lies in `folder`.
    """

    def fill(out: np.ndarray) -> None:
        _verify_listed(folder, [path])
        with _opened(path, count) as database:
            try:
                with database.begin(buffers=True) as transaction:
                    for k in range(count):
                        value = transaction.get(key(k))
                        if value is None:
                            raise _damaged(path, f"lacks the key '{k}'", HOME)
                        if len(value) != BYTES:
                            raise _damaged(
                                path,
                                f"holds {len(value):,} bytes under the key '{k}' instead of {BYTES:,}, a raw RGB image of 256x256",
                                HOME,
                            )
                        levels = np.frombuffer(value, np.uint8).reshape(SIDE, SIDE, 3)
                        # what a download has not filled yet is zero
                        if not levels.any():
                            raise _damaged(path, f"holds nothing but zeros under the key '{k}'", HOME)
                        out[k] = levels.transpose(2, 0, 1)
            except _package(path).Error as error:
                raise _damaged(path, f"is damaged inside ({type(error).__name__})", HOME) from None

    return _kept(folder, "train", [path], (count, 3, SIDE, SIDE), fill)


def pixels() -> np.ndarray:
    """The images, (27000, 3, 256, 256), uint8, memory-mapped; raises as `read_lmdb`, or as `read_folder` where there is no train.lmdb."""
    folder = folder_of("celebahq")
    tiny = stand_in.read(folder)
    count, database = tiny.count("train") if tiny else COUNT, _database(folder)
    if database:
        return read_lmdb(folder, database, count)
    return read_folder(folder, SIDE, SIDE, count=count, published=(SIDE, SIDE), source=HOME)


def check(checksums: bool = True) -> None:
    """Raise as `pixels` where the images are not the published ones; none is decoded, and a rehearsal's are refused."""
    folder = folder_of("celebahq")
    require_published(folder, HOME)
    database = _database(folder)
    if not database:
        return check_folder(folder, checksums, count=COUNT, source=HOME)
    if checksums:
        _verify_listed(folder, [database])
    with _opened(database, COUNT):
        pass


SOURCE = ImagesOnFirstUse("celebahq", (3, SIDE, SIDE), True, pixels)
