"""A figure that carries the numbers drawn in it, so that a test can compare pictures as numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from ...storage.files import write_atomically

INK = LinearSegmentedColormap.from_list("ink", ["#ffffff", "#c7d7ea", "#4a7fb5", "#163a5f"])
# The palette of Okabe and Ito, told apart by colour-blind readers too
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
STROKES = ("-", "--", ":")
STYLE = {
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": "#e6e6e6",
    "axes.axisbelow": True,
}


def strokes(count: int) -> list[dict[str, str]]:
    """A colour and a stroke for each of `count` lines, no two alike; raises ValueError for more than there are."""
    kinds = [{"color": colour, "ls": stroke} for stroke in STROKES for colour in COLOURS]
    if count > len(kinds):
        raise ValueError(
            f"a picture can tell {len(kinds)} lines apart, not {count}: draw fewer methods in it"
        )
    return kinds[:count]


@dataclass(frozen=True)
class Picture:
    """A figure and the numbers drawn in it (JSON-able); Jupyter shows the first and keeps the second."""

    figure: Figure
    numbers: Mapping[str, Any]
    title: str

    def png(self) -> bytes:
        """The figure as PNG in 128 colours: a third of the bytes, and no difference to the eye."""
        raw, file = io.BytesIO(), io.BytesIO()
        # no Software entry: the file must not change with matplotlib's version alone
        self.figure.savefig(raw, format="png", dpi=100, bbox_inches="tight", metadata={"Software": None})
        Image.open(raw).convert("RGB").quantize(128).save(file, format="png", optimize=True)
        return file.getvalue()

    def save(self, path: Path) -> None:
        write_atomically(path, self.png())

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        text = f"Picture: {self.title}"
        return {
            "image/png": self.png(),
            "text/plain": text,
            "application/json": json.loads(json.dumps(self.numbers)),
        }
