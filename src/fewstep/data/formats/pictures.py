"""Pictures that are decoded when they are looked at: an array that holds none of them."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from math import prod
from typing import Any

import numpy as np
from PIL import Image


def decoded(content: bytes, side: int) -> np.ndarray:
    """The centred square of the picture in `content`, `side` pixels wide and high: (3, side, side), uint8.

    Bicubic, and antialiased where it shrinks; a picture of that size is taken as it is, and any other mode
    becomes RGB. Raises ValueError, saying what went wrong in a word, for what is no whole picture.
    """
    try:
        with Image.open(BytesIO(content)) as image:
            shorter = min(image.size)
            left, top = ((length - shorter) / 2 for length in image.size)
            # the pixels beyond the square take part at its edges, as where the whole picture is shrunk and
            # then cut
            box = (left, top, left + shorter, top + shorter)
            square = image.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box)
    except Exception as error:  # a damaged picture can fail in any way
        raise ValueError(type(error).__name__) from None
    return np.ascontiguousarray(np.asarray(square).transpose(2, 0, 1))


class Pictures:
    """An array (count, 3, side, side), uint8, whose pictures `decode(row)` makes whenever they are looked at.

    An index gives one picture; a slice, or an array of indices, gives Pictures of those, and decodes nothing;
    np.asarray decodes all of them, by several threads. What `decode` raises comes through.
    """

    ndim, dtype = 4, np.dtype(np.uint8)

    def __init__(self, decode: Callable[[int], np.ndarray], rows: np.ndarray, side: int):
        self.decode, self.rows, self.side = decode, rows, side

    @property
    def shape(self) -> tuple[int, int, int, int]:
        return len(self.rows), 3, self.side, self.side

    @property
    def size(self) -> int:
        """The number of levels."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """The bytes that it would take to hold all of them."""
        return self.size

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        chosen = self.rows[index]
        if chosen.ndim > 1:
            raise IndexError(f"pictures are chosen by an index each, not by an array of shape {chosen.shape}")
        return Pictures(self.decode, chosen, self.side) if chosen.ndim else self.decode(int(chosen))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        if copy is False:
            raise ValueError(
                "pictures are decoded anew each time they are looked at: there is no array to share"
            )
        out = np.empty(self.shape, np.uint8)

        def fill(k: int) -> None:
            out[k] = self.decode(int(self.rows[k]))

        # threads, because decoding lets go of the interpreter; map stops at the first picture that fails, in
        # their order
        with ThreadPoolExecutor() as threads:
            for _ in threads.map(fill, range(len(out))):
                pass
        return out if dtype is None else out.astype(dtype, copy=False)
