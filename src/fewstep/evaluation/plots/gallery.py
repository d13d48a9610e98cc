"""Samples of any kind as the picture that suits them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .images import grid
from .picture import Picture
from .samples import densities


def gallery(panels: Mapping[str, Mapping[str, np.ndarray]], title: str) -> Picture:
    """Densities of points (count, 2), or the first eight of images (count, channels, height, width).

    One row a key, one column an inner key "N = ...".
    """
    first = next(iter(next(iter(panels.values())).values()))
    return densities(panels, title) if first.ndim == 2 else grid(panels, title)
