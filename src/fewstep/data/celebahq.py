"""CelebA-HQ at 256x256: the 27,000 training images of the published LMDB; half of what is drawn is mirrored.

The LMDB is the one that NVAE's instructions make: in the folder train.lmdb, the keys "0", "1", ... hold an
image each, (256, 256, 3) bytes. It is read without LMDB's own library, which follows a damaged page to
addresses where the process dies.
"""

import struct
from collections.abc import Iterator
from contextlib import contextmanager
from typing import BinaryIO

import numpy as np

from .formats.archives import Archive
from .images import Images

COUNT, SIDE = 27_000, 256
FILE = "train.lmdb/data.mdb"
BYTES = SIDE * SIDE * 3
_MADE = "(the folder train.lmdb that NVAE's instructions make) from https://github.com/NVlabs/NVAE"
HOME = f"CelebA-HQ's 27,000 training images at 256x256 {_MADE}"
ARCHIVE = Archive("celebahq", HOME)
MAGIC, VERSION = 0xBEEFC0DE, 1
# a page: number, nothing, flags, and where its pointers end; what the first two hold after that
PAGE, START = struct.Struct("<QHHH"), 16
META = struct.Struct("<IIQQ I44x 6xH24xQQ QQ")
NODE = struct.Struct("<HHHH")
BRANCH, LEAF, LONG, ABOUT, KINDS = 1, 2, 4, 8, 15
ELSEWHERE = 1


class DamagedError(ValueError):
    """A file is no whole LMDB; the message says what is wrong, "is truncated (...)"."""


class Database:
    """The keys and values of an open LMDB; raises DamagedError, when it is read too, for what is none.

    The file is pages of one size. The first two say where the tree of keys begins, and the later one counts;
    its branches point to pages, its leaves hold keys and values, and a long value lies in pages of its own.
    """

    def __init__(self, file: BinaryIO):
        self.file, self.bytes = file, file.seek(0, 2)
        self.page_size = self._about(0)[0]
        if self.page_size not in (2**k for k in range(9, 17)):
            raise DamagedError(f"is no LMDB (pages of {self.page_size:,} bytes)")
        newest = max((self._about(k * self.page_size) for k in (0, 1)), key=lambda about: about[-1])
        _, self.depth, self.entries, self.root, last, _ = newest
        if self.bytes < (needed := (last + 1) * self.page_size):
            raise DamagedError(f"is truncated ({self.bytes:,} of {needed:,} bytes)")

    def _about(self, start: int) -> tuple[int, ...]:
        content = self.read(start, START + META.size)
        magic, version, *_, size, depth, entries, root, last, written = META.unpack_from(content, START)
        if PAGE.unpack_from(content)[2] != ABOUT or (magic, version) != (MAGIC, VERSION):
            raise DamagedError(f"is truncated or no LMDB (nothing says so at byte {start:,})")
        return size, depth, entries, root, last, written

    def read(self, start: int, count: int) -> bytes:
        """The `count` bytes from `start`."""
        self.file.seek(min(start, self.bytes))
        if len(content := self.file.read(min(count, self.bytes))) != count:
            raise DamagedError(f"is truncated or no LMDB (nothing at byte {start + count:,})")
        return content

    def _nodes(self, number: int, kind: int) -> Iterator[tuple[int, int, bytes, int]]:
        """Number, flags and key of each node of a page, and the byte where its value begins."""
        start = number * self.page_size
        page = self.read(start, self.page_size)
        own, _, flags, end = PAGE.unpack_from(page)
        if own != number or flags & KINDS != kind:
            raise DamagedError(f"is damaged inside (page {number:,})")
        for pointer in struct.unpack_from(f"<{(end - START) // 2}H", page, START):
            low, high, flags, size = NODE.unpack_from(page, pointer)
            key = page[pointer + NODE.size : pointer + NODE.size + size]
            yield low | high << 16, flags, key, start + pointer + NODE.size + size

    def places(self) -> dict[bytes, tuple[int, int]]:
        """Where the value of each key begins in the file, and how many bytes it has."""
        found: dict[bytes, tuple[int, int]] = {}
        todo, met = [(self.root, self.depth)] if self.entries else [], set()
        try:
            while todo:
                number, above = todo.pop()
                if number in met:
                    raise DamagedError(f"is damaged inside (page {number:,} stands twice in its tree)")
                met.add(number)
                for low, flags, key, start in self._nodes(number, LEAF if above == 1 else BRANCH):
                    if above > 1:
                        todo.append((low | flags << 32, above - 1))
                    else:
                        found[key] = self._long(start, low) if flags & ELSEWHERE else start, low
        except struct.error as error:
            raise DamagedError(f"is damaged inside ({error})") from None
        return found

    def _long(self, pointer: int, count: int) -> int:
        """The byte where a value of so many bytes begins, on the page that is given at `pointer`."""
        (number,) = struct.unpack("<Q", self.read(pointer, 8))
        start = number * self.page_size
        own, _, flags, low, high = struct.unpack("<QHHHH", self.read(start, START))
        if own != number or flags & KINDS != LONG or START + count > (low | high << 16) * self.page_size:
            raise DamagedError(f"is damaged inside (page {number:,})")
        return start + START


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
    if not levels.any():  # what a download has not filled yet is zero
        raise DamagedError(f"holds nothing but zeros under the key '{k}'")
    return levels.transpose(2, 0, 1)


def pixels() -> np.ndarray:
    """The images by key, (27000, 3, 256, 256), uint8, memory-mapped; raises as `_opened`."""
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
