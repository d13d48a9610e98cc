"""Sets of features by pairs: KID; improved precision and recall (Kynkäänniemi et al., arXiv 1904.06991)."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from .features import as_features, check_same_dim

BLOCK = 1024  # rows of a matrix of pairs at a time: 50,000 squared would not fit into memory
ROUNDING = 1e-12  # times |x|^2, the error of a squared distance |x|^2 - 2 x.y + |y|^2


def _kernel_sum(x: np.ndarray, y: np.ndarray) -> float:
    """The sum of k(x_i, y_j) = (x_i . y_j / dim + 1)^3 over all pairs, x (n, dim) and y (m, dim)."""
    blocks = (x[k : k + BLOCK] @ y.T for k in range(0, len(x), BLOCK))
    return sum(float(((block / x.shape[1] + 1) ** 3).sum()) for block in blocks)


def _within(x: np.ndarray) -> float:
    """The mean of k(x_i, x_j) over pairs of different samples: a sample paired with itself would bias it."""
    itself = float(((np.square(x).sum(1) / x.shape[1] + 1) ** 3).sum())
    return (_kernel_sum(x, x) - itself) / (len(x) * (len(x) - 1))


def squared_mmd(a: np.ndarray, b: np.ndarray) -> float:
    """E k(a, a') + E k(b, b') - 2 E k(a, b), all pairs of a (n, dim), b (m, dim): arXiv 1801.01401, eq. 4.

    Unbiased for any number of samples, so it may be negative where the distributions are equal.
    """
    return _within(a) + _within(b) - 2 * _kernel_sum(a, b) / (len(a) * len(b))


def kid(
    a: np.ndarray, b: np.ndarray, subsets: int | None = 100, subset_size: int = 1000, seed: int = 0
) -> float:
    """KID of features a (n, dim), b (m, dim) (Bińkowski et al.): squared MMD, a mean over random subsets.

    `subsets` None measures all pairs once. Else subsets, and the number, are those of clean-fid's
    `kernel_distance(a, b, subsets, subset_size)` after `np.random.seed(seed)`. Raises ValueError for NaN,
    less than two samples or different dimensions.
    """
    a, b = as_features(a, "the first set of features"), as_features(b, "the second set of features")
    check_same_dim(a, b)
    if subsets is None:
        return squared_mmd(a, b)
    if subsets < 1 or subset_size < 2:
        found = f"{subsets} of {subset_size}"
        raise ValueError(f"KID needs at least one subset of at least two samples, not {found}")
    random, size = np.random.RandomState(seed), min(len(a), len(b), subset_size)
    total = 0.0
    for _ in range(subsets):
        # clean-fid draws from the second set first
        y = b[random.choice(len(b), size, replace=False)]
        total += squared_mmd(a[random.choice(len(a), size, replace=False)], y)
    return total / subsets


@dataclass(frozen=True)
class PrecisionRecall:
    """The share of generated samples within the data's manifold, and of data within the generated one's."""

    precision: float
    recall: float


def _squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """Blocks of rows of |x_i - y_j|^2, x (n, dim), y (m, dim), and which rows they are."""
    size = np.square(y).sum(1)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x)))
        yield rows, np.square(x[rows]).sum(1)[:, None] + size - 2 * (x[rows] @ y.T)


def _squared_radii(x: np.ndarray, k: int) -> np.ndarray:
    """(n,): the squared distance of each of x (n, dim) to its k-th nearest neighbour, itself not counted."""
    radii = np.empty(len(x))
    for rows, squares in _squared_distances(x, x):
        squares[np.arange(len(squares)), np.arange(rows.start, rows.stop)] = np.inf
        radii[rows] = np.partition(squares, k - 1, axis=1)[:, k - 1]
    return radii


@dataclass(frozen=True)
class Manifold:
    """The union of the balls about samples that reach to their k-th nearest neighbours among them.

    centre (dim,) is the samples' mean, subtracted in `points` (n, dim); squared_radii (n,).
    """

    centre: np.ndarray
    points: np.ndarray
    squared_radii: np.ndarray
    k: int


def manifold(data: np.ndarray, k: int = 3) -> Manifold:
    """The manifold of `data` (n, dim), to measure against repeatedly; raises as `precision_recall`."""
    if k < 1:
        raise ValueError(f"precision and recall need k >= 1 nearest neighbours, not {k}")
    data = as_features(data, "the data's features", k + 1)
    # a common shift changes no distance and keeps |x|^2, and with it the rounding, small
    centre = data.mean(0)
    return Manifold(centre, data - centre, _squared_radii(data - centre, k), k)


def _covered(points: np.ndarray, centres: np.ndarray, squared_radii: np.ndarray, slack: float) -> float:
    """The share of `points` in at least one closed ball about a centre."""
    reach = squared_radii + slack
    blocks = _squared_distances(points, centres)
    return sum(int((squares <= reach).any(1).sum()) for _, squares in blocks) / len(points)


def precision_recall(data: np.ndarray | Manifold, generated: np.ndarray, k: int = 3) -> PrecisionRecall:
    """Precision and recall of `generated` (m, dim) against `data` (n, dim): arXiv 1904.06991, eq. 1 and 2.

    Precision is the share of generated samples in the data's `Manifold`, recall that of data in the generated
    one's; k = 3 in the paper. `data` may be its `manifold`, whose k then counts. Raises ValueError for NaN,
    different dimensions or less than k + 1 samples.
    """
    real = data if isinstance(data, Manifold) else manifold(data, k)
    generated = as_features(generated, "the generated features", real.k + 1)
    check_same_dim(real.points, generated)
    generated = generated - real.centre
    slack = ROUNDING * max(np.square(real.points).sum(1).max(), np.square(generated).sum(1).max())
    precision = _covered(generated, real.points, real.squared_radii, slack)
    recall = _covered(real.points, generated, _squared_radii(generated, real.k), slack)
    return PrecisionRecall(precision, recall)
