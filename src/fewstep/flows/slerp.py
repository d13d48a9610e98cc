"""Paths between Gaussian noises on great circles, where the norm is that of noise all the way."""

import numpy as np
import torch
from torch import Tensor

PARALLEL = 1e-3  # radians, below which the great circle is the straight line


def slerp(a: np.ndarray | Tensor, b: np.ndarray | Tensor, steps: int) -> Tensor:
    """`steps` noises from `a` to `b`, (steps, *shape), by equal angles; the norm goes evenly from end to end.

    `a` and `b`, of one shape, are the exact ends of the path. Nearly parallel ones, or a zero, are joined by
    the straight line. Raises ValueError for fewer than 2 steps, different shapes, and opposite ends.
    """
    a, b = torch.as_tensor(a), torch.as_tensor(b)
    if steps < 2:
        raise ValueError(f"a path from one noise to another has 2 steps or more, not {steps}")
    if a.shape != b.shape:
        raise ValueError(f"a path joins noises of one shape, not {tuple(a.shape)} and {tuple(b.shape)}")
    share = torch.linspace(0, 1, steps, dtype=a.dtype, device=a.device).reshape(-1, *[1] * a.ndim)
    norms = a.norm(), b.norm()
    path = (1 - share) * a + share * b
    if min(norms) > 0:
        u, v = a / norms[0], b / norms[1]
        # exact at small angles too, where the arc cosine is not
        angle = 2 * torch.atan2((u - v).norm(), (u + v).norm())
        if angle > torch.pi - PARALLEL:
            raise ValueError("the two noises are opposite: more than one great circle joins them")
        if angle > PARALLEL:
            direction = (((1 - share) * angle).sin() * u + (share * angle).sin() * v) / angle.sin()
            path = ((1 - share) * norms[0] + share * norms[1]) * direction
    path[0], path[-1] = a, b
    return path
