"""The Fréchet distance of two Gaussians: with Inception features, FID (arXiv 1706.08500, eq. 6)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.linalg.lapack import dpstrf, dsygst

from .features import as_features


@dataclass(frozen=True)
class Moments:
    """Mean (dim,) and covariance (dim, dim) of `count` samples, float64.

    Raises ValueError unless they fit each other, are finite, and the covariance is symmetric.
    """

    mean: np.ndarray
    covariance: np.ndarray
    count: int

    def __post_init__(self) -> None:
        dim = self.mean.shape
        if len(dim) != 1 or self.covariance.shape != dim * 2:
            shapes = f"a mean {dim} and a covariance {self.covariance.shape}"
            raise ValueError(f"{shapes} are not moments of one sample")
        if not (np.isfinite(self.mean).all() and np.isfinite(self.covariance).all()):
            raise ValueError(f"the moments of {self.count} samples are not finite: mend their features")
        if np.abs(self.covariance - self.covariance.T).max() > 1e-9 * np.abs(self.covariance).max():
            raise ValueError(f"the covariance of {self.count} samples is not symmetric: compute it again")


def moments(features: np.ndarray, rank_deficient: bool = False) -> Moments:
    """Mean and covariance (divided by count - 1, as clean-fid does) of features (count, dim), in float64.

    Raises ValueError for NaN, less than two samples and, unless `rank_deficient`, up to dim samples, whose
    covariance is singular.
    """
    values = as_features(features, "the features")
    count, dim = values.shape
    if count <= dim and not rank_deficient:
        singular = f"{count} samples of {dim} features have a singular covariance and a biased distance"
        raise ValueError(f"{singular}: measure more than {dim}, or pass rank_deficient=True if you mean it")
    mean = values.mean(0)
    centred = values - mean
    return Moments(mean, centred.T @ centred / (count - 1), count)


def _root(covariance: np.ndarray) -> tuple[np.ndarray, np.ndarray, int]:
    """`lower` (dim, dim), `order` and `rank`: C[order][:, order] = L L^T, L the first columns of `lower`.

    Cholesky with pivoting, for singular matrices too: it stops where only rounding error is left.
    """
    # transposed, which changes nothing in a symmetric matrix and spares LAPACK, columns first, a copy
    lower, pivots, rank, _ = dpstrf(covariance.T, lower=1)
    return np.tril(lower), pivots - 1, rank


def _trace_of_root(a: np.ndarray, b: np.ndarray) -> float:
    """tr (a b)^{1/2} for covariances a = A A^T, b = B B^T: the sum of the singular values of A^T B.

    The eigenvalues of A^T b A are their squares, found in a third of the time; but a square loses half of the
    digits of what is small, so where the ninth digit is in doubt the singular values themselves are computed.
    """
    lower, order, rank = _root(a)
    if rank == 0:
        return 0.0
    product, _ = dsygst(b[np.ix_(order, order)].T, lower, itype=2, lower=1)
    squares = np.linalg.eigvalsh(product[:rank, :rank])
    float64 = np.finfo(np.float64)
    noise = max(float64.eps * np.linalg.norm(a) * np.linalg.norm(b), float64.tiny)
    # the roots' errors, noise / root each, are as likely up as down: they add in squares
    total, doubt = np.sqrt(squares.clip(0)).sum(), np.linalg.norm(noise / np.sqrt(squares.clip(noise)))
    if doubt < 1e-9 * total:
        return float(total)
    # A and B, (dim, rank), with A A^T = C: the rows of L in the order of C
    roots = (lower, order, rank), _root(b)
    one, other = (np.take(lower[:, :rank], np.argsort(order), axis=0) for lower, order, rank in roots)
    return float(np.linalg.svd(one.T @ other, compute_uv=False).sum())


def frechet(a: Moments, b: Moments) -> float:
    """|m_a - m_b|^2 + tr C_a + tr C_b - 2 tr (C_a C_b)^{1/2}: FID, in squared units of the features.

    Right to nine digits at any rank. Raises ValueError for moments of different dimension.
    """
    if a.mean.shape != b.mean.shape:
        dims = f"{len(a.mean)} and {len(b.mean)} features"
        raise ValueError(f"moments of {dims} do not compare: use one extractor for both")
    traces = np.square(a.mean - b.mean).sum() + np.trace(a.covariance) + np.trace(b.covariance)
    # the lower rank first: A^T b A has then no eigenvalues that are zero but for rounding
    few, many = (a, b) if a.count <= b.count else (b, a)
    distance = traces - 2 * _trace_of_root(few.covariance, many.covariance)
    # equal moments may come out at -1e-16
    return max(0.0, float(distance))


def two_parts(features: np.ndarray, size: int, seed: int) -> float:
    """FID between two disjoint random parts, `size` each, of features (count, dim): the truth is zero."""
    if 2 * size > len(features):
        needed = f"two disjoint parts of {size} samples need {2 * size}"
        raise ValueError(f"{needed} and there are {len(features)}: ask for fewer")
    order = np.random.default_rng(seed).permutation(len(features))
    return frechet(moments(features[order[:size]]), moments(features[order[size : 2 * size]]))


def self_checks(
    features: np.ndarray,
    noise: Callable[[int], np.ndarray],
    sizes: Sequence[int],
    repeats: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """FID of the data's features (count, dim) where it is known, one row each: check, samples, repeat, fid.

    "split in two": the halves of the data against each other, close to zero.
    "noise": the data against `noise(count)`, the features of as many images of noise: large.
    "bias": disjoint parts of the data of each of `sizes`; the truth is zero, so this is FID's bias and falls
    as 1 / samples. `samples` is the size of each side. Raises ValueError for NaN, for sizes that repeat, do
    not fit into the data twice or do not exceed the features' dimension, and for less than one repeat.
    """
    if repeats < 1 or len(set(sizes)) < len(sizes):
        found = f"{repeats} repeats of parts of {', '.join(map(str, sizes))}"
        raise ValueError(f"{found} check nothing: give one repeat or more, and sizes that differ")
    features = as_features(features, "the data's features")
    half = len(features) // 2
    rows = [("split in two", half, k, two_parts(features, half, seed + k)) for k in range(repeats)]
    rows.append(("noise", len(features), 0, frechet(moments(features), moments(noise(len(features))))))
    rows += [("bias", size, k, two_parts(features, size, seed + k)) for size in sizes for k in range(repeats)]
    return pd.DataFrame(rows, columns=["check", "samples", "repeat", "fid"])
