"""Samples of any kind as the picture that suits them."""

from collections.abc import Mapping

import numpy as np

from .images import grid
from .picture import Picture
from .samples import densities


def gallery(panels: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Picture:
    """`densities` of points (count, 2), or a `grid` of images (count, channels, height, width)."""
    first = next(iter(next(iter(panels.values())).values()))
    return densities(panels, title) if first.ndim == 2 else grid(panels, title)
