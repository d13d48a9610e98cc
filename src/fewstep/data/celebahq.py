"""CelebA-HQ at 256x256: the 27,000 training images of the published LMDB, or of a folder of images.

The LMDB is the one that NVAE's instructions make: in the folder train.lmdb, the keys "0", "1", ... hold an
image each, (256, 256, 3) bytes. Half of what is drawn is mirrored.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from .formats.archives import Archive, folder_of, is_hidden
from .formats.database import DamagedError, Database
from .formats.image_folder import check_folder, read_folder
from .images import Images

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
    found = archive.folder.rglob(DATABASE)
    folder = min((path for path in found if not is_hidden(path.relative_to(archive.folder))), default=None)
    return archive, archive.present(folder / FILE) if folder else None


@contextmanager
def _opened(archive: Archive, path: Path, count: int) -> Iterator[Database]:
    """The LMDB in `path`; raises ArchiveError, when it is read too, unless it is whole and holds `count`."""
    try:
        with open(path, "rb") as file:
            database = Database(file)
            if database.entries != count:
                raise DamagedError(f"holds {database.entries:,} images instead of {count:,}")
            yield database
    except DamagedError as error:
        raise archive.damaged(path, str(error)) from None


def read_lmdb(archive: Archive, path: Path, count: int) -> np.ndarray:
    """The images of the LMDB's data file `path`, by key, (count, 3, 256, 256), uint8, memory-mapped.

    Raises ArchiveError for one cut short, with other images, or another file than that in checksums.md5.
    """

    def image(database: Database, places: dict[bytes, tuple[int, int]], k: int) -> np.ndarray:
        if key(k) not in places:
            raise DamagedError(f"lacks the key '{k}'")
        start, size = places[key(k)]
        if size != BYTES:
            wanted = f"{BYTES:,}, a raw RGB image of 256x256"
            raise DamagedError(f"holds {size:,} bytes under the key '{k}' instead of {wanted}")
        levels = np.frombuffer(database.read(start, size), np.uint8).reshape(SIDE, SIDE, 3)
        # what a download has not filled yet is zero
        if not levels.any():
            raise DamagedError(f"holds nothing but zeros under the key '{k}'")
        return levels.transpose(2, 0, 1)

    def fill(out: np.ndarray) -> None:
        archive.verify_listed([path])
        with _opened(archive, path, count) as database:
            places = database.places()
            for k in range(count):
                out[k] = image(database, places, k)

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
