"""Metrics of points: KL from the checkerboard, squared Wasserstein-2, and maps fed the same noise."""

from dataclasses import dataclass
from math import log

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from ..flows.exact.checkerboard import EDGES, FILLED, SIDE
from .features import as_features

DENSITY = 1 / (len(FILLED) * SIDE**2)
# samples to a cell with target mass, on average, below which noise outweighs what is measured
FEWEST = 2


@dataclass(frozen=True)
class HistogramKL:
    """KL(target || histogram) and the bins that carry target mass but caught no sample."""

    value: float
    empty: int


def _overlap(bins: int) -> np.ndarray:
    """The filled area of every bin of a bins x bins grid on [-1, 1]^2, (bins, bins), exactly."""
    grid = np.linspace(-1, 1, bins + 1)
    low, high = grid[:-1, None], grid[1:, None]
    length = np.clip(np.minimum(high, EDGES[1:]) - np.maximum(low, EDGES[:-1]), 0, None)
    return sum((np.outer(length[:, i], length[:, j]) for i, j in FILLED), start=np.zeros((bins, bins)))


def kl_to_checkerboard(samples: np.ndarray, bins: int = 50) -> HistogramKL:
    """KL(checkerboard || histogram of `samples`), samples (count, 2), by exact quadrature; never negative.

    By the protocol of arXiv 2505.18825. The histogram of bins x bins cells on [-1, 1]^2 is divided by *all*
    samples, so those outside are lost mass. An empty cell that carries target mass, of which `empty` is the
    number, counts as half a sample, and as half a sample among all: shares add up to one. At a perfect
    sampler's `count`, noise alone makes about cells / (2 count) of it; so ValueError is raised for less than
    two samples to a cell with target mass, as it is for samples that are not finite or not (count, 2).
    """
    samples = as_features(samples, "the samples for KL to the checkerboard", least=1)
    if samples.shape[1] != 2:
        raise ValueError(f"KL to the checkerboard needs samples of shape (count, 2), not {samples.shape}")
    area = _overlap(bins)
    mass = area > 1e-12
    if len(samples) < (least := FEWEST * int(mass.sum())):
        found = f"KL to the checkerboard in {bins}x{bins} bins means nothing with {len(samples):,} samples"
        raise ValueError(f"{found}: draw {least:,} or more (`sampling.count`), or lower `metrics.bins`")
    counts, _, _ = np.histogram2d(samples[:, 0], samples[:, 1], bins=bins, range=[[-1, 1], [-1, 1]])
    empty = mass & (counts == 0)
    total = len(samples) + empty.sum() / 2
    estimate = np.where(empty, 0.5, counts) / (total * (2 / bins) ** 2)
    value = (area[mass] * DENSITY * (log(DENSITY) - np.log(estimate[mass]))).sum()
    return HistogramKL(float(value), int(empty.sum()))


def _clouds(a: np.ndarray, b: np.ndarray, what: str) -> tuple[np.ndarray, np.ndarray]:
    """Both as finite float64 matrices (count, dim) of one shape, one row at least; else ValueError."""
    if np.shape(a) != np.shape(b) or np.ndim(a) != 2:
        raise ValueError(f"{what} of one shape (count, dim), not {np.shape(a)} and {np.shape(b)}")
    return as_features(a, "the first cloud", least=1), as_features(b, "the second cloud", least=1)


def squared_w2(a: np.ndarray, b: np.ndarray) -> float:
    """W_2^2 between two point clouds of equal size, each (count, dim): the optimal assignment, exactly.

    It is the distance of the *samples*: two draws of `count` points from one distribution are not at zero.
    Raises ValueError for clouds of different shape, empty ones, and points that are not finite.
    """
    cost = cdist(*_clouds(a, b, "squared W2 needs clouds"), "sqeuclidean")
    return float(cost[linear_sum_assignment(cost)].mean())


def map_distance(a: np.ndarray, b: np.ndarray) -> float:
    """sqrt(E |a - b|^2) of two maps' images of one noise, (count, dim) each; ValueError as `squared_w2`."""
    a, b = _clouds(a, b, "the L2 distance needs images of the same noise")
    return float(np.sqrt(np.square(a - b).sum(1).mean()))
