"""Distances between samples: squared Wasserstein-2, and between maps fed the same noise."""

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def squared_w2(a: np.ndarray, b: np.ndarray) -> float:
    """W_2^2 between two point clouds of equal size, each (count, dim): the optimal assignment, exactly.

    It is the distance of the *samples*: two draws of `count` points from one distribution are not at zero.
    Raises ValueError for clouds of different shape.
    """
    if a.shape != b.shape or a.ndim != 2:
        raise ValueError(f"squared W2 needs clouds of one shape (count, dim), not {a.shape} and {b.shape}")
    cost = cdist(a, b, "sqeuclidean")
    return float(cost[linear_sum_assignment(cost)].mean())


def map_distance(a: np.ndarray, b: np.ndarray) -> float:
    """sqrt(E |a - b|^2) of two maps' images of the same noise, each (count, dim): their L2 distance."""
    if a.shape != b.shape:
        raise ValueError(f"the L2 distance needs images of the same noise, not {a.shape} and {b.shape}")
    return float(np.sqrt(np.square(a.astype(np.float64) - b).sum(1).mean()))
