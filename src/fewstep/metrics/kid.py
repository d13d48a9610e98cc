"""KID, the kernel distance of features (Bińkowski et al., arXiv 1801.01401)."""

import numpy as np

from .features import as_features, check_same_dim

BLOCK = 1024  # rows of a kernel matrix at a time: 50,000 squared would not fit into memory


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
    """KID between features a (n, dim) and b (m, dim): the squared MMD, averaged over random subsets.

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
