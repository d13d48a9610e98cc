"""Distances between images of one noise: PSNR and SSIM against values worked out by hand and slowly, feature
distances exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fewstep.metrics.step_consistency import (
    BATCH,
    CAP,
    activations,
    distances,
    feature_distance,
    layer_distance,
    psnr,
    ssim,
    window_of,
)
from fewstep.networks.classifier import Classifier


def noise(*shape: int, seed: int = 0, top: int = 255) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top + 1, shape).astype(np.uint8)


def near(images: np.ndarray, reach: int, seed: int = 1) -> np.ndarray:
    """The images with up to `reach` levels added or taken away at each pixel."""
    moved = images.astype(int) + np.random.default_rng(seed).integers(-reach, reach + 1, images.shape)
    return moved.clip(0, 255).astype(np.uint8)


# PSNR ---------------------------------------------------------------------------------------------------


def test_psnr_of_a_known_offset():
    images = noise(3, 3, 8, 8) // 2
    offsets = np.array([1, 5, 100], dtype=np.uint8)[:, None, None, None]
    expected = 20 * np.log10(255 / np.array([1, 5, 100]))
    assert psnr(images, images + offsets) == pytest.approx(expected) and psnr(
        images + offsets, images
    ) == pytest.approx(expected)
    assert psnr(np.zeros((1, 1, 4, 4), np.uint8), np.full((1, 1, 4, 4), 255, np.uint8)) == pytest.approx([0])


def test_psnr_is_of_the_mean_error_and_of_the_top_level():
    a = np.zeros((1, 3, 4, 4), np.uint8)
    b = a.copy()
    b[0, 1, 2, 3] = 12  # 144 over 48 numbers
    assert psnr(a, b) == pytest.approx([10 * np.log10(255**2 / 3)])
    assert psnr(a, b, top=16) == pytest.approx([10 * np.log10(16**2 / 3)])


def test_identical_images_score_the_cap_and_none_scores_more():
    a = noise(2, 3, 32, 32)
    b = a.copy()
    b[1, 0, 0, 0] ^= 1  # one level in 3072 numbers: 83 dB
    assert psnr(a, a).tolist() == [CAP, CAP] and psnr(a, b).tolist() == [CAP, CAP]
    b[1, :, :9] = a[1, :, :9] ^ 1
    assert psnr(a, b)[1] == pytest.approx(10 * np.log10(255**2 * 32 / 9)) and psnr(a, b)[1] < CAP


# SSIM ---------------------------------------------------------------------------------------------------


def slow_ssim(a: np.ndarray, b: np.ndarray, width: int, top: int = 255) -> float:
    """The definition window by window: (channels, height, width) twice, in two loops."""
    axis = np.arange(width) - width // 2
    w = np.exp(-(axis[:, None] ** 2 + axis[None] ** 2) / (2 * 1.5**2))
    w /= w.sum()
    c1, c2, found = (0.01 * top) ** 2, (0.03 * top) ** 2, []
    for x, y in zip(a.astype(float), b.astype(float)):
        for i in range(x.shape[0] - width + 1):
            for j in range(x.shape[1] - width + 1):
                p, q = x[i : i + width, j : j + width], y[i : i + width, j : j + width]
                mp, mq = (w * p).sum(), (w * q).sum()
                vp, vq, cov = (
                    (w * (p - mp) ** 2).sum(),
                    (w * (q - mq) ** 2).sum(),
                    (w * (p - mp) * (q - mq)).sum(),
                )
                found.append((2 * mp * mq + c1) * (2 * cov + c2) / ((mp**2 + mq**2 + c1) * (vp + vq + c2)))
    return float(np.mean(found))


@pytest.mark.parametrize(
    "shape, width", [((1, 8, 8), 5), ((3, 16, 16), 9), ((3, 32, 32), 11), ((1, 24, 31), 11), ((3, 9, 20), 5)]
)
def test_ssim_is_the_published_definition(shape, width):
    a = noise(4, *shape)
    b = np.concatenate([near(a[:1], 5), near(a[1:2], 60), 255 - a[2:3], noise(1, *shape, seed=9)])
    expected = [slow_ssim(one, other, width) for one, other in zip(a, b)]
    assert ssim(a, b) == pytest.approx(expected, abs=1e-10) and ssim(b, a) == pytest.approx(
        expected, abs=1e-10
    )
    assert expected[0] > 0.95 > expected[1] > 0 > expected[2], "the cases differ"


def test_ssim_knows_the_top_level():
    a, b = noise(1, 1, 8, 8, top=16), noise(1, 1, 8, 8, seed=1, top=16)
    assert ssim(a, b, top=16) == pytest.approx([slow_ssim(a[0], b[0], 5, top=16)])
    assert abs(ssim(a, b)[0] - ssim(a, b, top=16)[0]) > 0.01


@pytest.mark.parametrize("side", [4, 8, 32])
def test_equal_images_have_an_ssim_of_exactly_one(side):
    images = noise(3, 3, side, side)
    assert ssim(images, images).tolist() == [1.0] * 3
    flat = np.full((1, 3, side, side), 200, np.uint8)
    assert ssim(flat, flat).tolist() == [1.0]


def test_ssim_of_flat_images_is_that_of_their_means():
    black, grey = np.zeros((1, 1, 16, 16), np.uint8), np.full((1, 1, 16, 16), 50, np.uint8)
    assert ssim(black, grey) == pytest.approx([2.55**2 / (50**2 + 2.55**2)])


def test_windows():
    assert [len(window_of(side)) for side in (4, 7, 8, 12, 16, 19, 20, 32, 256)] == [
        3,
        3,
        5,
        7,
        9,
        9,
        11,
        11,
        11,
    ]
    for side in range(4, 40):
        width = len(window_of(side))
        # half the side's places at least; and two more weights would leave fewer, or be more than published
        assert (
            width % 2 == 1
            and 2 * (side - width + 1) >= side
            and (width == 11 or 2 * (side - width - 1) < side)
        )
        assert window_of(side).sum() == pytest.approx(1)
    window = window_of(32)
    assert window / window[5] == pytest.approx(np.exp(-(np.arange(-5, 6) ** 2) / 4.5))
    with pytest.raises(ValueError, match="SSIM needs images of 4 pixels a side or more, not 3"):
        ssim(noise(1, 1, 3, 8), noise(1, 1, 3, 8))


# Features -----------------------------------------------------------------------------------------------


def test_feature_distance_of_maps_with_known_angles():
    angles = np.array([0.0, 0.3, np.pi / 2, np.pi])
    a = np.zeros((4, 2, 3, 5))
    a[:, 0] = 7.0
    b = 0.1 * np.stack([np.cos(angles), np.sin(angles)], 1)[:, :, None, None] * np.ones((4, 2, 3, 5))
    assert feature_distance(a, b) == pytest.approx(2 - 2 * np.cos(angles), abs=1e-8)
    assert feature_distance(a[..., 0, 0], b[..., 0, 0]) == pytest.approx(2 - 2 * np.cos(angles), abs=1e-8)


def test_every_position_counts_alike_whatever_its_size():
    a = np.ones((1, 2, 1, 4))
    b = a.copy()
    a[..., 0] *= 1000
    b[0, :, 0, 0] = [1, -1]
    b[0, :, 0, 1] = [-5, -5]
    assert feature_distance(a, b) == pytest.approx([(2 + 4 + 0 + 0) / 4], abs=1e-8)


def test_positions_without_a_feature_are_at_no_distance():
    assert feature_distance(np.zeros((1, 3, 2, 2)), np.zeros((1, 3, 2, 2))).tolist() == [0]


def test_layers_are_averaged_and_batches_do_not_show():
    count = 2 * BATCH + 3
    a, b = noise(count, 1, 8, 8), noise(count, 1, 8, 8, seed=1)

    def maps(images: np.ndarray) -> list[np.ndarray]:
        x = images.astype(float)
        return [np.concatenate([x, 255 - x], 1), x.reshape(len(x), 4, 4, 4), x.reshape(len(x), 64)]

    expected = np.mean([feature_distance(p, q) for p, q in zip(maps(a), maps(b))], axis=0)
    assert expected.shape == (count,) and layer_distance(maps, a, b) == pytest.approx(expected)
    assert layer_distance(maps, a, a).tolist() == [0] * count


def test_the_maps_of_a_classifier_are_those_after_each_activation():
    torch.manual_seed(0)
    classifier, images = Classifier((1, 8, 8), 10).eval(), noise(5, 1, 8, 8, top=16)
    found = activations(classifier.convolutions, top=16)(images)
    assert [m.shape for m in found] == [(5, 32, 8, 8), (5, 64, 4, 4), (5, 64, 4, 4)]
    x = torch.from_numpy(images.astype(np.float32)) / 8 - 1
    expected = nn.functional.silu(classifier.convolutions[0](x)).detach().numpy()
    assert found[0] == pytest.approx(expected)
    assert found[2] == pytest.approx(classifier.convolutions(x).detach().numpy())
    images.flags.writeable = False  # as a memory map is
    activations(classifier.convolutions)(images)


# Together -----------------------------------------------------------------------------------------------


def test_distances_are_means_of_pairs():
    torch.manual_seed(0)
    maps = activations(Classifier((3, 16, 16), 10).convolutions)
    a = noise(20, 3, 16, 16)
    b = np.concatenate([a[:10], near(a[10:], 40)])
    found = distances(a, b, maps)
    assert list(found) == ["PSNR", "SSIM", "feature distance"]
    assert found["PSNR"] == pytest.approx((10 * CAP + psnr(a[10:], b[10:]).sum()) / 20)
    assert found["SSIM"] == pytest.approx((10 + ssim(a[10:], b[10:]).sum()) / 20)
    assert found["feature distance"] == pytest.approx(layer_distance(maps, a[10:], b[10:]).sum() / 20)
    assert distances(a, a, maps) == {"PSNR": CAP, "SSIM": 1.0, "feature distance": 0.0}


def test_all_three_order_images_by_how_far_they_are():
    torch.manual_seed(0)
    maps, a = activations(Classifier((3, 16, 16), 10).convolutions), noise(20, 3, 16, 16)
    rows = [distances(a, near(a, reach), maps) for reach in (2, 10, 50, 250)]
    for name, sign in (("PSNR", -1), ("SSIM", -1), ("feature distance", 1)):
        values = [sign * row[name] for row in rows]
        assert values == sorted(values) and len(set(values)) == 4


@pytest.mark.parametrize(
    "a, b, sentence",
    [
        (
            noise(2, 3, 8, 8).astype(float),
            noise(2, 3, 8, 8),
            r"uint8 images \(count, channels, height, width\), not float64",
        ),
        (noise(3, 8, 8), noise(3, 8, 8), r"not uint8 of \(3, 8, 8\)"),
        (noise(0, 3, 8, 8), noise(0, 3, 8, 8), r"not uint8 of \(0, 3, 8, 8\)"),
        (
            noise(2, 3, 8, 8),
            noise(3, 3, 8, 8),
            r"come in pairs, and these are of shape \(2, 3, 8, 8\) and \(3, 3, 8, 8\)",
        ),
    ],
)
def test_what_is_no_pair_of_images_is_refused(a, b, sentence):
    for measure in (psnr, ssim, lambda a, b: layer_distance(lambda images: [images], a, b)):
        with pytest.raises(ValueError, match=sentence):
            measure(a, b)
    with pytest.raises(ValueError, match="feature maps of pairs have one shape"):
        feature_distance(np.ones((2, 3)), np.ones((2, 4)))
