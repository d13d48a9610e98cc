"""The metrics against values worked out by hand."""

from __future__ import annotations

from math import log, sqrt

import numpy as np
import pytest

from fewstep.flows.exact import checkerboard
from fewstep.flows.exact.checkerboard import FILLED
from fewstep.metrics.points import kl_to_checkerboard, map_distance, squared_w2

from .exact import randn, seeded


def lattice(bins: int, counts) -> np.ndarray:
    """counts(column, row) samples at the centre of each of bins x bins cells of [-1, 1]^2."""
    centre = -1 + (2 * np.arange(bins) + 1) / bins
    return np.array(
        [(centre[i], centre[j]) for i in range(bins) for j in range(bins) for _ in range(counts(i, j))]
    )


def filled_at(bins: int):
    """Whether a cell lies in a filled square, for a grid that divides the squares evenly."""
    return lambda i, j: (4 * i // bins, 4 * j // bins) in FILLED


@pytest.mark.parametrize("bins", [4, 8, 20])
def test_even_samples_on_an_aligned_grid_have_no_divergence(bins):
    filled = filled_at(bins)
    found = kl_to_checkerboard(lattice(bins, lambda i, j: 3 * filled(i, j)), bins)
    assert found.value == pytest.approx(0, abs=1e-12)
    assert found.empty == 0


def test_uneven_samples_on_an_aligned_grid():
    """Four of the squares with three times the samples of the others: KL = -(log(3/2) + log(1/2)) / 2."""
    heavy = set(FILLED[::2])
    found = kl_to_checkerboard(lattice(4, lambda i, j: ((i, j) in FILLED) * (3 if (i, j) in heavy else 1)), 4)
    assert found.value == pytest.approx(-(log(3 / 2) + log(1 / 2)) / 2, abs=1e-12)


def test_the_floor_of_the_protocols_grid():
    """At 50 bins the squares' edges at -1/2 and 1/2 halve two columns and two rows of cells, which hold
    0.0784 of the mass; a histogram spreads that over the whole cell and loses log 2 there. No sampler can do
    better."""

    def counts(i, j):
        if i in (12, 37) or j in (12, 37):
            return 2
        return 4 * ((int((i + 0.5) / 12.5), int((j + 0.5) / 12.5)) in FILLED)

    found = kl_to_checkerboard(lattice(50, counts))
    assert found.empty == 0
    assert found.value == pytest.approx(0.0784 * log(2), abs=1e-12)


def test_exact_samples_are_at_the_floor():
    """The grid's 0.0543 and (cells - 1) / (2 count) of sampling noise, 0.0104 for 1348 cells and 64,000
    samples."""
    found = [
        kl_to_checkerboard(checkerboard.sample(64_000, seeded(k)).numpy().astype(float)).value
        for k in range(4)
    ]
    assert np.mean(found) == pytest.approx(0.0652, abs=0.001)


def test_an_empty_cell_counts_as_half_a_sample():
    """Nineteen samples on a 4 x 4 grid, three in each filled square but one in the first and none in the
    last: with the half that stands for none, the shares add up to one."""
    order = {cell: 3 for cell in FILLED} | {FILLED[0]: 1, FILLED[-1]: 0}
    found = kl_to_checkerboard(lattice(4, lambda i, j: order.get((i, j), 0)), 4)
    share = np.array([1, 3, 3, 3, 3, 3, 3, 0.5]) / 19.5
    assert found.empty == 1
    assert found.value == pytest.approx(np.mean(np.log(1 / 8) - np.log(share)), abs=1e-12)


@pytest.mark.parametrize("far", [(1.5, 0.0), (-0.2, -7.0)])
def test_mass_outside_the_square_is_lost_mass(far):
    inside = lattice(4, lambda i, j: 2 * filled_at(4)(i, j))
    found = kl_to_checkerboard(np.concatenate([inside, np.array([far] * 16)]), 4)
    assert found.value == pytest.approx(log(2), abs=1e-12)
    assert found.empty == 0


@pytest.mark.parametrize("seed", range(3))
def test_no_samples_are_nearer_than_the_target_itself(seed):
    """A histogram whose shares add up to one or less has no negative divergence: Gibbs' inequality."""
    far = np.random.default_rng(seed).normal(40.0, 1.0, (100, 2))
    # all of 8 bins empty: each is half a sample of 104, which lie on a sixteenth of the square each
    assert kl_to_checkerboard(far, 4).value == pytest.approx(log(1 / 8) - log(0.5 / 104), abs=1e-12)
    few = checkerboard.sample(2700, seeded(seed)).numpy()
    found = kl_to_checkerboard(few)
    # the grid's own, and the noise of two samples to a bin, of which a seventh are empty
    assert found.empty > 100 and 0.2 < found.value < 0.5
    assert kl_to_checkerboard(few[:400], 20).value > 0.1


@pytest.mark.parametrize(
    "count, bins, least", [(1000, 50, "2,696"), (2695, 50, "2,696"), (399, 20, "400"), (1, 4, "16")]
)
def test_counts_at_which_the_estimate_means_nothing_are_refused(count, bins, least):
    with pytest.raises(
        ValueError, match=rf"means nothing with [\d,]+ samples: draw {least} or more .*, or lower"
    ):
        kl_to_checkerboard(checkerboard.sample(count, seeded(1)).numpy(), bins)


def test_columns_are_not_rows():
    """Samples on the left half: the four filled squares on the right are empty, whichever the axis is
    called."""
    left = lattice(4, lambda i, j: 4 * ((i, j) in FILLED and i < 2))
    assert kl_to_checkerboard(left, 4).empty == 4
    shifted = left.copy()
    shifted[:, 0] += 0.5
    assert kl_to_checkerboard(shifted, 4).empty == 8


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_samples_that_are_not_finite_have_no_divergence(bad):
    samples = lattice(4, filled_at(4))
    samples[0, 1] = samples[3, 0] = bad
    with pytest.raises(ValueError, match="2 of 8 rows of the samples for KL .* are not finite"):
        kl_to_checkerboard(samples)


@pytest.mark.parametrize("shape", [(5, 3), (5,), (0, 2)])
def test_the_divergence_needs_points_of_the_plane(shape):
    with pytest.raises(ValueError, match="shape|has 0 samples"):
        kl_to_checkerboard(np.zeros(shape))


# Wasserstein and the distance of maps -------------------------------------------------------------------


def test_w2_of_a_translation_is_its_length_squared():
    cloud = randn(60, 2, seed=1).numpy()
    assert squared_w2(cloud, cloud[::-1] + np.array([0.3, -0.4])) == pytest.approx(0.25, abs=1e-12)
    assert squared_w2(cloud, np.roll(cloud, 7, axis=0)) == pytest.approx(0, abs=1e-15)


def test_w2_on_a_line_pairs_sorted_points():
    a, b = randn(80, 1, seed=2).numpy(), 2 * randn(80, 1, seed=3).numpy()
    assert squared_w2(a, b) == pytest.approx(np.mean((np.sort(a, 0) - np.sort(b, 0)) ** 2), abs=1e-12)


@pytest.mark.parametrize("shapes", [((5, 2), (6, 2)), ((5, 2), (5, 3)), ((5,), (5,))])
def test_w2_needs_clouds_of_one_shape(shapes):
    with pytest.raises(ValueError, match="one shape"):
        squared_w2(*map(np.zeros, shapes))


@pytest.mark.parametrize("distance", [squared_w2, map_distance])
def test_distances_need_points_that_are_finite_numbers(distance):
    cloud = randn(5, 2, seed=1).numpy()
    with pytest.raises(ValueError, match="1 of 5 rows of the second cloud are not finite"):
        distance(cloud, np.where(np.arange(5)[:, None] == 3, np.nan, cloud))
    with pytest.raises(ValueError, match="the first cloud has 0 samples"):
        distance(cloud[:0], cloud[:0])
    with pytest.raises(ValueError, match="the first cloud must be real numbers, and complex128 is no"):
        distance(cloud * 1j, cloud)


def test_the_distance_of_maps_pairs_points_by_their_noise():
    a = randn(50, 2, seed=4).numpy()
    assert map_distance(a, a + np.array([3.0, 4.0])) == pytest.approx(5, abs=1e-12)
    b = a.copy()
    b[0] += np.array([1.0, 1.0])
    assert map_distance(a, b) == pytest.approx(sqrt(2 / 50), abs=1e-12)
    assert map_distance(a, np.roll(a, 1, axis=0)) > 1
    with pytest.raises(ValueError, match="same noise"):
        map_distance(a, a[:5])
