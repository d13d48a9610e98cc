"""The bias of a Fréchet distance with the number of samples, against closed forms; and PNG files."""

import numpy as np
import pytest

from fewstep.metrics.frechet import Moments, moments
from fewstep.metrics.frechet_bias import extrapolated, of_half_the_samples, of_samples
from fewstep.metrics.png import as_png


def line(values: np.ndarray, mean: float, deviation: float) -> float:
    """The Fréchet distance of numbers from a Gaussian on the line: (m - mean)^2 + (s - deviation)^2."""
    return (values.mean() - mean) ** 2 + (values.std(ddof=1) - deviation) ** 2


@pytest.mark.parametrize("count", [40, 41])
def test_half_the_samples_is_the_mean_of_both_halves(count):
    values = np.random.default_rng(0).normal(1, 2, (count, 1))
    reference = Moments(np.array([0.5]), np.array([[9.0]]), 100)
    halves = [line(values[:20], 0.5, 3), line(values[20:40], 0.5, 3)]
    assert of_half_the_samples(values, reference) == pytest.approx(sum(halves) / 2, rel=1e-9)
    assert of_samples(values, reference) == pytest.approx(line(values, 0.5, 3), rel=1e-9)


def test_the_bias_of_a_gaussian_doubles_with_half_the_samples_and_is_extrapolated_away():
    """Of n samples of N(0, I_d) from N(0, I_d) it is (d + d(d + 1) / 4) / n, to first order."""
    dim, count, repeats, generator = 3, 400, 600, np.random.default_rng(1)
    exact = Moments(np.zeros(dim), np.eye(dim), 10**9)
    found = []
    for _ in range(repeats):
        values = generator.normal(size=(count, dim))
        whole, half = of_samples(values, exact), of_half_the_samples(values, exact)
        found.append((whole, half, extrapolated(whole, half)))
    whole, half, limit = np.mean(found, 0)
    error = 4 * np.std(found, 0, ddof=1) / np.sqrt(repeats)
    bias = (dim + dim * (dim + 1) / 4) / count
    assert abs(whole - bias) < error[0] and abs(half - 2 * bias) < error[1] and abs(limit) < error[2]
    assert error[0] < bias / 5, "the test would see a bias that is another"


def test_extrapolation_is_exact_where_the_bias_falls_as_one_over_n():
    assert extrapolated(7 + 3 / 100, 7 + 3 / 50) == pytest.approx(7, abs=1e-12)


def test_fewer_samples_than_features_have_a_distance_too():
    values = np.random.default_rng(2).normal(size=(6, 8))
    own = moments(values, rank_deficient=True)
    roots = np.sqrt(np.linalg.eigvalsh(own.covariance).clip(0)).sum()
    expected = np.square(own.mean).sum() + np.trace(own.covariance) + 8 - 2 * roots
    assert of_samples(values, Moments(np.zeros(8), np.eye(8), 100)) == pytest.approx(expected, rel=1e-9)
    with pytest.raises(ValueError, match="has 3 samples and at least 4 are needed: generate more"):
        of_half_the_samples(values[:3], own)


@pytest.mark.parametrize("channels", [1, 3])
def test_a_png_file_keeps_every_level(channels):
    images = np.random.default_rng(3).integers(0, 256, (4, channels, 6, 5), dtype=np.uint8)
    assert np.array_equal(as_png(images), images)
    with pytest.raises(ValueError, match="PNG takes uint8 images .*, not float64 of"):
        as_png(images / 2)
