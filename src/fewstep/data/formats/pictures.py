"""Pictures that are decoded when they are looked at: an array that holds none of them."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
from PIL import Image


def in_threads(work: Callable[[int], None], count: int) -> None:
    """Call `work` with 0..count-1, by several threads; what the first in their order raises comes through."""
    # threads, since decoding lets go of the interpreter
    with ThreadPoolExecutor() as threads:
        for _ in threads.map(work, range(count)):
            pass


def decoded(content: bytes, side: int) -> np.ndarray:
    """The centred square of the picture in `content`, `side` pixels wide and high: (3, side, side), uint8.

    Bicubic, and antialiased where it shrinks; a picture of that size is taken as it is, and any other mode
    becomes RGB. Raises ValueError, saying what went wrong in a word, for what is no whole picture.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            shorter = min(image.size)
            left, top = ((length - shorter) / 2 for length in image.size)
            # pixels beyond the square take part at its edges, as if the whole were shrunk and then cut
            box = (left, top, left + shorter, top + shorter)
            square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box)
    except Exception as error:  # a damaged picture can fail in any way
        raise ValueError(type(error).__name__) from None
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
