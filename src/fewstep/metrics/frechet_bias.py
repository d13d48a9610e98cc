"""The bias of a Fréchet distance with the number of samples (Chong and Forsyth, arXiv 1911.07023).

Of n samples it is too large by about c / n, where c depends on the generator: two generators at the same n do
not share it.
"""

import numpy as np

from .features import as_features
from .frechet import Moments, frechet, moments


def of_samples(features: np.ndarray, reference: Moments) -> float:
    """The Fréchet distance of features (count, dim) from the reference, also of no more than dim samples.

    The covariance is singular then, and the distance is right for that covariance all the same.
    """
    return frechet(moments(features, rank_deficient=True), reference)


def of_half_the_samples(features: np.ndarray, reference: Moments) -> float:
    """The mean of the distances of the first and of the second half of features (count, dim).

    Raises ValueError for less than four samples.
    """
    values = as_features(features, "the features", least=4)
    half = len(values) // 2
    parts = values[:half], values[half : 2 * half]
    return (of_samples(parts[0], reference) + of_samples(parts[1], reference)) / 2


def extrapolated(whole: float, half: float) -> float:
    """The distance at infinitely many samples, from those at n and at n / 2.

    Where d(n) = d + c / n, it is d = 2 d(n) - d(n / 2). It may be negative where d is nearly zero.
    """
    return 2 * whole - half
