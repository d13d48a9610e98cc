"""Generators: pictures and captions drawn from numbers, the same bytes on every machine, and what they share.

Only + - * / and square roots, comparisons, minimum and maximum of float64 are used, one element at a time:
IEEE 754 fixes these to the last bit, where a sine or a sum over many numbers differs between machines.
"""

import numpy as np


def clip(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """`values`, none below `low` or above `high`."""
    return np.minimum(np.maximum(values, low), high)


def cover(distance: np.ndarray) -> np.ndarray:
    """How much of a pixel is covered by a shape at this signed distance: 1 well inside, 0 well outside."""
    return clip(0.5 - distance, 0.0, 1.0)


def ellipse(x: np.ndarray, y: np.ndarray, wide: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
    """Distance of (x, y), to first order, from the ellipse with these half axes; negative inside."""
    u, v = x / wide, y / high
    square = u * u + v * v
    u, v = u / wide, v / high
    return (square - 1) / np.maximum(2 * np.sqrt(u * u + v * v), 1e-6)


def between(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Numbers in [0, 1), (count,), as numbers from `low` to `high`, (count, 1, 1)."""
    return low + (high - low) * values[:, None, None]


def planes(colours: np.ndarray) -> np.ndarray:
    """Colours (count, 3) as planes (3, count, 1, 1)."""
    return np.ascontiguousarray(colours.T)[:, :, None, None]


def to_images(canvas: np.ndarray) -> np.ndarray:
    """A canvas (3, count, height, width) in [0, 1] as images (count, 3, height, width), uint8."""
    return (clip(canvas, 0.0, 1.0) * 255 + 0.5).astype(np.uint8).transpose(1, 0, 2, 3)
