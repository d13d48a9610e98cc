"""One noise, several numbers of steps: whether a method's images stay the same, to be seen at a glance."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from .images import BLOCK_GAP, DPI, GAP, TEXT, ColourPicture, data_strip
from .picture import Picture

INDENT = 8


def _order(column: str) -> int:
    return int(column.split()[-1])


def rows_of_faces(panels: Mapping[str, Mapping[str, np.ndarray]], title: str, count: int = 8) -> Picture:
    """One block a key with its name above; in it one row an inner key "N = ...", from few steps to many.

    Arrays (n, 1 or 3, height, width), floats in [-1, 1], all from the same noises in the same order: a column is the one
    noise, down to the bottom of the sheet. The first `count` are drawn. A method may lack some of the rows. The numbers are
    the quadrants of the first three images of each row, as in `grid`. Raises ValueError for arrays of another shape or type,
    or that are not finite, or nothing at all.
    """
    if count < 1 or not any(panels.values()):
        raise ValueError("a picture of faces shows one image at least")
    strips: dict[tuple[str, str], np.ndarray] = {}
    numbers = {}
    for label, rows in panels.items():
        for column in sorted(rows, key=_order):
            name = f"{label}, {column}"
            strip = data_strip(np.asarray(rows[column])[:count], name, across=count)
            numbers[name] = strip.numbers["images"]
            strips[label, column] = np.asarray(strip.figure.axes[0].images[0].get_array())
    return ColourPicture(_sheet(strips), numbers, title)


def _sheet(strips: Mapping[tuple[str, str], np.ndarray]) -> Figure:
    """Strips (height, width, 3), by block and row, one below another, one pixel for one; names above blocks, left of rows."""
    blocks = list(dict.fromkeys(label for label, _ in strips))
    width = max(strip.shape[1] for strip in strips.values())
    height = (
        sum(strip.shape[0] + GAP for strip in strips.values())
        + len(blocks) * (TEXT + BLOCK_GAP)
        - GAP
        - BLOCK_GAP
    )
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    top, above = 0, None
    for (label, column), strip in strips.items():
        if label != above:
            top += TEXT + (0 if above is None else BLOCK_GAP)
            figure.text(0, 1 - (top - 6) / height, label, ha="left", va="bottom", fontsize=11)
            above = label
        tall, wide = strip.shape[:2]
        # outside the figure, which grows to hold it when it is saved
        figure.text(
            -INDENT / width, 1 - (top + tall / 2) / height, column, ha="right", va="center", fontsize=9
        )
        axis = figure.add_axes(
            (0, 1 - (top + tall) / height, wide / width, tall / height), label=f"{label}, {column}"
        )
        axis.imshow(strip, interpolation="nearest", aspect="auto")
        axis.set_axis_off()
        top += tall + GAP
    return figure
