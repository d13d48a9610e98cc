"""12,000 captioned pictures of one to three shapes, 32x32 RGB: the laptop tier's captioned photographs.

They are drawn from a seed when they are first needed. A few pairs of colour and shape are in no training
picture, though each colour and each shape is. Nothing is mirrored, since captions say left and right.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from itertools import combinations, product

import numpy as np
import torch
from torch import Tensor

from .drawn import scene_drawing as drawing
from .drawn.scene_captions import PHRASINGS, Caption, caption
from .drawn.scene_drawing import COLOURS, PLACES, SHAPES, SIDE, Scene, Thing
from .images import Images, Labelled, labelled_split, to_signed

COUNT, SEED = 12_000, 20_250_601
# sets of zero-shot prompts, by the name of what they stand in for, and their seeds
PROMPTS = {"coco2017": 2017, "coco2014": 2014}
# other scenes than those of training, whichever seed they are asked for with
PROMPTS_SEED, VALIDATION_SEED, ALL_SEED = 20_250_602, 20_250_603, 20_250_604
TEST_PART, SPLIT_SEED = 1 / 5, 20_250_601

PAIRS = tuple(product(range(len(COLOURS)), range(len(SHAPES))))
# a sixth of the pairs: each shape once, each colour but the last
_NAMED = ("red", "cross"), ("yellow", "ring"), ("green", "triangle"), ("cyan", "circle"), ("blue", "square")
HELD_OUT = tuple((COLOURS.index(colour), SHAPES.index(shape)) for colour, shape in _NAMED)
TRAINED = tuple(pair for pair in PAIRS if pair not in HELD_OUT)

# the places of one, two or three things: the centre is for one alone
_CORNERS = tuple(place for place in range(len(PLACES)) if place != drawing.CENTRE)
ARRANGEMENTS = (
    tuple((place,) for place in range(len(PLACES))),
    tuple(combinations(_CORNERS, 2)),
    tuple(combinations(_CORNERS, 3))[::-1],
)
CHOICES = 4 + 3 * 2  # numbers in [0, 1) that make a scene and choose the phrasing of its caption
# captions of one scene that differ in more than the phrasing: which thing comes first, rows or columns
VARIANTS = 6


@dataclass(frozen=True)
class CaptionedScenes:
    """Scenes, a caption and a picture of each, (count, 3, 32, 32), uint8: one index for all three."""

    scenes: tuple[Scene, ...]
    captions: tuple[Caption, ...]
    pixels: np.ndarray


def _scene(row: np.ndarray, pairs: Sequence[tuple[int, int]], among: Sequence[tuple[int, int]]) -> Scene:
    """The scene that numbers in [0, 1) make, of different pairs: one of `among`, others of `pairs`."""

    def pick(value: float, options: Sequence):
        return options[min(int(value * len(options)), len(options) - 1)]

    places = pick(row[1], pick(row[0], ARRANGEMENTS))
    first, used, things = pick(row[2], range(len(places))), [], {}
    # the thing that is picked from `among` comes first, so that none of the others can take its pair
    for k in sorted(range(len(places)), key=lambda k: k != first):
        pair = pick(row[4 + 2 * k], [p for p in (pairs if used else among) if p not in used])
        used.append(pair)
        things[k] = Thing(places[k], pair[1], pair[0], pick(row[5 + 2 * k], range(len(drawing.SIZES))))
    background = pick(row[3], range(len(drawing.BACKGROUNDS)))
    return Scene(background, tuple(things[k] for k in sorted(things)))


def _caption_with_colours(scene: Scene, number: int) -> Caption:
    """The first caption from `number` on that names the colours of all things."""
    found = caption(scene, number)
    everything = all(mention.colour is not None for mention in found.mentions)
    return found if everything else _caption_with_colours(scene, number + 1)


def draw(
    count: int, seed: int | tuple[int, ...], pairs: Sequence[tuple[int, int]] = TRAINED,
    among: Sequence[tuple[int, int]] | None = None,
) -> CaptionedScenes:  # fmt: skip
    """`count` scenes of things with `pairs` of colour and shape; a larger count begins with the same scenes.

    Where `among` is given, one thing has one of those pairs and captions name all colours.
    """
    numbers = np.random.default_rng(seed).random((count, CHOICES + 1 + drawing.JITTERS))
    scenes = tuple(_scene(row, pairs, among or pairs) for row in numbers)
    phrasings = (numbers[:, CHOICES] * (len(PHRASINGS) * VARIANTS)).astype(np.int64)
    describe = _caption_with_colours if among else caption
    captions = tuple(describe(scene, int(number)) for scene, number in zip(scenes, phrasings))
    return CaptionedScenes(scenes, captions, drawing.render(scenes, numbers[:, CHOICES + 1 :]))


@cache
def training() -> CaptionedScenes:
    """The 12,000 training scenes with captions and pictures, drawn at the first call."""
    return draw(COUNT, SEED)


def pictures() -> np.ndarray:
    """The training pictures, (12000, 3, 32, 32), uint8, in the order of `captions`."""
    return training().pixels


def captions() -> tuple[Caption, ...]:
    """One caption of each training picture, in the order of `pictures`."""
    return training().captions


def prompts(count: int, seed: int) -> CaptionedScenes:
    """`count` scenes that each hold a held-out pair, with captions that name it: none is a training scene."""
    return draw(count, (PROMPTS_SEED, seed), PAIRS, HELD_OUT)


def prompt_set(name: str, count: int) -> CaptionedScenes:
    """The first `count` of the zero-shot prompts called `name`, one of PROMPTS, always the same."""
    return prompts(count, PROMPTS[name])


def validation(count: int, seed: int) -> CaptionedScenes:
    """`count` scenes drawn as training's are, other pictures than those."""
    return draw(count, (VALIDATION_SEED, seed))


def all_pairs(count: int, seed: int) -> CaptionedScenes:
    """`count` scenes of all pairs, held out or not: for measures, which may see everything."""
    return draw(count, (ALL_SEED, seed), PAIRS)


def held_out(count: int, seed: int) -> Tensor:
    """The pictures of `prompts`, (count, 3, 32, 32), float32 in [-1, 1], on the CPU."""
    return to_signed(torch.from_numpy(prompts(count, seed).pixels))


def classes(scenes: Sequence[Scene]) -> np.ndarray:
    """The class 0..24 of each scene of trained pairs, (count,), int64: its first thing's colour and shape."""
    return np.array([TRAINED.index(scene.pairs[0]) for scene in scenes], np.int64)


def labelled() -> Labelled:
    """Images and classes to train a classifier on, and a fifth of every class to test it on."""
    return labelled_split(pictures(), classes(training().scenes), TEST_PART, SPLIT_SEED)


SOURCE = Images("scenes", (3, SIDE, SIDE), False, pictures)
