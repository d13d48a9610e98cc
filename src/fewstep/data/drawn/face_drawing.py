"""Little faces, 32x32 RGB, drawn from numbers in [0, 1): the same bytes on every machine.

A face is a row of factors, one number each, and `render` paints it from back to front.
"""

from functools import partial

import numpy as np

from . import between, clip, cover, ellipse, planes, to_images

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
SHAVED, SHORT, BOB, LONG, CURLY, BUN = range(len(HAIR))
GLASSES, OPEN, BEARD = 0.5, 0.5, 0.2  # how many wear glasses, open the mouth, have a beard
CHUNK = 32  # faces painted at a time: few enough for the processor's cache
SKIN = np.array([  # red, green and blue in [0, 1]
    [1.0, 0.89, 0.80], [0.97, 0.80, 0.67], [0.89, 0.69, 0.52],
    [0.76, 0.55, 0.38], [0.58, 0.39, 0.26], [0.40, 0.26, 0.18],
])  # fmt: skip
HAIR_COLOURS = np.array([  # the last two are dyed, which few are
    [0.10, 0.08, 0.09], [0.26, 0.15, 0.09], [0.44, 0.26, 0.13], [0.66, 0.30, 0.12], [0.80, 0.58, 0.22],
    [0.93, 0.80, 0.42], [0.70, 0.70, 0.73], [0.10, 0.08, 0.09], [0.26, 0.15, 0.09], [0.44, 0.26, 0.13],
    [0.66, 0.30, 0.12], [0.80, 0.58, 0.22], [0.85, 0.36, 0.52], [0.20, 0.45, 0.62],
])  # fmt: skip
EYE_COLOURS = np.array([
    [0.24, 0.14, 0.08], [0.45, 0.28, 0.12], [0.22, 0.45, 0.25], [0.18, 0.42, 0.70], [0.42, 0.50, 0.56]
])  # fmt: skip
GLASSES_COLOURS = np.array([[0.10, 0.10, 0.12], [0.42, 0.12, 0.12], [0.16, 0.20, 0.45], [0.60, 0.42, 0.08]])
_COLOURS = np.array([[0.98, 0.98, 0.97], [0.95, 0.38, 0.38], [0.66, 0.13, 0.18], [0.30, 0.06, 0.07]])
WHITE, PINK, RED, DARK = _COLOURS[:, :, None, None, None]
# the parabola where hair ends, by style: height above the eyes' middle, bend, how far the parting moves it
HAIRLINE = np.array([
    [0.0, 0.0, 0.0], [0.56, 0.42, 1.0], [0.34, 0.14, 0.3],
    [0.70, 1.05, 0.9], [0.55, 0.45, 0.3], [0.76, 0.85, 0.3],
])  # fmt: skip
CURLS = (  # where the curls stand around the head
    (-1.0, 0.30), (-0.98, -0.20), (-0.80, -0.60), (-0.44, -0.90), (0.0, -1.0),
    (0.44, -0.90), (0.80, -0.60), (0.98, -0.20), (1.0, 0.30),
)  # fmt: skip
# rows on which the parts can stand: eyes and glasses, ears to nose, beard, fringe, mouth and body
EYES, CHEEKS, BEARDS, TOP, BELOW = slice(6, 24), slice(10, 26), slice(8, 32), slice(0, 23), slice(13, 32)


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
        down = clip(self.y / self.high, 0.0, 1.0)  # narrower towards the chin
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


def _paint(canvas: np.ndarray, colour: np.ndarray, covered: np.ndarray, part=np.s_[...]) -> None:
    """Lay `colour` over this `part` of `canvas` (3, faces, rows, columns) by how far it is `covered`."""
    canvas[part] += (colour - canvas[part]) * covered


def _background(faces: Faces) -> None:
    near = faces.between("background_shade", 0.45, 1.0) * (0.62 + 0.38 * hue(faces.factors["background_hue"]))
    slope = faces.between("gradient_right", -1, 1)
    place = 0.5 + (slope * faces.columns + faces.rows) / (SIDE * (1 + np.abs(slope)))
    faces.canvas[:] = near + faces.between("gradient", -0.28, 0.28) * place


def _shoulders(faces: Faces) -> None:
    canvas, light = faces.canvas[:, :, BELOW], faces.light[:, BELOW]
    x, y = faces.body_x, (faces.body_y - faces.high)[:, BELOW]
    clothes = (0.25 + 0.75 * hue(faces.factors["clothes_hue"])) * faces.between("clothes_shade", 0.3, 0.95)
    _paint(canvas, clothes * light, cover(ellipse(x, y - 8.3, 12.5 * faces.size, 7.5)))
    collar = ellipse(x, y - 0.2, 3.6 * faces.size, faces.between("collar", 1.0, 4.2))
    _paint(canvas, 0.9 * faces.skin * light, cover(collar))


def _hair_behind(faces: Faces, style: int) -> None:
    some = np.flatnonzero(faces.style == style)
    x, y, wide, high = faces.x[some], faces.y[some], faces.wide[some], faces.high[some]
    thick, length = faces.between("hair_volume", 0.6, 2.2)[some], partial(faces.between, "hair_length")
    if style == CURLY:
        shape = ellipse(x, y + 1, wide + 1.0 + 1.2 * thick, high + 0.5 + 0.6 * thick)
        size = length(2.0, 2.8)[some] + 0.4 * thick
        for right, down in CURLS:
            u, v = x - right * (wide + 0.4 + 0.5 * thick), y - down * (high + 0.2 + 0.3 * thick)
            shape = np.minimum(shape, ellipse(u, v, size, size))
    elif style == BUN:
        x, y = x - faces.between("parting", -2.4, 2.4)[some], y + high + 1.6
        shape = ellipse(x, y, 2.9 + 0.6 * thick, length(2.6, 3.4)[some] + 0.3 * thick)
    else:
        # a box with round corners, from the crown to the jaw or over the shoulders
        end = length(0.35, 0.85)[some] * high if style == BOB else high + length(1.0, 7.0)[some]
        half, corner = wide + 0.4 + 0.7 * thick, 3.0
        u, v = np.abs(x) - half + corner, np.abs(y - end / 2) - end / 2 + corner
        beyond, below = np.maximum(u, 0), np.maximum(v, 0)
        box = np.sqrt(beyond * beyond + below * below) + np.minimum(np.maximum(u, v), 0) - corner
        shape = np.minimum(box, ellipse(x, y + 0.5, half, high + 0.8 + 0.4 * thick))
    _paint(faces.canvas, 0.75 * faces.hair[:, some] * faces.light[some], cover(shape), np.s_[:, some])


def _head(faces: Faces) -> None:
    """Neck, ears, and the face with cheeks and nose."""
    canvas, light, y = faces.canvas[:, :, BELOW], faces.light[:, BELOW], (faces.body_y - faces.high)[:, BELOW]
    # the neck is in the head's shadow
    neck = np.maximum(np.abs(faces.body_x) - 2.7 * faces.size, np.maximum(y - 3.2, -y - faces.high))
    _paint(canvas, 0.78 * faces.skin * light, cover(neck))

    canvas, light = faces.canvas[:, :, CHEEKS], faces.light[:, CHEEKS]
    x, y = faces.x[:, CHEEKS], faces.y[:, CHEEKS]
    uncovered = np.isin(faces.style, (SHAVED, SHORT, BUN))[:, None, None]
    for side in (-1, 1):
        half = np.s_[..., : SIDE // 2] if side < 0 else np.s_[..., SIDE // 2 :]
        u, v = (x - side * faces.wide * faces.facing)[half], (y - 0.8)[half]
        ear = ellipse(u, v, faces.size * (1.5 - side * faces.turn), 2.0 * faces.size)
        _paint(canvas[half], 0.9 * faces.skin * light[half], cover(ear) * uncovered)
    _paint(faces.canvas, faces.skin * faces.light, faces.face)
    blush = faces.between("blush", 0.0, 0.5) * faces.face[:, CHEEKS]
    for side in (-1, 1):
        place, narrow = faces.on_front(side * 0.55)
        u, v = (x - place) / (2.3 * narrow), (y - faces.nod - 0.30 * faces.high) / 1.7
        _paint(canvas, PINK * (0.35 + 0.65 * faces.skin) * light, blush * np.maximum(1 - u * u - v * v, 0.0))
    # the nose is its shadow, away from the light
    u = x - 1.12 * faces.middle - np.where(faces.lit_from > 0, -0.5, 0.5)
    nose = ellipse(u, y - faces.nod - 0.17 * faces.high, 0.85, faces.between("nose", 0.9, 1.9))
    _paint(canvas, 0.66 * faces.skin * light, 0.75 * cover(nose))


def _beard(faces: Faces) -> None:
    """The face below a line that rises towards the ears."""
    some = np.flatnonzero(faces.factors["beard"] < BEARD)
    wide, high = faces.wide[some], faces.high[some]
    x, y = faces.x[some, BEARDS] - faces.middle[some], faces.y[some, BEARDS] - faces.nod[some]
    line = y + high * (0.45 * (x / wide) * (x / wide) - faces.between("beard_length", 0.50, 0.30)[some])
    colour, covered = 0.85 * faces.hair[:, some] * faces.light[some, BEARDS], 0.9 * cover(-line)
    _paint(faces.canvas, colour, covered * faces.face[some, BEARDS], np.s_[:, some, BEARDS])


def _mouth(faces: Faces) -> None:
    """Lips around an opening between two parabolas."""
    canvas, half = faces.canvas[:, :, BELOW], faces.size * faces.between("mouth_width", 2.5, 3.7)
    x, smile = faces.x[:, BELOW] - 1.02 * faces.middle, faces.between("smile", -0.18, 0.52)
    bend = x * x / half
    line = faces.y[:, BELOW] - faces.nod - 0.56 * faces.high - 1.6 * np.maximum(smile, 0.0) + smile * bend
    is_open = faces.factors["mouth"][:, None, None] < OPEN
    opening = np.where(is_open, faces.between("mouth_opening", 2.3, 3.7), 0.0)
    opening = opening * np.maximum(1 - bend / half, 0.0)
    ends, red = np.abs(x) - half, faces.between("lips", 0.35, 0.8)
    lips = np.maximum(np.maximum(-line, line - opening) - 0.5, ends - 0.2)
    _paint(canvas, (1 - red) * 0.85 * faces.skin + red * RED, cover(lips))
    inside = np.maximum(np.maximum(-line, line - opening) + 0.1, ends)
    _paint(canvas, DARK, cover(inside) * is_open)
    _paint(canvas, WHITE, cover(np.maximum(inside, line - 0.42 * opening)) * is_open)


def _hair_before(faces: Faces) -> None:
    """The hair on the head: the crown above the hairline, and its shadow on the forehead."""
    height, bend, aside = HAIRLINE[faces.style].T[:, :, None, None]
    x, y = faces.x[:, TOP], faces.y[:, TOP]
    thick = 0.5 + 0.35 * faces.between("hair_volume", 0.6, 2.2)
    crown = ellipse(x, y + 0.5, faces.wide + 0.3 * thick, faces.high + 0.2 + thick)
    u = (x - faces.middle - aside * faces.between("parting", -0.6, 0.6) * faces.wide) / faces.wide
    # no lower than the ears
    line = np.maximum(y + height * faces.high - 0.5 * bend * faces.wide * u * u, y - 0.30 * faces.high)
    line = line / (1 + 0.5 * bend)
    has_hair = (faces.style != SHAVED)[:, None, None]
    canvas, light = faces.canvas[:, :, TOP], faces.light[:, TOP]
    _paint(canvas, 0.55 * faces.skin * light, 0.7 * cover(line - 0.9) * faces.face[:, TOP] * has_hair)
    _paint(canvas, faces.hair * light, cover(np.maximum(crown, line)) * has_hair)


def _eye(faces: Faces, side: int) -> None:
    """The left (-1) or right (1) eye and its brow, on the part of the picture where they can be."""
    part = np.s_[..., EYES, 3:21] if side < 0 else np.s_[..., EYES, 11:29]
    canvas, get = faces.canvas[part], faces.between
    place, narrow = faces.on_front(side * 0.43)
    x, y = faces.x[part] - (place + side * get("eye_distance", -0.35, 0.45)), faces.y[part] - faces.eye_y
    half = faces.size * narrow * get("eye_size", 1.55, 2.35)
    opening = faces.size * get("eye_opening", 1.05, 2.0)
    _paint(canvas, 0.35 * faces.skin, cover(ellipse(x, y + 0.35, half + 0.3, opening + 0.3)))
    white = cover(ellipse(x, y, half, opening))
    _paint(canvas, WHITE * (0.9 + 0.1 * faces.light[part]), white)
    u, v = x - get("gaze_right", -0.75, 0.75) * narrow, y - get("gaze_down", -0.4, 0.4)
    iris = 1.25 * faces.size
    colour = along(EYE_COLOURS, faces.factors["eye_colour"])
    _paint(canvas, colour, np.minimum(cover(ellipse(u, v, iris * narrow, iris)), white))
    _paint(canvas, 0.25 * DARK, np.minimum(cover(ellipse(u, v, 0.6, 0.6)), white))
    # a shine where the light comes from
    shine = ellipse(u - np.where(faces.lit_from > 0, 0.6, -0.6), v + 0.6, 0.5, 0.5)
    _paint(canvas, WHITE, 0.9 * np.minimum(cover(shine), white))
    line = y + opening + 0.9 + get("brow_height", 0.1, 1.3)
    line = line + get("brow_slant", -0.16, 0.26) * side * x + 0.10 * x * x
    brow = np.maximum(np.abs(line) - get("brow_weight", 0.3, 0.75), np.abs(x) - half - 0.2)
    _paint(canvas, np.minimum(0.7 * faces.hair, 0.75 * faces.skin), cover(brow))


def _glasses(faces: Faces) -> None:
    some = np.flatnonzero(faces.factors["glasses"] < GLASSES)
    x, y, wide = faces.x[some, EYES], (faces.y - faces.eye_y)[some, EYES], faces.wide[some]
    radius = (faces.size * faces.between("glasses_size", 2.9, 3.6))[some]
    frame = np.maximum(np.abs(y + 0.2) - 0.4, np.abs(x - faces.middle[some]) - 0.8)
    for side in (-1, 1):
        place, narrow = (values[some] for values in faces.on_front(side * 0.45))
        lens = ellipse(x - place, y - 0.1, radius * narrow, 0.92 * radius)
        # from the lens outwards, to the side of the head
        outside = np.maximum(-lens, np.maximum(side * (place - x), side * x - wide))
        temple = np.maximum(np.abs(y + 0.4) - 0.4, outside)
        frame = np.minimum(frame, np.minimum(np.abs(lens) - 0.6, temple))
    colours = GLASSES_COLOURS[choice(faces.factors["glasses_colour"][some], len(GLASSES_COLOURS))]
    _paint(faces.canvas, planes(colours), cover(frame), np.s_[:, some, EYES])


PARTS = (  # from back to front
    _background, _shoulders, *(partial(_hair_behind, style=style) for style in (BOB, LONG, CURLY, BUN)),
    _head, _beard, _mouth, _hair_before, partial(_eye, side=-1), partial(_eye, side=1), _glasses,
)  # fmt: skip


def render(factors: np.ndarray) -> np.ndarray:
    """The faces of `factors` (count, len(FACTORS)) in [0, 1), a row each: (count, 3, 32, 32), uint8."""
    images = np.empty((len(factors), 3, SIDE, SIDE), np.uint8)
    for k in range(0, len(factors), CHUNK):
        faces = Faces(factors[k : k + CHUNK])
        for paint in PARTS:
            paint(faces)
        images[k : k + CHUNK] = to_images(faces.canvas)
    return images
