"""Images stored as JPEG: Pillow's defaults, the same pixels every time, and only lossy where something is
lost."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, JpegImagePlugin

from fewstep.metrics.features import as_jpeg, jpeg_bytes


def noise(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, shape, dtype=np.uint8)


def smooth(count: int = 2, side: int = 16) -> np.ndarray:
    """Colours that change slowly from place to place, (count, 3, side, side)."""
    y, x = np.mgrid[:side, :side] / side
    return (
        np.stack([np.stack([100 + 50 * x + 5 * k, 120 + 40 * y, 80 + 30 * x * y]) for k in range(count)])
        .round()
        .astype(np.uint8)
    )


def test_the_file_is_the_one_that_torchvision_writes(tmp_path):
    """The official script's own call, and no option."""
    import torch

    from fewstep.networks import torchvision_operators  # noqa: F401
    from torchvision.utils import save_image  # isort: skip

    image = noise(3, 24, 32)
    save_image(torch.from_numpy(image) / 255, tmp_path / "sample.jpg")
    assert (tmp_path / "sample.jpg").read_bytes() == jpeg_bytes(image)


def test_quality_is_75_and_colour_has_half_the_resolution():
    image, plain = noise(3, 16, 16), io.BytesIO()
    Image.fromarray(image.transpose(1, 2, 0)).save(plain, format="jpeg")
    assert plain.getvalue() == jpeg_bytes(image) != jpeg_bytes(image, 90)
    stored = Image.open(io.BytesIO(jpeg_bytes(image)))
    assert JpegImagePlugin.get_sampling(stored) == 2, "4:2:0"
    # 16 in the standard's table at quality 50, halved at 75
    assert stored.quantization[0][0] == 8


def test_it_changes_images_and_always_alike():
    images = noise(5, 3, 16, 16)
    kept, stored = images.copy(), as_jpeg(images)
    assert stored.shape == images.shape and stored.dtype == np.uint8
    assert np.array_equal(images, kept), "what is given stays as it is"
    assert (stored != images).mean() > 0.9
    assert np.array_equal(stored, as_jpeg(images))
    assert np.array_equal(stored[2], as_jpeg(images[2:3])[0]), "each image by itself"


def test_what_is_lost_is_little_in_smooth_images_and_less_at_a_higher_quality():
    images = smooth()
    errors = [np.abs(as_jpeg(images, quality).astype(int) - images).mean() for quality in (20, 75, 95)]
    assert errors[0] > errors[1] > errors[2] > 0 and errors[1] < 3
    flat = np.full((1, 3, 16, 16), 128, dtype=np.uint8)
    assert np.array_equal(as_jpeg(flat), flat)


def test_rows_columns_and_channels_keep_their_places():
    image = np.zeros((1, 3, 16, 32), dtype=np.uint8)
    image[:, 0, :, 16:] = 200
    image[:, 2, 8:] = 200
    # colours run into each other at their edges, where their resolution is halved
    away = np.abs(as_jpeg(image).astype(int) - image)[:, :, [0, 1, 2, 3, 12, 13, 14, 15]][
        ..., np.r_[:12, 20:32]
    ]
    assert away.max() < 25 and away.mean() < 5


def test_grey_images_come_back_as_their_own_luminance():
    grey = noise(3, 1, 8, 8)
    stored = as_jpeg(grey)
    assert stored.shape == grey.shape and (stored != grey).any()
    assert np.array_equal(as_jpeg(grey.repeat(3, axis=1)), stored.repeat(3, axis=1))


@pytest.mark.parametrize(
    "images", [np.zeros((2, 3, 8, 8)), np.zeros((3, 8, 8), np.uint8), np.zeros((2, 4, 8, 8), np.uint8)]
)
def test_what_is_no_image_is_refused(images):
    with pytest.raises(ValueError, match=r"JPEG takes uint8 images \(count, 3 or 1, height, width\), not"):
        as_jpeg(images)


@pytest.mark.parametrize("quality", [0, 96, 100])
def test_qualities_that_mean_something_else_are_refused(quality):
    with pytest.raises(ValueError, match=f"the quality of a JPEG file is 1 to 95, not {quality}"):
        as_jpeg(noise(1, 3, 8, 8), quality)
