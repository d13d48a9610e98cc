"""CelebA-HQ at 256x256: the 27,000 training images of the published LMDB; half of what is drawn is mirrored.

The LMDB is the one that NVAE's instructions make: in the folder train.lmdb, the keys "0", "1", ... hold an
image each, (256, 256, 3) bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .formats.archives import Archive
from .formats.database import DamagedError, Database
from .images import Images

COUNT, SIDE = 27_000, 256
FILE = "train.lmdb/data.mdb"
BYTES = SIDE * SIDE * 3
HOME = (
    "CelebA-HQ's 27,000 training images at 256x256 (the folder train.lmdb that NVAE's instructions make) "
    "from https://github.com/NVlabs/NVAE"
)
ARCHIVE = Archive("celebahq", HOME)


def key(k: int) -> bytes:
    """The key of image `k` in the LMDB."""
    return str(k).encode()


@contextmanager
def _opened(count: int) -> Iterator[Database]:
    """The LMDB; raises ArchiveError, when it is read too, unless it is whole and holds `count` images."""
    path = ARCHIVE.present(FILE)
    try:
        with path.open("rb") as file:
            database = Database(file)
            if database.entries != count:
                raise DamagedError(f"holds {database.entries:,} images instead of {count:,}")
            yield database
    except DamagedError as error:
        raise ARCHIVE.damaged(path, str(error)) from None


def _image(database: Database, places: dict[bytes, tuple[int, int]], k: int) -> np.ndarray:
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


def pixels() -> np.ndarray:
    """The images by key, (27000, 3, 256, 256), uint8, memory-mapped.

    Raises FileNotFoundError where there is no LMDB, ArchiveError for one cut short or with other images.
    """
    path, count = ARCHIVE.present(FILE), ARCHIVE.count("train", COUNT)

    def fill(out: np.ndarray) -> None:
        with _opened(count) as database:
            places = database.places()
            for k in range(count):
                out[k] = _image(database, places, k)

    return ARCHIVE.cached("train", [path], (count, 3, SIDE, SIDE), fill)


def check() -> None:
    """Raise as `pixels` where the images are not the published ones, or a rehearsal's; none is decoded."""
    ARCHIVE.require_published()
    with _opened(COUNT):
        pass


SOURCE = Images("celebahq", (3, SIDE, SIDE), True, pixels)
