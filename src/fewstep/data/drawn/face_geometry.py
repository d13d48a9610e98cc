"""What a little face is: factors in [0, 1), and the places, light and colours that follow from them."""

import numpy as np

from . import between, clip, cover, ellipse, planes

SIDE = 32

FACTORS = (
    "right", "down", "size", "turn", "nod", "tilt", "face_width", "face_height", "jaw", "skin", "blush",
    "nose", "hair_style", "hair_colour", "hair_shade", "hair_volume", "hair_length", "parting", "beard",
    "beard_length", "eye_size", "eye_opening", "eye_distance", "eye_colour", "gaze_right", "gaze_down",
    "brow_height", "brow_slant", "brow_weight", "mouth", "mouth_opening", "mouth_width", "smile", "lips",
    "glasses", "glasses_size", "glasses_colour", "clothes_hue", "clothes_shade", "collar", "background_hue",
    "background_shade", "gradient", "gradient_right", "light_right", "light_down", "light",
)  # fmt: skip

HAIR = ("shaved", "short", "bob", "long", "curly", "bun")
# how many wear glasses, open the mouth
GLASSES, OPEN = 0.5, 0.5

# red, green and blue in [0, 1]
SKIN = np.array([
    [1.0, 0.89, 0.80], [0.97, 0.80, 0.67], [0.89, 0.69, 0.52],
    [0.76, 0.55, 0.38], [0.58, 0.39, 0.26], [0.40, 0.26, 0.18],
])  # fmt: skip
# the last two are dyed, which few are
HAIR_COLOURS = np.array([
    [0.10, 0.08, 0.09], [0.26, 0.15, 0.09], [0.44, 0.26, 0.13], [0.66, 0.30, 0.12], [0.80, 0.58, 0.22],
    [0.93, 0.80, 0.42], [0.70, 0.70, 0.73], [0.10, 0.08, 0.09], [0.26, 0.15, 0.09], [0.44, 0.26, 0.13],
    [0.66, 0.30, 0.12], [0.80, 0.58, 0.22], [0.85, 0.36, 0.52], [0.20, 0.45, 0.62],
])  # fmt: skip


def choice(values: np.ndarray, count: int) -> np.ndarray:
    """Factors in [0, 1) as whole numbers 0..count-1."""
    return np.minimum((values * count).astype(np.int64), count - 1)


def along(palette: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Planes of the colours at `values` in [0, 1) along a palette, each mixed from the two nearest."""
    place = values * (len(palette) - 1)
    below = np.minimum(place.astype(np.int64), len(palette) - 2)
    part = (place - below)[:, None]
    return planes(palette[below] * (1 - part) + palette[below + 1] * part)


def hue(values: np.ndarray) -> np.ndarray:
    """Planes of the pure colours at `values` in [0, 1) around the colour circle."""
    turns = values[:, None] + np.array([0.0, 2 / 3, 1 / 3])
    return planes(clip(np.abs((turns - np.floor(turns)) * 6 - 3) - 1, 0.0, 1.0))


class Faces:
    """Some faces: where their pixels and parts are, and their canvas (3, faces, 32, 32).

    Coordinates are pixels from the middle of the head, x to the right and y down; `x` and `y` are tilted with
    it, `body_x` and `body_y` are not. What holds for a whole face is (faces, 1, 1).
    """

    def __init__(self, factors: np.ndarray):
        self.factors = {name: np.ascontiguousarray(column) for name, column in zip(FACTORS, factors.T)}
        get = self.between
        self.style = choice(self.factors["hair_style"], len(HAIR))
        self.size = get("size", 0.94, 1.09)
        middle = np.arange(SIDE, dtype=np.float64) - (SIDE - 1) / 2
        self.columns, self.rows = middle[None, None, :], middle[None, :, None]
        self.body_x, self.body_y = self.columns - get("right", -1.2, 1.2), self.rows - get("down", 0.3, 1.8)
        sine = get("tilt", -0.14, 0.14)
        cosine = np.sqrt(1 - sine * sine)
        self.x, self.y = cosine * self.body_x + sine * self.body_y, cosine * self.body_y - sine * self.body_x
        self.wide = self.size * get("face_width", 6.9, 8.5)
        self.high = self.size * get("face_height", 8.3, 9.7)
        # narrower towards the chin
        down = clip(self.y / self.high, 0.0, 1.0)
        narrowed = self.x / (1 - get("jaw", 0.02, 0.26) * down * down)
        self.face = cover(ellipse(narrowed, self.y, self.wide, self.high))
        # the sine of the head's turn, its cosine, and what moves with it
        self.turn = get("turn", -0.30, 0.30)
        self.facing = np.sqrt(1 - self.turn * self.turn)
        self.middle, self.nod = self.wide * self.turn, get("nod", -0.9, 0.9)
        self.eye_y = self.nod - 0.10 * self.high
        # one light on everything, as on a ball about the head
        self.lit_from = get("light_right", -0.85, 0.85)
        strength, u, v = get("light", 0.12, 0.42), self.x / (self.wide + 2), self.y / (self.high + 2)
        ahead = np.sqrt(np.maximum(1 - 0.75 * (u * u + v * v), 0.04))
        slope = self.lit_from * u + get("light_down", -0.75, 0.05) * v + 0.75 * (ahead - 0.7)
        self.light = clip(1 - 0.3 * strength + strength * slope, 0.45, 1.3)
        self.skin = along(SKIN, self.factors["skin"])
        colour = planes(HAIR_COLOURS[choice(self.factors["hair_colour"], len(HAIR_COLOURS))])
        self.hair = colour * get("hair_shade", 0.8, 1.15)
        self.canvas = np.empty((3, len(factors), SIDE, SIDE))

    def between(self, name: str, low: float, high: float) -> np.ndarray:
        """The factor `name` as a number from `low` to `high`."""
        return between(self.factors[name], low, high)

    def on_front(self, where: float) -> tuple[np.ndarray, np.ndarray]:
        """x of a point `where` half widths right of the nose on a turned head, and its foreshortening."""
        deep = np.sqrt(1 - where * where)
        sine = where * self.facing + self.turn * deep
        return self.wide * sine, np.sqrt(1 - sine * sine) / deep
