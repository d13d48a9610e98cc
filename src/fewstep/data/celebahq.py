"""CelebA-HQ at 256x256: the 27,000 training images of the published LMDB, or of a folder of images.

The LMDB is the one that NVAE's instructions make, which LSGM and Latent Flow Matching read as well: a folder
train.lmdb, whose keys "0", "1", ... hold 256*256*3 bytes each, row by row, the three colours of a pixel
together. Half of what is drawn is mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np

from .formats.archives import Archive, ArchiveError, folder_of
from .formats.image_folder import check_folder, read_folder
from .images import ImagesOnFirstUse

if TYPE_CHECKING:
    import lmdb

COUNT, SIDE = 27_000, 256
DATABASE, FILE = "train.lmdb", "data.mdb"
BYTES = SIDE * SIDE * 3
HOME = (
    "CelebA-HQ's 27,000 training images at 256x256 (the folder train.lmdb that NVAE's instructions make) "
    "from https://github.com/NVlabs/NVAE"
)


def key(k: int) -> bytes:
    """Under which image `k` stands in the LMDB."""
    return str(k).encode()


def _archive() -> Archive:
    return Archive(folder_of("celebahq"), HOME)


def _database(archive: Archive) -> Path | None:
    """The LMDB's data file anywhere below the folder, None where there is no folder train.lmdb.

    Raises FileNotFoundError for one without the file.
    """
    for found in sorted(archive.folder.rglob(DATABASE)):
        if not (found / FILE).is_file():
            raise archive.missing(found / FILE)
        return found / FILE
    return None


def _lmdb(path: Path) -> ModuleType:
    """The package lmdb, which only this data set needs; raises ArchiveError where it is not installed."""
    try:
        import lmdb
    except ImportError:
        cure = "install the pinned packages of pyproject.toml"
        raise ArchiveError(
            f"{path} can be read only with the package lmdb, which is missing: {cure}"
        ) from None
    return lmdb


@contextmanager
def _opened(archive: Archive, path: Path, count: int) -> Iterator[lmdb.Environment]:
    """The LMDB in the file `path`; raises ArchiveError unless it is whole and holds `count` values."""
    lmdb = _lmdb(path)
    try:
        database = lmdb.open(str(path), subdir=False, readonly=True, lock=False, readahead=False)
    except lmdb.Error as error:
        raise archive.damaged(path, f"is truncated or no LMDB ({type(error).__name__})") from None
    try:
        # it is read through a memory map: past the end of a file cut short, the process would be killed
        statistics, found = database.stat(), path.stat().st_size
        needed = (database.info()["last_pgno"] + 1) * statistics["psize"]
        if found < needed:
            raise archive.damaged(path, f"is truncated ({found:,} of {needed:,} bytes)")
        if statistics["entries"] != count:
            raise archive.damaged(path, f"holds {statistics['entries']:,} images instead of {count:,}")
        yield database
    finally:
        database.close()


def _image(archive: Archive, path: Path, k: int, value: memoryview | None) -> np.ndarray:
    """Image `k`, (256, 256, 3), from its `value` in the LMDB; raises ArchiveError where it is none."""
    if value is None:
        raise archive.damaged(path, f"lacks the key '{k}'")
    if len(value) != BYTES:
        found = (
            f"holds {len(value):,} bytes under the key '{k}' instead of {BYTES:,}, a raw RGB image of 256x256"
        )
        raise archive.damaged(path, found)
    levels = np.frombuffer(value, np.uint8).reshape(SIDE, SIDE, 3)
    # what a download has not filled yet is zero
    if not levels.any():
        raise archive.damaged(path, f"holds nothing but zeros under the key '{k}'")
    return levels


def read_lmdb(archive: Archive, path: Path, count: int) -> np.ndarray:
    """The images of the LMDB's data file `path`, by key, (count, 3, 256, 256), uint8, memory-mapped.

    Raises ArchiveError for one cut short, another number of images, a missing key, or a value that is no raw
    image of 256x256. The file is held against checksums.md5 if that lies in the archive's folder.
    """

    def fill(out: np.ndarray) -> None:
        archive.verify_listed([path])
        with _opened(archive, path, count) as database:
            try:
                with database.begin(buffers=True) as transaction:
                    for k in range(count):
                        out[k] = _image(archive, path, k, transaction.get(key(k))).transpose(2, 0, 1)
            except _lmdb(path).Error as error:
                raise archive.damaged(path, f"is damaged inside ({type(error).__name__})") from None

    return archive.cached("train", [path], (count, 3, SIDE, SIDE), fill)


def pixels() -> np.ndarray:
    """The images, (27000, 3, 256, 256), uint8, memory-mapped; raises as `read_lmdb` or `read_folder`."""
    archive = _archive()
    count, database = archive.count("train", COUNT), _database(archive)
    if database:
        return read_lmdb(archive, database, count)
    return read_folder(archive, SIDE, SIDE, count=count, published=(SIDE, SIDE))


def check(checksums: bool = True) -> None:
    """Raise as `pixels` where the images are not the published ones, or a rehearsal's; none is decoded."""
    archive = _archive()
    archive.require_published()
    database = _database(archive)
    if not database:
        return check_folder(archive, checksums, COUNT)
    if checksums:
        archive.verify_listed([database])
    with _opened(archive, database, COUNT):
        pass


SOURCE = ImagesOnFirstUse("celebahq", (3, SIDE, SIDE), True, pixels)
