"""Samples of any kind as the picture that suits them."""

from .images import grid
from .picture import Panels, Picture
from .samples import densities


def gallery(panels: Panels, title: str) -> Picture:
    """`densities` of points (count, 2), or a `grid` of images (count, channels, height, width)."""
    first = next(iter(next(iter(panels.values())).values()))
    return densities(panels, title) if first.ndim == 2 else grid(panels, title)
