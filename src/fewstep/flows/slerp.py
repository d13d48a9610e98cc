"""Paths between noises.

Gaussian noise of d dimensions has norm about sqrt(d), and two such noises are about orthogonal: halfway along
the straight line the norm is sqrt(d / 2), which no noise has. On the great circle it is typical all the way.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# below this angle, in radians, the great circle cannot be told from the straight line
PARALLEL = 1e-3


def slerp(a: np.ndarray | Tensor, b: np.ndarray | Tensor, steps: int) -> Tensor:
    """`steps` noises from `a` to `b`, (steps, *shape), by equal angles; the norm goes evenly from end to end.

    `a` and `b` are one noise each, floats of equal shape; the first and the last of the path are exactly
    these. Nearly parallel ones, or a zero, are joined by the straight line. Raises ValueError for fewer than
    2 steps, for different shapes, and for opposite ends, which no great circle joins more than another.
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
            raise ValueError(
                "the two noises are opposite: every great circle through one passes through the other"
            )
        if angle > PARALLEL:
            direction = (((1 - share) * angle).sin() * u + (share * angle).sin() * v) / angle.sin()
            path = ((1 - share) * norms[0] + share * norms[1]) * direction
    path[0], path[-1] = a, b
    return path
