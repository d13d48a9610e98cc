"""The gallery's samples: of each experiment, a small picture for a method and a number of network calls."""

import io
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .. import data
from ..evaluation import prompts, sample
from ..evaluation.csv_files import WHOLE, read
from ..evaluation.plots.picture import INK

# how many pixels an image of a strip may be high
HIGH = 64
# bins of a density, ten a square of the checkerboard, and shades; the darkest is 1.8 times a square's density
BINS, EDGE, SHADES = 44, 1.1, 16
DARKEST = 1.8 * (2 * EDGE / BINS) ** 2 / 2


def _png(image: Image.Image) -> bytes:
    file = io.BytesIO()
    image.save(file, format="png", optimize=True)
    return file.getvalue()


def strip(images: np.ndarray, top: int = 255) -> bytes:
    """uint8 images (count, 3 or 1, height, width) of levels 0..top in a row, as a PNG with white gaps.

    Images of more than 64 pixels are averaged over squares of pixels.
    """
    count, channels, height, width = images.shape
    f = -(-max(height, width) // HIGH)
    whole = images[:, :, : height // f * f, : width // f * f]
    squares = whole.reshape(count, channels, height // f, f, width // f, f)
    levels = np.rint(squares.mean((3, 5)) * (255 / top)).astype(np.uint8)
    gap = max(1, height // f // 16)
    apart = np.pad(levels, ((0, 0), (0, 0), (0, 0), (0, gap)), constant_values=255)
    row = np.concatenate(list(apart), axis=2)[:, :, :-gap].transpose(1, 2, 0)
    return _png(Image.fromarray(row[:, :, 0] if channels == 1 else np.ascontiguousarray(row)))


def density(points: np.ndarray) -> bytes:
    """The density of points (count, 2) on [-1.1, 1.1]^2 as a PNG of 44 x 44 pixels, the second axis up."""
    found = np.histogram2d(*points.T, bins=BINS, range=[[-EDGE, EDGE]] * 2)[0].T[::-1] / len(points)
    image = Image.fromarray(np.rint((found / DARKEST).clip(0, 1) * (SHADES - 1)).astype(np.uint8), mode="P")
    image.putpalette(INK(np.linspace(0, 1, SHADES), bytes=True)[:, :3].tobytes())
    return _png(image)


def sheets(
    folder: Path, labels: Mapping[str, str], data_name: str, picture: Callable[[bytes], str]
) -> dict[str, Any]:
    """The samples that `sample.draw` has left in `folder`, for the page; `picture` says where a PNG lies.

    Those of the first seeds, by method and network calls: all points as a density, or the first images, which
    come from the same noise. Raises DamagedFileError for files that are cut.
    """
    columns = dict.fromkeys((field.name for field in fields(sample.Draw)), WHOLE) | sample.INDEX
    index = read(folder / "index.csv", columns, sample.REDRAW)
    # latents are decoded to levels up to 255
    top = getattr(getattr(data.module(data_name), "SOURCE", None), "top", 255)
    rows: dict[str, dict[str, Any]] = {}
    flat = False
    for own in index.drop_duplicates(["method", "nfe"]).itertuples():
        drawn = sample.opened(folder / own.file, own.count)
        flat = drawn.ndim == 2
        content = density(drawn) if flat else strip(drawn[: sample.SHOWN], top)
        row = rows.setdefault(own.method, {"label": labels.get(own.method, own.method), "sheets": {}})
        row["sheets"][own.nfe] = picture(content)
    for row in rows.values():
        row["sheets"] = dict(sorted(row["sheets"].items()))
    texts = prompts.texts(folder)[: sample.SHOWN] if (folder / prompts.TEXTS).is_file() else []
    calls = sorted({n for row in rows.values() for n in row["sheets"]})
    return {"calls": calls, "rows": list(rows.values()), "captions": texts, "points": flat}
