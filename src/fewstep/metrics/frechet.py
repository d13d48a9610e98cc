"""The Fréchet distance of two Gaussians: with Inception features, FID (arXiv 1706.08500, eq. 6)."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
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


class _Root(NamedTuple):
    """C[order][:, order] = L L^T, where `lower` (dim, dim) holds L in its first `rank` columns."""

    lower: np.ndarray
    order: np.ndarray
    rank: int

    def thin(self) -> np.ndarray:
        """A (dim, rank) with A A^T = C."""
        root = np.empty((len(self.order), self.rank))
        root[self.order] = self.lower[:, : self.rank]
        return root


def _root(covariance: np.ndarray) -> _Root:
    """Cholesky with pivoting, for singular matrices too: it stops where only rounding error is left."""
    # transposed, which changes nothing in a symmetric matrix and spares LAPACK, columns first, a copy
    lower, pivots, rank, _ = dpstrf(covariance.T, lower=1)
    return _Root(np.tril(lower), pivots - 1, rank)


def _trace_of_root(a: np.ndarray, b: np.ndarray) -> float:
    """tr (a b)^{1/2} for covariances a = A A^T, b = B B^T: the sum of the singular values of A^T B.

    The eigenvalues of A^T b A are their squares, found in a third of the time; but a square loses half of the
    digits of what is small, so where the ninth digit is in doubt the singular values themselves are computed.
    """
    root = _root(a)
    if root.rank == 0:
        return 0.0
    product, _ = dsygst(b[np.ix_(root.order, root.order)].T, root.lower, itype=2, lower=1)
    squares = np.linalg.eigvalsh(product[: root.rank, : root.rank])
    float64 = np.finfo(np.float64)
    noise = max(float64.eps * np.linalg.norm(a) * np.linalg.norm(b), float64.tiny)
    # the roots' errors, noise / root each, are as likely up as down: they add in squares
    total, doubt = np.sqrt(squares.clip(0)).sum(), np.linalg.norm(noise / np.sqrt(squares.clip(noise)))
    if doubt < 1e-9 * total:
        return float(total)
    return float(np.linalg.svd(root.thin().T @ _root(b).thin(), compute_uv=False).sum())


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
