"""CelebA-HQ at 256x256: the 27,000 training images of the published LMDB; half of what is drawn is mirrored.

The LMDB is the one that NVAE's instructions make: in the folder train.lmdb, the keys "0", "1", ... hold an
image each, (256, 256, 3) bytes.
"""

from collections.abc import Iterator
from contextlib import contextmanager

import lmdb
import numpy as np

from .formats.archives import Archive
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
def _opened(count: int) -> Iterator[lmdb.Transaction]:
    """The LMDB; raises ArchiveError, when it is read too, unless it is whole and holds `count` images."""
    path = ARCHIVE.present(FILE)
    try:
        with lmdb.open(str(path), subdir=False, readonly=True, lock=False) as database:
            there, last = path.stat().st_size, database.info()["last_pgno"]
            # at a page beyond the end of the file the process would be killed
            if there < (needed := (last + 1) * database.stat()["psize"]):
                raise ARCHIVE.damaged(path, f"is truncated ({there:,} of {needed:,} bytes)")
            if (held := database.stat()["entries"]) != count:
                raise ARCHIVE.damaged(path, f"holds {held:,} images instead of {count:,}")
            with database.begin(buffers=True) as images:
                yield images
    except lmdb.Error as error:
        raise ARCHIVE.damaged(path, f"is damaged, or no LMDB ({type(error).__name__})") from None


def pixels() -> np.ndarray:
    """The images by key, (27000, 3, 256, 256), uint8, memory-mapped.

    Raises FileNotFoundError where there is no LMDB, ArchiveError for one cut short or with other images.
    """
    path, count = ARCHIVE.present(FILE), ARCHIVE.count("train", COUNT)

    def fill(out: np.ndarray) -> None:
        with _opened(count) as images:
            for k in range(count):
                value = images.get(key(k), b"")
                if len(value) != BYTES:
                    found = f"holds {len(value):,} bytes under the key '{k}' instead of {BYTES:,}"
                    raise ARCHIVE.damaged(path, f"{found}, a raw RGB image of 256x256")
                levels = np.frombuffer(value, np.uint8).reshape(SIDE, SIDE, 3)
                # what a download has not filled yet is zero
                if not levels.any():
                    raise ARCHIVE.damaged(path, f"holds nothing but zeros under the key '{k}'")
                out[k] = levels.transpose(2, 0, 1)

    return ARCHIVE.cached("train", [path], (count, 3, SIDE, SIDE), fill)


def check() -> None:
    """Raise as `pixels` where the images are not the published ones, or a rehearsal's; none is decoded."""
    ARCHIVE.require_published()
    with _opened(COUNT):
        pass


SOURCE = Images("celebahq", (3, SIDE, SIDE), True, pixels)
