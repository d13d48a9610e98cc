"""Faces in rows: a column a noise, a row a number of steps, a block a method; and what is refused."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from fewstep.evaluation.plots.images import GAP, LARGEST, SIDE, rows_of_faces


def flat(levels, channels: int = 3, side: int = 16) -> np.ndarray:
    """One image of one level each."""
    return (
        np.ones((1, channels, side, side), dtype=np.float32)
        * np.array(levels, dtype=np.float32)[:, None, None, None]
    )


def strips(picture) -> dict[str, np.ndarray]:
    return {axis.get_label(): np.asarray(axis.images[0].get_array()) for axis in picture.figure.axes}


def test_columns_are_noises_rows_steps_and_blocks_methods():
    levels = np.linspace(-1, 1, 4)
    panels = {"SCFlow": {"N = 8": flat(levels), "N = 1": flat(-levels)}, "distilled": {"N = 1": flat(levels)}}
    picture = rows_of_faces(panels, "a title", count=4)
    found = strips(picture)
    assert (
        list(found) == ["SCFlow, N = 1", "SCFlow, N = 8", "distilled, N = 1"] == list(picture.numbers)
        and picture.title == "a title"
    )
    tile = LARGEST + GAP
    for name, expected in zip(found, (-levels, levels, levels)):
        assert found[name].shape == (LARGEST, 4 * tile - GAP, 3)
        assert (
            found[name][LARGEST // 2, LARGEST // 2 :: tile, 0].tolist()
            == (255 * (expected + 1) / 2).round().tolist()
        )
    boxes = [axis.get_position() for axis in picture.figure.axes]
    height = picture.figure.bbox.height
    assert [box.x0 for box in boxes] == [0, 0, 0] and [box.x1 for box in boxes] == pytest.approx([1, 1, 1])
    assert (boxes[0].y0 - boxes[1].y1) * height == pytest.approx(GAP) and (
        boxes[1].y0 - boxes[2].y1
    ) * height > 30
    assert boxes[2].y0 == pytest.approx(0)
    texts = [(text.get_text(), *text.get_position()) for text in picture.figure.texts]
    assert [text for text, *_ in texts] == ["SCFlow", "N = 1", "N = 8", "distilled", "N = 1"]
    assert texts[0][2] > boxes[0].y1 and boxes[1].y0 > texts[3][2] > boxes[2].y1
    assert texts[1][1] < 0 and texts[1][2] == pytest.approx((boxes[0].y0 + boxes[0].y1) / 2)


def test_numbers_are_the_quadrants_of_the_first_three_images():
    picture = rows_of_faces({"a": {"N = 1": flat([-0.5, 0.25, 5.0, 0.0])}}, "")
    assert picture.numbers == {"a, N = 1": [-0.5] * 4 + [0.25] * 4 + [1.0] * 4}


def test_large_images_are_reduced_by_their_means_and_small_ones_keep_their_pixels():
    large = np.random.default_rng(0).uniform(-1, 1, (2, 3, 2 * SIDE, 2 * SIDE)).astype(np.float32)
    (strip,) = strips(rows_of_faces({"a": {"N = 1": large}}, "", count=2)).values()
    assert strip.shape == (SIDE, 2 * SIDE + GAP, 3)
    expected = (255 * (large[1, :, 4:6, 10:12].mean((1, 2)) + 1) / 2).round()
    assert np.abs(strip[2, SIDE + GAP + 5] - expected).max() <= 1
    (strip,) = strips(rows_of_faces({"a": {"N = 1": large[:1, :, :8, :8]}}, "", count=1)).values()
    assert (strip == strip[::8, ::8].repeat(8, 0).repeat(8, 1)).all()


def test_the_file_holds_the_sheet():
    picture = rows_of_faces(
        {"a": {"N = 1": flat([1.0, -1.0])}, "b": {"N = 2": flat([-1.0, 1.0])}}, "", count=2
    )
    sheet = np.asarray(Image.open(io.BytesIO(picture.png())).convert("L"))
    assert sheet.shape[0] >= 2 * LARGEST and sheet.shape[1] >= 2 * LARGEST + GAP


@pytest.mark.parametrize(
    "samples, sentence",
    [
        (
            np.zeros((5, 2)),
            r"SCFlow, N = 1: images have shape \(count, 1 or 3, height, width\) with .* not \(5, 2\)",
        ),
        (np.zeros((5, 3, 8, 8), dtype=np.uint8), r"SCFlow, N = 1: images are floats in \[-1, 1\], not uint8"),
        (flat([0.0, np.nan]), "SCFlow, N = 1: 1 of 2 images are not finite"),
        (flat([0.0, np.inf]), "SCFlow, N = 1: 1 of 2 images are not finite"),
        (np.zeros((0, 3, 8, 8)), r"not \(0, 3, 8, 8\)"),
    ],
)
def test_what_is_no_image_is_refused(samples, sentence):
    with pytest.raises(ValueError, match=sentence):
        rows_of_faces({"SCFlow": {"N = 1": samples}}, "")


def test_a_picture_of_nothing_is_refused():
    for panels, count in (({}, 8), ({"a": {}}, 8), ({"a": {"N = 1": flat([0.0])}}, 0)):
        with pytest.raises(ValueError, match="a picture of faces shows one image at least"):
            rows_of_faces(panels, "", count=count)
