"""KL from the checkerboard to samples, by the protocol of arXiv 2505.18825."""

from dataclasses import dataclass
from math import log

import numpy as np

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

    The histogram of bins x bins cells on [-1, 1]^2 is divided by *all* samples, so those outside are lost
    mass. An empty cell that carries target mass, of which `empty` is the number, counts as half a sample,
    and as half a sample among all: shares add up to one. At a perfect sampler's `count`, noise alone makes
    about cells / (2 count) of it; so ValueError is raised for less than two samples to a cell with target
    mass, as it is for samples that are not finite or not (count, 2).
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
