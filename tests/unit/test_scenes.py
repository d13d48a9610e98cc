"""The drawn scenes: the same bytes everywhere, clear shapes and colours, captions that say what they claim,
pairs kept from training.
"""

from __future__ import annotations

import ast
import hashlib
import inspect
import re
from itertools import combinations

import numpy as np
import pytest
import torch

from fewstep import data
from fewstep.data import scenes
from fewstep.data.drawn import scene_captions, scene_drawing
from fewstep.data.drawn.scene_captions import PHRASINGS, RELATIONS, Mention, Relation, caption, holds
from fewstep.data.drawn.scene_drawing import (
    BACKGROUNDS,
    CENTRE,
    COLOURS,
    HALF,
    JITTERS,
    MIDDLES,
    OF_THINGS,
    PLACES,
    SHAPES,
    SIDE,
    SIZES,
    Scene,
    Thing,
    render,
)

# of the first 64 training pictures and their captions
DRAWN = "4bbe9426c1353fa4ac057108babc45e21743044838b03cc5a842383d4238c137"
# what IEEE 754 fixes to the last bit, and what only moves numbers about
EXACT = {
    "abs",
    "arange",
    "array",
    "ascontiguousarray",
    "empty",
    "flatnonzero",
    "float64",
    "int64",
    "maximum",
    "minimum",
    "ndarray",
    "sqrt",
    "uint8",
    "zeros",
}
NO_JITTER = np.full((1, JITTERS), 0.5)


def thing(words: str) -> Thing:
    """The thing that "large red circle, top left" describes."""
    named, place = words.split(", ")
    size, colour, shape = named.split()
    return Thing(PLACES.index(place), SHAPES.index(shape), COLOURS.index(colour), SIZES.index(size))


def scene(background: str, *things: str) -> Scene:
    return Scene(BACKGROUNDS.index(background), tuple(thing(words) for words in things))


def drawn(found: Scene, jitter: np.ndarray = NO_JITTER) -> np.ndarray:
    return render([found], jitter)[0].astype(int)


def count_held_out(found) -> int:
    """How many of the scenes hold a pair of colour and shape that training never shows."""
    return sum(bool(set(one.pairs) & set(scenes.HELD_OUT)) for one in found)


# Drawing


def test_the_same_seed_draws_the_same_bytes():
    first, again = scenes.draw(70, scenes.SEED), scenes.training()
    assert again.pixels.shape == (scenes.COUNT, 3, SIDE, SIDE) and again.pixels.dtype == np.uint8
    assert first.scenes == again.scenes[:70] and first.captions == again.captions[:70], (
        "the first of many are those of fewer"
    )
    np.testing.assert_array_equal(first.pixels, again.pixels[:70])
    assert scenes.draw(70, scenes.SEED + 1).scenes != first.scenes
    text = "\n".join(c.text for c in first.captions[:64]).encode()
    assert hashlib.sha256(first.pixels[:64].tobytes() + text).hexdigest() == DRAWN


def test_a_picture_does_not_depend_on_those_beside_it(monkeypatch):
    found = scenes.training().scenes[:30]
    jitter = np.random.default_rng(0).random((30, JITTERS))
    together = render(found, jitter)
    for k in range(30):
        np.testing.assert_array_equal(render(found[k : k + 1], jitter[k : k + 1])[0], together[k])
    monkeypatch.setattr(scene_drawing, "CHUNK", 7)
    np.testing.assert_array_equal(render(found[::-1], jitter[::-1]), together[::-1])
    assert render([], jitter[:0]).shape == (0, 3, SIDE, SIDE)


def test_only_operations_that_are_exact_everywhere_are_used():
    tree = ast.parse(inspect.getsource(scene_drawing))
    used = {
        node.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "np"
    }
    assert used <= EXACT, f"{used - EXACT} may round differently on another machine"
    assert not [node for node in ast.walk(tree) if isinstance(node, (ast.Pow, ast.MatMult))]
    methods = {
        node.func.attr
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
    } - used
    assert methods <= {"astype", "transpose", "reshape", "index", "join"}, (
        f"{methods}: a sum or a mean depends on its order"
    )


@pytest.mark.parametrize("place", range(len(PLACES)))
@pytest.mark.parametrize("size", range(len(SIZES)))
def test_shapes_stand_where_they_are_put_and_cover_what_they_should(place, size):
    """Areas against those of geometry, the middle of what is covered against the place's.

    The triangle's lies a third of the radius lower.
    """
    radius, empty = scene_drawing.RADII[size], drawn(Scene(BACKGROUNDS.index("black"), ()))
    ring, cross = np.pi * 0.75 * radius**2, (4 * 2 * 0.34 - 4 * 0.34**2) * radius**2
    areas = {
        "circle": np.pi * radius**2,
        "square": (2 * 0.94 * radius) ** 2,
        "triangle": 2 * radius**2,
        "cross": cross,
        "ring": ring,
    }
    for shape, area in areas.items():
        found = drawn(
            Scene(
                BACKGROUNDS.index("black"),
                (Thing(place, SHAPES.index(shape), COLOURS.index("yellow"), size),),
            )
        )
        covered = (found - empty)[0] / (found - empty)[0].max()
        assert covered.sum() == pytest.approx(area, rel=0.03), shape
        across, down = (
            float((covered.sum(axis) * (np.arange(SIDE) + 0.5)).sum() / covered.sum()) for axis in (0, 1)
        )
        assert across == pytest.approx(MIDDLES[place][0], abs=0.02)
        assert down == pytest.approx(MIDDLES[place][1] + (radius / 3 if shape == "triangle" else 0), abs=0.1)


def test_edges_are_smooth():
    """A tenth of a pixel to the right: no level jumps, as where a pixel is either covered or not."""
    found, moved = (
        scene("black", "large yellow circle, top left", "small red ring, bottom right"),
        NO_JITTER.copy(),
    )
    moved[0, [place * len(OF_THINGS) for place in (0, 3)]] += 0.1 / (2 * scene_drawing.MOVED)
    change = np.abs(drawn(found, moved) - drawn(found))
    assert 15 < change.max() <= 30


@pytest.mark.parametrize("shape", range(len(SHAPES)))
def test_no_thing_is_cut_off_where_its_place_ends(shape):
    """The largest, moved the furthest: half a pixel beyond the place its distance is half a pixel or more,
    which covers nothing.
    """
    radius, distance = scene_drawing.RADII[-1] * (1 + scene_drawing.SCALED), scene_drawing.DISTANCES[shape]
    along, beyond = np.linspace(-HALF - 0.5, HALF + 0.5, 400), np.full(400, HALF + 0.5)
    for right in (-scene_drawing.MOVED, 0, scene_drawing.MOVED):
        for down in (-scene_drawing.MOVED, 0, scene_drawing.MOVED):
            for x, y in ((along, beyond), (along, -beyond), (beyond, along), (-beyond, along)):
                assert distance(x - right, y - down, radius).min() >= 0.5


@pytest.mark.parametrize("index", range(JITTERS))
def test_every_jitter_changes_the_picture_a_little(index):
    found = Scene(1, tuple(Thing(place, place % len(SHAPES), place, 0) for place in range(len(PLACES))))
    ends = NO_JITTER.copy(), NO_JITTER.copy()
    ends[0][0, index], ends[1][0, index] = 0, 0.999
    apart = np.abs(drawn(found, ends[0]) - drawn(found, ends[1]))
    assert apart.max() >= 6 and np.sqrt((apart**2).mean()) < 40


def test_colours_and_backgrounds_are_told_apart():
    levels = [*scene_drawing.COLOUR_LEVELS, *scene_drawing.BACKGROUND_LEVELS]
    assert len(levels) == len(COLOURS) + len(BACKGROUNDS)
    for a, b in combinations(levels, 2):
        assert np.sqrt(((a - b) ** 2).sum()) > 0.35
    # no shade of one comes near a shade of another
    assert scene_drawing.SHADED <= 0.1 and scene_drawing.FADED <= 0.1


# Captions


THREE = scene(
    "brown", "large red circle, top left", "small blue ring, bottom left", "large blue square, bottom right"
)


@pytest.mark.parametrize(
    "number, text",
    [
        (
            0,
            "a large red circle at the top left, a small blue ring at the bottom left and "
            "a large blue square at the bottom right, on a brown background",
        ),
        (1, "a red circle above a blue ring and to the left of a blue square"),
        (10, "a blue ring below a red circle and to the left of a blue square"),
        (37, "a blue ring below a red circle and to the left of a blue square"),
        (28, "a red circle above a blue ring and above a blue square"),
        (2, "a red circle, a blue ring and a blue square"),
        (
            4,
            "on a brown background, a large red circle above a small blue ring and "
            "to the left of a large blue square",
        ),
        (5, "three shapes on brown: a circle, a ring and a square"),
        (
            6,
            "at the top left a large red circle, at the bottom left a small blue ring and "
            "at the bottom right a large blue square",
        ),
        (7, "a picture of a large red circle, a small blue ring and a large blue square"),
        (
            8,
            "a brown background with a red circle at the top left, a blue ring at the bottom left and "
            "a blue square at the bottom right",
        ),
    ],
)
def test_phrasings(number, text):
    assert caption(THREE, number).text == text


def test_what_a_caption_says_is_on_record():
    red, ring, square = (
        Mention(0, 0),
        Mention(SHAPES.index("ring"), COLOURS.index("blue")),
        Mention(SHAPES.index("square"), COLOURS.index("blue")),
    )
    found = caption(THREE, 10)
    assert found.mentions == (ring, red, square) and found.background is None
    assert found.relations == (
        Relation(0, RELATIONS.index("below"), 1),
        Relation(0, RELATIONS.index("to the left of"), 2),
    )
    assert (
        caption(THREE, 5).mentions == (Mention(red.shape), Mention(ring.shape), Mention(square.shape))
        and caption(THREE, 5).background == THREE.background
    )
    alike = scene("grey", "large red circle, top left", "small blue circle, bottom left")
    assert (
        caption(alike, 5).text == "two shapes on grey: a red circle and a blue circle"
        and caption(alike, 5).mentions[0].colour is not None
    )
    alone = scene("white", "small cyan cross, centre")
    assert (
        caption(alone, 1).text == "a cyan cross in the centre"
        and caption(alone, 5).text == "one shape on white: a cross"
    )


def test_every_caption_is_true_and_says_what_its_record_says():
    """The words of the text, read again by their own rules, against the record, and the record against the
    scene.
    """
    found = scenes.training()
    words = "|".join((*SIZES, *COLOURS, *SHAPES))
    for true, said in zip(found.scenes[:3000], found.captions):
        named = re.findall(rf"a ((?:(?:{words}) ?)+)", said.text)
        wanted = [
            [
                words[i]
                for words, i in ((SIZES, m.size), (COLOURS, m.colour), (SHAPES, m.shape))
                if i is not None
            ]
            for m in said.mentions
        ]
        assert [name.split() for name in named] == wanted, said.text
        places = [PLACES[m.place] for m in said.mentions if m.place is not None]
        assert (
            re.findall("(?:at|in) the (top left|top right|bottom left|bottom right|centre)", said.text)
            == places
        )
        assert re.findall("|".join(RELATIONS), said.text) == [RELATIONS[r.kind] for r in said.relations]
        assert re.findall(rf"\b({'|'.join(BACKGROUNDS)})\b", said.text) == (
            [] if said.background is None else [BACKGROUNDS[said.background]]
        )
        # the things that the mentions may mean: one each, since colour and shape, or the shape where it is
        # alone, decide
        matches = [
            [t for t in true.things if all(v in (None, getattr(t, k)) for k, v in vars(m).items())]
            for m in said.mentions
        ]
        assert [len(m) for m in matches] == [1] * len(true.things) and len({m[0] for m in matches}) == len(
            true.things
        ), said.text
        assert all(
            holds(r.kind, matches[r.first][0].place, matches[r.second][0].place) for r in said.relations
        ), said.text
        assert (
            said.background in (None, true.background)
            and said.text == said.text.lower()
            and not re.search(r"\ba [aeiou]|  |,,", said.text)
        )


def test_relations_are_of_rows_and_columns():
    left, right, above, below = range(4)
    top_left, top_right, bottom_left, bottom_right, centre = range(5)
    assert (
        holds(left, top_left, top_right)
        and not holds(left, top_left, bottom_left)
        and holds(right, bottom_right, top_left)
    )
    assert holds(above, top_right, bottom_left) and not holds(above, top_left, top_right)
    assert holds(below, centre, top_left) and holds(left, centre, bottom_right)
    for a in range(5):
        for b in range(5):
            assert all(holds(kind, a, b) == holds(kind ^ 1, b, a) for kind in range(4))


# The data set


def test_training_knows_no_held_out_pair_and_every_other():
    found = scenes.training().scenes
    assert count_held_out(found) == 0
    assert {pair for s in found for pair in s.pairs} == set(scenes.TRAINED) and len(scenes.TRAINED) + len(
        scenes.HELD_OUT
    ) == len(scenes.PAIRS)
    assert {colour for colour, _ in scenes.TRAINED} == set(range(len(COLOURS))) and {
        shape for _, shape in scenes.TRAINED
    } == set(range(len(SHAPES)))
    assert (
        len(scenes.HELD_OUT) == round(len(scenes.PAIRS) / 6)
        and count_held_out(scenes.validation(200, 0).scenes) == 0
    )
    # the count is no constant
    free = scenes.all_pairs(600, 0).scenes
    assert {pair for s in free for pair in s.pairs} == set(scenes.PAIRS) and 100 < count_held_out(free) < 400
    assert count_held_out([scene("grey", "large red circle, top left", "small red cross, bottom left")]) == 1


def test_every_prompt_names_a_held_out_pair():
    found = scenes.prompts(400, 1)
    assert count_held_out(found.scenes) == 400 and not set(found.scenes) & set(scenes.training().scenes)
    named = [[(m.colour, m.shape) for m in said.mentions] for said in found.captions]
    assert all(
        set(pairs) & set(scenes.HELD_OUT) and None not in [colour for colour, _ in pairs] for pairs in named
    )
    assert {pair for pairs in named for pair in pairs} == set(scenes.PAIRS), "other things are of any pair"
    assert (
        scenes.prompts(40, 1).captions == found.captions[:40]
        and scenes.prompts(40, 2).captions != found.captions[:40]
    )
    pictures = scenes.held_out(40, 1)
    assert pictures.dtype == torch.float32 and -1 <= pictures.min() < pictures.max() <= 1
    assert torch.equal(scenes.SOURCE.to_uint8(pictures), torch.from_numpy(found.pixels[:40]))


def test_pictures_and_captions_belong_together():
    found = scenes.training()
    assert (
        scenes.pictures() is found.pixels
        and scenes.captions() is found.captions
        and len(found.captions) == len(found.scenes) == scenes.COUNT
    )
    # a scene's own picture without jitter is nearer to it than the one of the next
    some, still = (
        found.pixels[:100].astype(int),
        render(found.scenes[:100], np.full((100, JITTERS), 0.5)).astype(int),
    )
    own, other = (np.abs(some - np.roll(still, shift, 0)).mean((1, 2, 3)) for shift in (0, 1))
    assert (own < other).all() and own.max() < 16
    again = [caption(s, n) for s in found.scenes[:5] for n in range(len(PHRASINGS) * scenes.VARIANTS)]
    assert all(any(said == c for c in again) for said in found.captions[:5])


def test_numbers_of_things_places_and_attributes_are_even():
    found = scenes.training().scenes
    things = [t for s in found for t in s.things]
    for values, count in (
        ([len(s.things) for s in found], 3),
        ([s.background for s in found], 4),
        ([t.size for t in things], 2),
    ):
        parts = np.unique(values, return_counts=True)[1] / len(values)
        assert len(parts) == count and abs(parts * count - 1).max() < 0.05
    assert {t.place for t in things} == set(range(len(PLACES))) and all(
        len(s.things) == 1 for s in found if s.things[-1].place == CENTRE
    )
    assert len({picture.tobytes() for picture in scenes.pictures()}) == scenes.COUNT, (
        "no two pictures are the same"
    )


def test_it_is_a_data_set_like_the_others():
    assert data.load("scenes") is scenes.SOURCE and "scenes" in data.names()
    assert not {"scene_drawing", "scene_captions"} & set(data.names())
    found = scenes.SOURCE.sample(3, torch.Generator().manual_seed(0))
    assert (
        found.shape == (3, *scenes.SOURCE.shape) and found.dtype == torch.float32 and not scenes.SOURCE.flip
    ), "a mirror would turn left and right about"
    assert scene_captions.NUMBERS[len(scenes.ARRANGEMENTS)] == "three shapes"


def test_a_fifth_of_every_class_is_kept_to_judge_a_classifier():
    train, train_classes, test, test_classes = scenes.labelled()
    assert (
        train.shape == (len(train_classes), 3, SIDE, SIDE)
        and train.dtype == test.dtype == np.float32
        and train_classes.dtype == np.int64
    )
    every = np.bincount(scenes.classes(scenes.training().scenes))
    assert (
        len(every) == len(scenes.TRAINED)
        and every.min() > 0.8 * every.mean()
        and every.max() < 1.2 * every.mean()
    )
    np.testing.assert_array_equal(np.bincount(test_classes), [round(n / 5) for n in every])
    np.testing.assert_array_equal(np.bincount(train_classes) + np.bincount(test_classes), every)
    first = scene("grey", "large pink circle, top right", "small red square, bottom left")
    assert scenes.TRAINED[scenes.classes([first])[0]] == (COLOURS.index("pink"), SHAPES.index("circle"))
