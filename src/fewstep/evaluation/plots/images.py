"""Pictures of images: grids by method and number of steps, interpolations, data, quality against cost."""

from __future__ import annotations

import io
from collections.abc import Mapping
from math import ceil, sqrt

import numpy as np
import pandas as pd
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator
from PIL import Image

from .picture import STYLE, Picture, strokes

# the lowest level is not quite white, so that a tile can be told from the gap beside it
GREY = LinearSegmentedColormap.from_list("grey", ["#e9eef4", "#b4c5d9", "#4f7294", "#10263c"])
# Lengths in pixels of a picture at DPI: gaps between tiles and between blocks of tiles, room for text
DPI, GAP, BLOCK_GAP, TEXT = 100, 3, 14, 22
# A sheet is about this wide, with tiles neither too small to read nor enlarged beyond what an image deserves; an image that is
# larger than SIDE itself is reduced to it, or a sheet of many would be a hundred megapixels
WIDTH, SMALLEST, LARGEST, SIDE = 1000, 40, 64, 128


class ColourPicture(Picture):
    """A picture of images: a palette of its own colours, twice as many as a drawing needs, or white sky turns lavender."""

    def png(self) -> bytes:
        raw, file = io.BytesIO(), io.BytesIO()
        self.figure.savefig(raw, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        Image.open(raw).convert("RGB").quantize(256, kmeans=1).save(file, format="png", optimize=True)
        return file.getvalue()


def _checked(images: np.ndarray, name: str) -> np.ndarray:
    """Images (n, channels, height, width), clipped to [-1, 1]; raises ValueError for anything else, naming whose they are."""
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        raise ValueError(
            f"{name}: images have shape (count, 1 or 3, height, width) with one at least, not {images.shape}"
        )
    if images.dtype.kind != "f":
        raise ValueError(f"{name}: images are floats in [-1, 1], not {images.dtype}")
    bad = ~np.isfinite(images).all((1, 2, 3))
    if bad.any():
        raise ValueError(f"{name}: {bad.sum()} of {len(images)} images are not finite and cannot be drawn")
    return images.clip(-1, 1)


def _quadrants(images: np.ndarray) -> list[float]:
    """Means of the quadrants (upper left, upper right, lower left, lower right) of the first three images, one after another."""
    means = [
        part.mean()
        for image in images[:3]
        for half in np.array_split(image, 2, axis=1)
        for part in np.array_split(half, 2, axis=2)
    ]
    return [round(float(mean), 2) for mean in means]


def _across(count: int) -> int:
    """How many tiles a row so that `count` fill a block wider than high."""
    return next(n for n in range(ceil(sqrt(count)), count + 1) if count % n == 0)


def _scale(images: np.ndarray, tiles: int) -> int:
    """Pixels on the sheet for one of an image, a whole number, where `tiles` stand side by side."""
    side = max(images.shape[2:])
    return max(round(min(WIDTH / tiles, LARGEST) / side), ceil(SMALLEST / side))


def reduced(images: np.ndarray) -> np.ndarray:
    """Images (count, channels, height, width) of at most SIDE pixels a side, by the means of whole squares of pixels, as far as squares divide them."""
    count, channels, height, width = images.shape
    by = max(-(-max(height, width) // SIDE), 1)
    while height % by or width % by:
        by -= 1
    return (
        images.reshape(count, channels, height // by, by, width // by, by).mean((3, 5)) if by > 1 else images
    )


def _tile(images: np.ndarray, across: int, scale: int) -> np.ndarray:
    """Images side by side, `across` a row, row after row, on white: (height, width, 3), uint8."""
    levels = (reduced(images).transpose(0, 2, 3, 1) + 1) / 2
    colours = GREY(levels[..., 0])[..., :3] if levels.shape[-1] == 1 else levels
    colours = (255 * colours).round().astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
    height, width = (size + GAP for size in colours.shape[1:3])
    rows = ceil(len(images) / across)
    sheet = np.full((rows * height - GAP, min(across, len(images)) * width - GAP, 3), 255, dtype=np.uint8)
    for k, colour in enumerate(colours):
        top, left = k // across * height, k % across * width
        sheet[top : top + height - GAP, left : left + width - GAP] = colour
    return sheet


def _sheet(rows: Mapping[str, Mapping[str, np.ndarray]], columns: list[str]) -> Figure:
    """Tiled blocks in rows with their labels at the left and columns with their names above, one pixel for one."""
    heights = [max(block.shape[0] for block in row.values()) for row in rows.values()]
    widths = [max(row[column].shape[1] for row in rows.values() if column in row) for column in columns]
    head = TEXT if any(columns) else 0
    height, width = (sum(sizes) + BLOCK_GAP * (len(sizes) - 1) for sizes in (heights, widths))
    figure = Figure(figsize=(width / DPI, (height + head) / DPI), dpi=DPI)
    whole = figure.bbox.width, figure.bbox.height
    top = head
    for (label, row), row_height in zip(rows.items(), heights):
        left = 0
        # outside the figure, which grows to hold it when it is saved
        figure.text(
            -BLOCK_GAP / whole[0],
            1 - (top + row_height / 2) / whole[1],
            label,
            ha="right",
            va="center",
            fontsize=11,
        )
        for column, column_width in zip(columns, widths):
            if column and top == head:
                figure.text(
                    (left + column_width / 2) / whole[0],
                    1 - (head - 6) / whole[1],
                    column,
                    ha="center",
                    va="bottom",
                    fontsize=11,
                )
            if column in row:
                block = row[column]
                place = (
                    left / whole[0],
                    1 - (top + block.shape[0]) / whole[1],
                    block.shape[1] / whole[0],
                    block.shape[0] / whole[1],
                )
                axis = figure.add_axes(place, label=f"{label}, {column}")
                axis.imshow(block, interpolation="nearest", aspect="auto")
                axis.set_axis_off()
            left += column_width + BLOCK_GAP
        top += row_height + BLOCK_GAP
    return figure


def grid(panels: Mapping[str, Mapping[str, np.ndarray]], title: str, count: int = 8) -> Picture:
    """The first `count` images of every array: one row for each key, one block of tiles for each inner key "N = ...".

    Arrays (n, 1 or 3, height, width), floats in [-1, 1], all from the same noises in the same order. A method may lack some
    of the columns. Raises ValueError for arrays of another shape or type, or that are not finite, or nothing at all.
    """
    if count < 1 or not any(panels.values()):
        raise ValueError("a grid shows one image at least")
    columns = sorted(
        {name for row in panels.values() for name in row}, key=lambda name: int(name.split()[-1])
    )
    across = _across(count)
    blocks: dict[str, dict[str, np.ndarray]] = {}
    numbers = {}
    for label, row in panels.items():
        blocks[label] = {}
        for column in (c for c in columns if c in row):
            images = _checked(row[column][:count], f"{label}, {column}")
            blocks[label][column] = _tile(images, across, _scale(images, across * len(columns)))
            numbers[f"{label}, {column}"] = _quadrants(images)
    return ColourPicture(
        _sheet({label: row for label, row in blocks.items() if row}, columns), numbers, title
    )


def interpolations(strips: Mapping[str, np.ndarray], title: str) -> Picture:
    """One row for each key: its images (k, 1 or 3, height, width), floats in [-1, 1], from left to right.

    Raises ValueError for arrays of another shape or type, or that are not finite, or nothing at all.
    """
    if not strips:
        raise ValueError("a picture of interpolations shows one strip at least")
    images = {label: _checked(strip, label) for label, strip in strips.items()}
    rows = {
        label: {"": _tile(strip, len(strip), _scale(strip, len(strip)))} for label, strip in images.items()
    }
    return ColourPicture(
        _sheet(rows, [""]), {label: _quadrants(strip) for label, strip in images.items()}, title
    )


def data_strip(images: np.ndarray, title: str, across: int = 16) -> Picture:
    """All the images given, (count, 1 or 3, height, width), floats in [-1, 1], `across` a row; raises ValueError as `grid`."""
    images = _checked(images, title)
    return ColourPicture(
        _sheet({"": {"": _tile(images, across, _scale(images, across))}}, [""]),
        {"images": _quadrants(images)},
        title,
    )


def quality_against(table: pd.DataFrame, x: str, y: str, title: str) -> Picture:
    """Metric `y` against metric `x`, joined by method and network calls: one line a method, its calls in the markers (log-log).

    `table` has columns method, metric, nfe, value and sd, one row a cell. Its numbers hold `y` alone: `x` may be a time,
    which another machine does not repeat. Raises ValueError when no cell has both metrics, or one has a metric twice.
    """
    cost, quality = (table[table.metric == metric] for metric in (x, y))
    twice = table[table.metric.isin([x, y]) & table.duplicated(["method", "metric", "nfe"])]
    if not twice.empty:
        raise ValueError(
            f"{twice.iloc[0].method} has more than one '{twice.iloc[0].metric}' at {twice.iloc[0].nfe} network calls"
        )
    both = quality.merge(cost[["method", "nfe", "value"]], on=["method", "nfe"], suffixes=("", "_x"))
    if both.empty:
        raise ValueError(f"no method has both '{x}' and '{y}' at one number of network calls")
    import seaborn as sns  # here, and not above: it takes a second to load

    with sns.axes_style("white", STYLE):
        figure = Figure(figsize=(6.4, 4.2))
        axis = figure.subplots()
    numbers = {}
    lines = both.groupby("method", sort=False)
    for k, (stroke, (method, line)) in enumerate(zip(strokes(len(lines)), lines)):
        line = line.sort_values("nfe")
        # each line above the last with its text, so that a covered marker hides its number too
        above, sd, look = (
            3 + k,
            line.sd.fillna(0),
            stroke | {"marker": "o", "ms": 13, "mec": "white", "lw": 1.5, "capsize": 2},
        )
        axis.errorbar(line.value_x, line.value, yerr=sd, label=method, zorder=above, **look)
        for row in line.itertuples():
            place = row.value_x, row.value
            axis.annotate(
                str(int(row.nfe)),
                place,
                ha="center",
                va="center_baseline",
                fontsize=6.5,
                color="white",
                zorder=above + 0.5,
            )
        numbers[method] = [[int(n), round(float(v), 4)] for n, v in zip(line.nfe, line.value)]
    axis.set(xscale="log", yscale="log", xlabel=x, ylabel=y)
    for side, values in ((axis.xaxis, both.value_x), (axis.yaxis, both.value)):
        side.set_major_locator(LogLocator(subs=(1, 2, 5) if values.max() < 500 * values.min() else (1,)))
        side.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        side.set_minor_locator(NullLocator())
    axis.legend(frameon=False, fontsize=8, title="network calls in the markers", title_fontsize=8)
    return Picture(figure, numbers, title)
