"""Captions in rows: one row a caption, one block of columns a method; the numbers, and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fewstep.evaluation.plots.images import GAP, LARGEST, rows_of_captions

CAPTIONS = ("a small red circle at the top", "a blue square")


def flat(levels, channels: int = 3, side: int = 16) -> np.ndarray:
    """One image of one level each."""
    return (
        np.ones((1, channels, side, side), dtype=np.float32)
        * np.array(levels, dtype=np.float32)[:, None, None, None]
    )


def test_rows_are_captions_and_columns_steps_of_methods():
    panels = {
        "SCFlow": {"N = 1": flat([-1, 0, 1]), "N = 4": flat([0, 1, -1])},
        "InstaFlow": {"N = 1": flat([1, -1])},
    }
    picture = rows_of_captions(panels, CAPTIONS, "a title")
    assert (
        list(picture.numbers) == ["SCFlow, N = 1", "SCFlow, N = 4", "InstaFlow, N = 1"]
        and picture.title == "a title"
    )
    axes = {axis.get_label(): np.asarray(axis.images[0].get_array()) for axis in picture.figure.axes}
    assert list(axes) == list(picture.numbers)
    boxes = {axis.get_label(): axis.get_position() for axis in picture.figure.axes}
    assert 0 < boxes["SCFlow, N = 1"].x1 < boxes["SCFlow, N = 4"].x0
    assert boxes["SCFlow, N = 4"].x1 < boxes["InstaFlow, N = 1"].x0
    heights = {text.get_text().replace("\n", " "): text.get_position()[1] for text in picture.figure.texts}
    high = picture.figure.bbox.height
    for (label, column), levels in {
        ("SCFlow", "N = 1"): [-1, 0],
        ("SCFlow", "N = 4"): [0, 1],
        ("InstaFlow", "N = 1"): [1, -1],
    }.items():
        for k, level in enumerate(levels):
            name, top = f"{label}, {column}", k * (LARGEST + GAP)
            shown = axes[name][top : top + LARGEST]
            assert axes[name].shape == (len(CAPTIONS) * (LARGEST + GAP) - GAP, LARGEST, 3)
            assert (shown == round(255 * (level + 1) / 2)).all()
            assert heights[CAPTIONS[k]] == pytest.approx(
                boxes[name].y1 - (top + LARGEST / 2) / high, abs=1 / high
            )
    said = [text.get_text().replace("\n", " ") for text in picture.figure.texts]
    assert all(caption in said for caption in CAPTIONS) and {"SCFlow", "InstaFlow"} <= set(said)
    assert Image.open(io.BytesIO(picture.png())).size[0] > 3 * LARGEST


def test_nothing_to_show_and_too_few_images_are_refused():
    with pytest.raises(ValueError, match="one caption and one method at least"):
        rows_of_captions({"SCFlow": {}}, CAPTIONS, "a title")
    with pytest.raises(ValueError, match="SCFlow, N = 1: there are 1 images for 2 captions"):
        rows_of_captions({"SCFlow": {"N = 1": flat([0])}}, CAPTIONS, "a title")
