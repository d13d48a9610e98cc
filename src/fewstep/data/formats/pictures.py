"""Pictures that are decoded when they are looked at, in an array that holds none of them; folders of them."""

import re
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from io import BytesIO
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps

from .archives import Archive, content_of, files_below

SUFFIXES = (".jpg", ".jpeg", ".png")
UNBOUNDED = ("I", "F")  # Pillow's modes of 32 bits a pixel, whole numbers or not


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Call `work` with 0..count-1, by several threads; what the first in their order raises comes through."""
    with ThreadPoolExecutor() as threads:  # threads, since decoding lets go of the interpreter
        for _ in threads.map(work, range(count)):
            pass


def _in_eight_bits(image: Image.Image) -> Image.Image:
    """A picture of 16 bits a pixel in 8, which Pillow's own conversion cuts off at 255."""
    levels = np.asarray(image).astype(np.uint32)
    grey = Image.fromarray(((levels * 255 + 32767) // 65535).astype(np.uint8))
    if (clear := image.info.get("transparency")) is not None:
        grey.putalpha(Image.fromarray(np.where(levels == clear, 0, 255).astype(np.uint8)))
    return grey


def _as_seen(image: Image.Image) -> Image.Image:
    plain = image
    with suppress(Exception):  # damaged EXIF, which can fail in any way, says nothing of the orientation
        plain = ImageOps.exif_transpose(image)
    if plain.mode.startswith("I;16"):
        plain = _in_eight_bits(plain)
    if plain.has_transparency_data:
        plain = Image.alpha_composite(Image.new("RGBA", plain.size, "white"), plain.convert("RGBA"))
    return plain.convert("RGB")


def open_picture(content: bytes, published: tuple[int, int] | None = None) -> Image.Image:
    """The picture in `content` as it is to be seen, in RGB of 8 bits a channel.

    It is turned as its EXIF says, 16 bits are scaled to 8, and what is transparent shows white, as in a
    browser; a colour profile is not applied. Raises ValueError, "is ..." or "cannot be decoded (...)", for
    what is no whole picture and, where it was `published` in RGB of a size (width, height), for any other.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            image.load()
            mode, seen = image.mode, None if image.mode in UNBOUNDED else _as_seen(image)
    except Exception as error:  # a damaged picture can fail in any way
        raise ValueError(f"cannot be decoded ({type(error).__name__})") from None
    if seen is None:
        raise ValueError(f"is of mode {mode}, whose white is not known, and not of 8 or 16 bits a channel")
    if published and (mode != "RGB" or seen.size != published):
        raise ValueError(f"is {mode} of size {seen.size} instead of RGB of size {published}")
    return seen


def decoded(content: bytes, side: int) -> np.ndarray:
    """The centred square of the picture in `content`, `side` pixels wide and high: (3, side, side), uint8.

    Bicubic, and antialiased where it shrinks; one of that size is taken as it is. Raises as `open_picture`.
    """
    image = open_picture(content)
    shorter = min(image.size)
    left, top = ((length - shorter) / 2 for length in image.size)
    # pixels beyond the square take part at its edges, as if the whole were shrunk and then cut
    box = (left, top, left + shorter, top + shorter)
    square = image.resize((side, side), Image.Resampling.BICUBIC, box=box)
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


class Pictures:
    """An array (count, 3, side, side), uint8, whose pictures `decode(row)` makes whenever they are looked at.

    An index gives one picture; a slice or an array of indices gives Pictures, decoding nothing; np.asarray
    decodes all. What `decode` raises comes through.
    """

    ndim, dtype = 4, np.dtype(np.uint8)

    def __init__(self, decode: Callable[[int], np.ndarray], rows: np.ndarray, side: int):
        self.decode, self.rows, self.side = decode, rows, side
        self.shape = len(rows), 3, side, side
        # levels, and the bytes that it would take to hold them all
        self.size = self.nbytes = prod(self.shape)

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        chosen = self.rows[index]
        if chosen.ndim > 1:
            raise IndexError(f"pictures are chosen by an index each, not by an array of shape {chosen.shape}")
        return Pictures(self.decode, chosen, self.side) if chosen.ndim else self.decode(int(chosen))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError("pictures are decoded each time they are looked at: there is no array to share")
        out = np.empty(self.shape, np.uint8)

        def fill(k: int) -> None:
            out[k] = self.decode(int(self.rows[k]))

        in_threads(fill, len(out))
        return out if dtype is None else out.astype(dtype, copy=False)


@dataclass(frozen=True)
class ImageFolder:
    """`count` images in RGB of the size `published`, of which the centred square of `crop` pixels is shrunk.

    All raise FileNotFoundError when there is no image at all, and ArchiveError for another number of them.
    """

    archive: Archive
    count: int
    published: tuple[int, int]
    crop: int
    side: int

    def _paths(self, count: int) -> list[Path]:
        folder = self.archive.folder
        paths = files_below(folder, SUFFIXES)
        if not paths:
            raise self.archive.missing("a folder of images")
        if len(paths) != count:
            names = [path.relative_to(folder).as_posix() for path in paths]
            found = f"holds {len(paths):,} images instead of {count:,}, from {names[0]} to {names[-1]}"
            # by their names without numbers: what strayed in is rarely called as the others are
            kinds = [re.sub(r"\d+", "0", name) for name in names]
            (rarest, times) = Counter(kinds).most_common()[-1]
            odd = f", and only {times:,} named as {names[kinds.index(rarest)]} is"
            raise self.archive.damaged(folder, found + (odd if times < len(paths) else ""))
        return paths

    def check(self) -> None:
        """Raise where there is another number of images, or a rehearsal's; none is decoded."""
        self.archive.require_published()
        self._paths(self.count)

    def pixels(self) -> np.ndarray:
        """The images by name, (count, 3, side, side), uint8, memory-mapped; ArchiveError for a bad one."""
        count = self.archive.count("train", self.count)
        paths = self._paths(count)
        left, top = ((length - self.crop) // 2 for length in self.published)

        def fill(out: np.ndarray) -> None:
            def decode(k: int) -> None:
                content = content_of(paths[k], f"get {self.archive.source} again")
                try:
                    image = open_picture(content, self.published)
                except ValueError as error:
                    raise self.archive.damaged(paths[k], str(error)) from None
                square = image.crop((left, top, left + self.crop, top + self.crop))
                shrunk = square.resize((self.side, self.side), Image.Resampling.LANCZOS)
                out[k] = np.asarray(shrunk).transpose(2, 0, 1)

            in_threads(decode, count)

        return self.archive.cached(f"crop{self.crop}", paths, (count, 3, self.side, self.side), fill)
