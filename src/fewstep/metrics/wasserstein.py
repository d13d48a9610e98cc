"""Distances between samples: squared Wasserstein-2, and between maps fed the same noise."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist

from .features import as_features


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
    """sqrt(E |a - b|^2) of two maps' images of the same noise, each (count, dim): their L2 distance.

    Raises ValueError as `squared_w2`.
    """
    a, b = _clouds(a, b, "the L2 distance needs images of the same noise")
    return float(np.sqrt(np.square(a - b).sum(1).mean()))
