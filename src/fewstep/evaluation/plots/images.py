"""Pictures of images: grids by method and number of steps, faces, interpolations, data, beside captions."""

from collections.abc import Mapping, Sequence
from math import ceil, sqrt
from textwrap import fill
from typing import Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from .picture import DPI, Panels, Picture, steps
from .samples import densities

# the lowest level is not quite white, so that a tile can be told from the gap beside it
GREY = LinearSegmentedColormap.from_list("grey", ["#e9eef4", "#b4c5d9", "#4f7294", "#10263c"])
# Lengths in pixels of a picture at DPI: gaps between tiles and between blocks of tiles, room for text
GAP, BLOCK_GAP, TEXT = 3, 14, 22
ABOVE = {"ha": "center", "va": "bottom", "fontsize": 11}
BESIDE = {"ha": "right", "va": "center", "fontsize": 11}
TITLE = {"ha": "left", "va": "bottom", "fontsize": 11}
# of faces, between a row and its name; of captions, their width in pixels and in letters
INDENT, CAPTION, LETTERS = 8, 250, 38
# colours of the file of a sheet of images: with half as many, white sky turns lavender
PALETTE = 256
# A sheet is about this wide, with tiles neither too small to read nor enlarged beyond what an image deserves;
# an image larger than SIDE itself is reduced to it, or a sheet of many would be a hundred megapixels
WIDTH, SMALLEST, LARGEST, SIDE = 1000, 40, 64, 128


def reduced(images: np.ndarray) -> np.ndarray:
    """Images (count, channels, height, width) of about SIDE pixels a side at most, by means of squares."""
    count, channels, height, width = images.shape
    by = max(-(-max(height, width) // SIDE), 1)
    while height % by or width % by:
        by -= 1
    if by == 1:
        return images
    return images.reshape(count, channels, height // by, by, width // by, by).mean((3, 5))


def tiled(images: np.ndarray, name: str, across: int, beside: int = 1) -> tuple[np.ndarray, list[float]]:
    """Images as one block (height, width, 3), uint8, and its numbers: the quadrants of the first three.

    They stand `across` a row, sized for `beside` such blocks side by side. Raises ValueError as `grid`.
    """
    images = np.asarray(images)
    if images.ndim != 4 or images.shape[1] not in (1, 3) or not images.size:
        wanted = "images have shape (count, 1 or 3, height, width) with one at least"
        raise ValueError(f"{name}: {wanted}, not {images.shape}")
    if images.dtype.kind != "f":
        raise ValueError(f"{name}: images are floats in [-1, 1], not {images.dtype}")
    if (bad := ~np.isfinite(images).all((1, 2, 3))).any():
        raise ValueError(f"{name}: {bad.sum()} of {len(images)} images are not finite and cannot be drawn")
    images = images.clip(-1, 1)
    halves = (half for image in images[:3] for half in np.array_split(image, 2, axis=1))
    quadrants = [round(float(part.mean()), 2) for half in halves for part in np.array_split(half, 2, axis=2)]
    side = max(images.shape[2:])
    scale = max(round(min(WIDTH / across / beside, LARGEST) / side), ceil(SMALLEST / side))
    levels = (reduced(images).transpose(0, 2, 3, 1) + 1) / 2
    colours = GREY(levels[..., 0])[..., :3] if levels.shape[-1] == 1 else levels
    colours = (255 * colours).round().astype(np.uint8).repeat(scale, axis=1).repeat(scale, axis=2)
    # each tile with a gap at its right and below, white tiles to fill the last row; the outer gaps are cut
    rows, columns = ceil(len(images) / across), min(across, len(images))
    around = (0, rows * columns - len(images)), (0, GAP), (0, GAP), (0, 0)
    tiles = np.pad(colours, around, constant_values=255)
    _, high, wide, _ = tiles.shape
    block = tiles.reshape(rows, columns, high, wide, 3).swapaxes(1, 2).reshape(rows * high, columns * wide, 3)
    return block[:-GAP, :-GAP], quadrants


def sheet(
    size: tuple[int, int],
    blocks: Mapping[str, tuple[float, float, np.ndarray]],
    texts: Sequence[tuple[float, float, str, dict[str, Any]]],
) -> Figure:
    """A figure of (width, height) pixels: blocks at (left, top), texts at (x, y), counted from above."""
    width, height = size
    figure = Figure(figsize=(width / DPI, height / DPI), dpi=DPI)
    for name, (left, top, block) in blocks.items():
        high, wide = block.shape[:2]
        place = (left / width, 1 - (top + high) / height, wide / width, high / height)
        axis = figure.add_axes(place, label=name)
        axis.imshow(block, interpolation="nearest", aspect="auto")
        axis.set_axis_off()
    for x, y, text, style in texts:
        figure.text(x / width, 1 - y / height, text, **style)
    return figure


def _rows(rows: Panels, columns: list[str]) -> Figure:
    """Tiled blocks in rows with their labels at the left and columns with their names above."""
    heights = [max(block.shape[0] for block in row.values()) for row in rows.values()]
    widths = [max(row[column].shape[1] for row in rows.values() if column in row) for column in columns]
    head = TEXT if any(columns) else 0
    lefts = np.cumsum([0, *widths]) + BLOCK_GAP * np.arange(len(widths) + 1)
    tops = head + np.cumsum([0, *heights]) + BLOCK_GAP * np.arange(len(heights) + 1)
    middles = (left + width / 2 for left, width in zip(lefts, widths))
    texts = [(middle, head - 6, name, ABOVE) for middle, name in zip(middles, columns) if name]
    blocks = {}
    for (label, row), top, height in zip(rows.items(), tops, heights):
        # outside the figure, which grows to hold it when it is saved
        texts.append((-BLOCK_GAP, top + height / 2, label, BESIDE))
        for column, block in row.items():
            blocks[f"{label}, {column}"] = lefts[columns.index(column)], top, block
    return sheet((lefts[-1] - BLOCK_GAP, tops[-1] - BLOCK_GAP), blocks, texts)


def grid(panels: Panels, title: str, count: int = 8) -> Picture:
    """The first `count` images of every array: a row a key, a block of tiles an inner key "N = ...".

    Arrays (n, 1 or 3, height, width), floats in [-1, 1], of the same noises. Raises ValueError for others.
    """
    if count < 1 or not any(panels.values()):
        raise ValueError("a grid shows one image at least")
    columns = sorted({name for row in panels.values() for name in row}, key=steps)
    # so many a row that a block is filled, and wider than high
    across = next(n for n in range(ceil(sqrt(count)), count + 1) if count % n == 0)
    blocks, numbers = {label: {} for label, row in panels.items() if row}, {}
    for label in blocks:
        for column in (c for c in columns if c in panels[label]):
            name, images = f"{label}, {column}", panels[label][column][:count]
            blocks[label][column], numbers[name] = tiled(images, name, across, len(columns))
    alt = f"{title}: samples of {'; '.join(blocks)} in {', '.join(columns)}"
    return Picture(_rows(blocks, columns), numbers, title, alt, PALETTE)


def interpolations(strips: Mapping[str, np.ndarray], title: str) -> Picture:
    """One row a key: its images, an array as for `grid`, from left to right; ValueError as `grid`."""
    if not strips:
        raise ValueError("a picture of interpolations shows one strip at least")
    found = {label: tiled(strip, label, len(strip)) for label, strip in strips.items()}
    figure = _rows({label: {"": block} for label, (block, _) in found.items()}, [""])
    numbers = {label: quadrants for label, (_, quadrants) in found.items()}
    return Picture(figure, numbers, title, f"{title}: a row of images of {'; '.join(strips)}", PALETTE)


def data_strip(images: np.ndarray, title: str, across: int = 16) -> Picture:
    """All the images, an array as for `grid`, `across` a row."""
    block, numbers = tiled(images, title, across)
    figure = _rows({"": {"": block}}, [""])
    return Picture(figure, {"images": numbers}, title, f"{title}: {len(images)} images", PALETTE)


def rows_of_faces(panels: Panels, title: str, count: int = 8) -> Picture:
    """One block a key with its name above; in it one row an inner key "N = ...", from few steps to many.

    Arrays as for `grid`, of which the first `count` are drawn: a column is one noise down to the bottom.
    """
    panels = {label: rows for label, rows in panels.items() if rows}
    if count < 1 or not panels:
        raise ValueError("a picture of faces shows one image at least")
    blocks, texts, numbers, top = {}, [], {}, 0
    for label, rows in panels.items():
        top += TEXT + (BLOCK_GAP if blocks else 0)
        texts.append((0, top - 6, label, TITLE))
        for column in sorted(rows, key=steps):
            name = f"{label}, {column}"
            strip, numbers[name] = tiled(rows[column][:count], name, count)
            blocks[name] = 0, top, strip
            # outside the figure, which grows to hold it when it is saved
            texts.append((-INDENT, top + strip.shape[0] / 2, column, BESIDE | {"fontsize": 9}))
            top += strip.shape[0] + GAP
    width = max(strip.shape[1] for *_, strip in blocks.values())
    alt = f"{title}: images from the same {count} noises, a row each of {'; '.join(numbers)}"
    return Picture(sheet((width, top - GAP), blocks, texts), numbers, title, alt, PALETTE)


def rows_of_captions(panels: Panels, captions: Sequence[str], title: str) -> Picture:
    """One row a caption; of each key of `panels` one block of columns, an inner key "N = ..." a column.

    Arrays as for `grid`, image k of the k-th caption. Raises ValueError for fewer images than captions.
    """
    panels = {label: own for label, own in panels.items() if own}
    if not captions or not panels:
        raise ValueError("a picture of captions shows one caption and one method at least")
    blocks, texts, numbers, left = {}, [], {}, CAPTION
    for label, own in panels.items():
        texts.append((left, TEXT - 8, label, TITLE | {"fontsize": 10}))
        for column, images in own.items():
            name = f"{label}, {column}"
            if len(images) < len(captions):
                raise ValueError(f"{name}: there are {len(images)} images for {len(captions)} captions")
            strip, numbers[name] = tiled(images[: len(captions)], name, across=1)
            blocks[name] = left, 2 * TEXT, strip
            texts.append((left + strip.shape[1] / 2, 2 * TEXT - 6, column, ABOVE | {"fontsize": 8}))
            left += strip.shape[1] + GAP
        left += BLOCK_GAP - GAP
    high = strip.shape[0] + GAP
    for k, caption in enumerate(captions):
        middle = 2 * TEXT + (k + 0.5) * high / len(captions) - GAP / 2
        texts.append((0, middle, fill(caption, LETTERS), BESIDE | {"ha": "left", "fontsize": 8}))
    alt = f"{title}: images of {len(captions)} captions, a column each of {'; '.join(numbers)}"
    size = left - BLOCK_GAP, 2 * TEXT + high - GAP
    return Picture(sheet(size, blocks, texts), numbers, title, alt, PALETTE)


def gallery(panels: Panels, title: str) -> Picture:
    """`densities` of points (count, 2), or a `grid` of images (count, channels, height, width)."""
    first = next(iter(next(iter(panels.values())).values()))
    return densities(panels, title) if first.ndim == 2 else grid(panels, title)
