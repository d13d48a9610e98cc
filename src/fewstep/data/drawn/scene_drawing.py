"""Scenes of a few flat shapes, 32x32 RGB, drawn from whole numbers and a little jitter.

A scene is a background and things, each a shape of a colour and a size at a place: a quarter of the picture,
which it fills but for a margin that the jitter uses up, or the centre, which overlaps with all of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from . import between, cover, planes, to_images

SIDE = 32
CHUNK = 64  # scenes drawn at a time: few enough for the processor's cache

SHAPES = ("circle", "square", "triangle", "cross", "ring")
COLOURS = ("red", "yellow", "green", "cyan", "blue", "pink")
SIZES = ("small", "large")
PLACES = ("top left", "top right", "bottom left", "bottom right", "centre")
BACKGROUNDS = ("white", "grey", "black", "brown")
CENTRE = PLACES.index("centre")

# x to the right and y down of the middle of each place, in pixels from the picture's corner
MIDDLES = ((8, 8), (24, 8), (8, 24), (24, 24), (16, 16))
HALF = 8  # half the side of the square that a place is: nothing drawn there reaches beyond
# half the width of a thing of each size, and by how many pixels and parts of one jitter moves and changes it
RADII, MOVED, SCALED = (4.6, 6.5), 1.0, 0.05
COLOUR_LEVELS = np.array([  # red, green and blue in [0, 1], and by which part jitter changes them
    [0.86, 0.13, 0.13], [0.96, 0.83, 0.12], [0.13, 0.64, 0.22],
    [0.15, 0.80, 0.88], [0.14, 0.28, 0.90], [0.95, 0.40, 0.74],
])  # fmt: skip
BACKGROUND_LEVELS = np.array([[0.94, 0.94, 0.94], [0.52, 0.52, 0.52], [0.07, 0.07, 0.07], [0.42, 0.27, 0.15]])
SHADED, FADED = 0.07, 0.05

# one number in [0, 1) for each, of the thing at each place and of the background
OF_THINGS, OF_BACKGROUNDS = ("right", "down", "size", "shade"), ("shade", "gradient_right", "gradient_down")
JITTERS = len(PLACES) * len(OF_THINGS) + len(OF_BACKGROUNDS)


@dataclass(frozen=True, order=True)
class Thing:
    """One shape, as indices into SHAPES, COLOURS, SIZES and PLACES; things are ordered by place."""

    place: int
    shape: int
    colour: int
    size: int


@dataclass(frozen=True)
class Scene:
    """A background, as an index into BACKGROUNDS, and things at different places, in the order of PLACES."""

    background: int
    things: tuple[Thing, ...]

    @property
    def pairs(self) -> tuple[tuple[int, int], ...]:
        """Colour and shape of each thing."""
        return tuple((thing.colour, thing.shape) for thing in self.things)


def _cross(x: np.ndarray, y: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """Two bars, upright and level."""
    wide, high, thick = np.abs(x), np.abs(y), 0.34 * radius
    return np.minimum(np.maximum(wide - radius, high - thick), np.maximum(wide - thick, high - radius))


# signed distances in pixels, negative inside, of points from SHAPES about the origin, `r` wide each way
DISTANCES = (
    lambda x, y, r: np.sqrt(x * x + y * y) - r,
    lambda x, y, r: np.maximum(np.abs(x), np.abs(y)) - 0.94 * r,
    # upright, as wide as it is high; bounded, as beyond a corner the distance from its two lines is too small
    lambda x, y, r: np.maximum(np.maximum(np.abs(x), np.abs(y)) - r, (2 * np.abs(x) - y - r) / np.sqrt(5.0)),
    _cross,
    lambda x, y, r: np.abs(np.sqrt(x * x + y * y) - 0.75 * r) - 0.25 * r,
)


def _backgrounds(which: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    """The canvas (3, count, 32, 32) of backgrounds (count,): flat but for a shade and a faint slope."""
    shade, right, down = jitter.T
    along = (np.arange(SIDE, dtype=np.float64) - (SIDE - 1) / 2) / SIDE
    across, below = along[None, None, :], along[None, :, None]
    slope = between(right, -FADED, FADED) * across + between(down, -FADED, FADED) * below
    return planes(BACKGROUND_LEVELS[which]) + (between(shade, -FADED, FADED) / 2 + slope)


def _put(canvas: np.ndarray, place: int, things: np.ndarray, jitter: np.ndarray) -> None:
    """Draw `things` (count, 3), rows of shape or -1, colour and size, at `place` of the canvas."""
    across, below = MIDDLES[place]
    part = canvas[:, :, below - HALF : below + HALF, across - HALF : across + HALF]
    steps = np.arange(2 * HALF, dtype=np.float64) - (2 * HALF - 1) / 2
    for shape, distance in enumerate(DISTANCES):
        some = np.flatnonzero(things[:, 0] == shape)
        right, down, size, shade = jitter[some].T
        x = steps[None, None, :] - between(right, -MOVED, MOVED)
        y = steps[None, :, None] - between(down, -MOVED, MOVED)
        radius = np.array(RADII)[things[some, 2]][:, None, None] * between(size, 1 - SCALED, 1 + SCALED)
        colour = planes(COLOUR_LEVELS[things[some, 1]]) * between(shade, 1 - SHADED, 1 + SHADED)
        ground = part[:, some]
        part[:, some] = ground + (colour - ground) * cover(distance(x, y, radius))


def _table(scenes: Sequence[Scene]) -> np.ndarray:
    """Shape or -1, colour and size of what is at each place of each scene, (scenes, places, 3)."""
    table = np.zeros((len(scenes), len(PLACES), 3), np.int64)
    table[:, :, 0] = -1
    for row, scene in zip(table, scenes):
        for thing in scene.things:
            row[thing.place] = thing.shape, thing.colour, thing.size
    return table


def render(scenes: Sequence[Scene], jitter: np.ndarray) -> np.ndarray:
    """Pictures of `scenes`, (count, 3, 32, 32), uint8, moved and shaded by `jitter` (count, JITTERS).

    Each depends on its scene and row alone; jitter of 0.5 is none. What is at the centre hides the others.
    """
    count, places = len(scenes), len(PLACES)
    table, backgrounds = _table(scenes), np.array([scene.background for scene in scenes], np.int64)
    of_things = jitter[:, : -len(OF_BACKGROUNDS)].reshape(count, places, len(OF_THINGS))
    images = np.empty((count, 3, SIDE, SIDE), np.uint8)
    for k in range(0, count, CHUNK):
        chunk = slice(k, k + CHUNK)
        canvas = _backgrounds(backgrounds[chunk], jitter[chunk, -len(OF_BACKGROUNDS) :])
        for place in range(places):
            _put(canvas, place, table[chunk, place], of_things[chunk, place])
        images[chunk] = to_images(canvas)
    return images
