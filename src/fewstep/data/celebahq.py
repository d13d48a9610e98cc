"""CelebA-HQ at 256x256: the 27,000 training images of the published LMDB, or of a folder of images.

The LMDB is the one that NVAE's instructions make: in the folder train.lmdb, the keys "0", "1", ... hold an
image each, (256, 256, 3) bytes. Half of what is drawn is mirrored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .formats.archives import Archive, ArchiveError, folder_of
from .formats.image_folder import check_folder, read_folder
from .images import Images

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
    """The key of image `k` in the LMDB."""
    return str(k).encode()


def _found() -> tuple[Archive, Path | None]:
    """The data set's folder, and the LMDB's file anywhere below it, None where there is no train.lmdb."""
    archive = Archive(folder_of("celebahq"), HOME)
    folder = min(archive.folder.rglob(DATABASE), default=None)
    return archive, archive.present(folder / FILE) if folder else None


@contextmanager
def _opened(archive: Archive, path: Path, count: int) -> Iterator["lmdb.Environment"]:
    """The LMDB in the file `path`; raises ArchiveError unless it is whole and holds `count` values."""
    try:
        import lmdb
    except ImportError:
        found = f"{path} can be read only with the package lmdb, which is missing"
        raise ArchiveError(f"{found}: install the pinned packages of pyproject.toml") from None
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
    except lmdb.Error as error:
        raise archive.damaged(path, f"is damaged inside ({type(error).__name__})") from None
    finally:
        database.close()


def _image(archive: Archive, path: Path, k: int, value: memoryview | None) -> np.ndarray:
    """Image `k`, (256, 256, 3), from its `value`; raises ArchiveError where it is none."""
    if value is None:
        raise archive.damaged(path, f"lacks the key '{k}'")
    if len(value) != BYTES:
        wanted = f"{BYTES:,}, a raw RGB image of 256x256"
        raise archive.damaged(path, f"holds {len(value):,} bytes under the key '{k}' instead of {wanted}")
    levels = np.frombuffer(value, np.uint8).reshape(SIDE, SIDE, 3)
    # what a download has not filled yet is zero
    if not levels.any():
        raise archive.damaged(path, f"holds nothing but zeros under the key '{k}'")
    return levels


def read_lmdb(archive: Archive, path: Path, count: int) -> np.ndarray:
    """The images of the LMDB's data file `path`, by key, (count, 3, 256, 256), uint8, memory-mapped.

    Raises ArchiveError for one cut short, with other images, or another file than that in checksums.md5.
    """

    def fill(out: np.ndarray) -> None:
        archive.verify_listed([path])
        with _opened(archive, path, count) as database, database.begin(buffers=True) as transaction:
            for k in range(count):
                out[k] = _image(archive, path, k, transaction.get(key(k))).transpose(2, 0, 1)

    return archive.cached("train", [path], (count, 3, SIDE, SIDE), fill)


def pixels() -> np.ndarray:
    """The images, (27000, 3, 256, 256), uint8, memory-mapped; raises as `read_lmdb` or `read_folder`."""
    archive, database = _found()
    if database:
        return read_lmdb(archive, database, archive.count("train", COUNT))
    return read_folder(archive, SIDE, SIDE, count=COUNT, published=(SIDE, SIDE))


def check(checksums: bool = True) -> None:
    """Raise as `pixels` where the images are not the published ones, or a rehearsal's; none is decoded."""
    archive, database = _found()
    archive.require_published()
    if not database:
        return check_folder(archive, checksums, COUNT)
    if checksums:
        archive.verify_listed([database])
    with _opened(archive, database, COUNT):
        pass


SOURCE = Images("celebahq", (3, SIDE, SIDE), True, pixels)
