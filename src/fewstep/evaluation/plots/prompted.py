"""Captions and what methods make of them: a row a caption, a block of columns a method, from few steps to many."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from textwrap import fill

import numpy as np
from matplotlib.figure import Figure

from .images import BLOCK_GAP, DPI, GAP, TEXT, ColourPicture, data_strip, reduced
from .picture import Picture

# little pictures are enlarged to at least this side, whole pixels by whole pixels
SIDE = 64
# the width of the captions, in pixels and in letters
CAPTION, LETTERS = 250, 38


def rows_of_captions(
    panels: Mapping[str, Mapping[str, np.ndarray]], captions: Sequence[str], title: str
) -> Picture:
    """One row a caption; of each key of `panels` one block of columns, an inner key "N = ..." a column.

    Arrays (n, 1 or 3, height, width), floats in [-1, 1], image k of the k-th caption, all from the same noises: along a row
    only method and steps change. The numbers are the quadrants of the first three images of each column, as in `grid`.
    Raises ValueError for fewer images than captions, or nothing at all.
    """
    if not captions or not any(panels.values()):
        raise ValueError("a picture of captions shows one caption and one method at least")
    columns: dict[tuple[str, str], np.ndarray] = {}
    numbers = {}
    for label, own in panels.items():
        for column, images in own.items():
            if len(images) < len(captions):
                raise ValueError(
                    f"{label}, {column}: there are {len(images)} images for {len(captions)} captions"
                )
            strip = data_strip(np.asarray(images)[: len(captions)], f"{label}, {column}", across=1)
            numbers[f"{label}, {column}"] = strip.numbers["images"]
            columns[label, column] = np.asarray(images)[: len(captions)]
    return ColourPicture(_sheet(columns, captions), numbers, title)


def _enlarged(image: np.ndarray) -> np.ndarray:
    """An image (channels, height, width) in [-1, 1] as (height, width, 3) in [0, 1], enlarged, or reduced, by whole pixels."""
    image = reduced(image[None])[0]
    by = max(-(-SIDE // image.shape[1]), 1)
    shown = ((image.clip(-1, 1) + 1) / 2).repeat(by, 1).repeat(by, 2).transpose(1, 2, 0)
    return shown.repeat(3, 2) if shown.shape[2] == 1 else shown


def _sheet(columns: Mapping[tuple[str, str], np.ndarray], captions: Sequence[str]) -> Figure:
    side = _enlarged(next(iter(columns.values()))[0]).shape[0]
    lefts, left, before = {}, CAPTION, None
    for label, column in columns:
        left += 0 if before is None else GAP if label == before else BLOCK_GAP
        lefts[label, column], before = left, label
        left += side
    head, width, height = 2 * TEXT, left, 2 * TEXT + len(captions) * (side + GAP) - GAP
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    named: set[str] = set()
    for (label, column), at in lefts.items():
        if label not in named:
            figure.text(at / width, 1 - (TEXT - 8) / height, label, ha="left", va="bottom", fontsize=10)
            named.add(label)
        figure.text(
            (at + side / 2) / width, 1 - (head - 6) / height, column, ha="center", va="bottom", fontsize=8
        )
    for k, caption in enumerate(captions):
        top = head + k * (side + GAP)
        figure.text(
            0, 1 - (top + side / 2) / height, fill(caption, LETTERS), ha="left", va="center", fontsize=8
        )
        for key, at in lefts.items():
            axis = figure.add_axes(
                (at / width, 1 - (top + side) / height, side / width, side / height), label=f"{key}, {k}"
            )
            axis.imshow(_enlarged(columns[key][k]), interpolation="nearest", aspect="auto")
            axis.set_axis_off()
    return figure
