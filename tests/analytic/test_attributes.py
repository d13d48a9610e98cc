"""What captions say against what is read, in cases worked out by hand, and the matching against every
other."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest

from fewstep.data import scenes
from fewstep.data.drawn.scene_captions import PHRASINGS, RELATIONS, Caption, Mention, Relation, caption
from fewstep.data.drawn.scene_drawing import BACKGROUNDS, COLOURS, PLACES, SHAPES, SIZES, Scene, Thing
from fewstep.metrics.attributes import ATTRIBUTES, accuracies, judge

RED, BLUE, PINK = (COLOURS.index(name) for name in ("red", "blue", "pink"))
CIRCLE, SQUARE, RING = (SHAPES.index(name) for name in ("circle", "square", "ring"))
SMALL, LARGE = range(len(SIZES))
TOP_LEFT, TOP_RIGHT, BOTTOM_LEFT, BOTTOM_RIGHT, IN_CENTRE = range(len(PLACES))
LEFT, RIGHT, ABOVE, BELOW = range(len(RELATIONS))


def scene(*things: Thing, background: int = 0) -> Scene:
    return Scene(background, tuple(sorted(things)))


def said(*mentions: Mention, relations: tuple[Relation, ...] = (), background: int | None = None) -> Caption:
    return Caption("a caption", mentions, relations, background)


def right(told: Caption, read: Scene) -> dict[str, str]:
    """Right of said, of the attributes that are said."""
    of, out_of = judge([told], [read])
    return {name: f"{of[0, k]} of {out_of[0, k]}" for k, name in enumerate(ATTRIBUTES) if out_of[0, k]}


@pytest.mark.parametrize("number", range(len(PHRASINGS)))
def test_what_captions_say_of_their_own_scenes_is_right(number):
    found = scenes.all_pairs(60, 4).scenes
    told = [caption(s, number + len(PHRASINGS) * k) for k, s in enumerate(found)]
    of, out_of = judge(told, found)
    np.testing.assert_array_equal(of, out_of)
    assert set(accuracies(of, out_of).values()) == {1.0}


def test_a_thing_named_with_its_place_is_what_is_read_there():
    told = said(Mention(CIRCLE, RED, LARGE, TOP_LEFT))
    blue = {"shape": "1 of 1", "colour": "0 of 1", "size": "1 of 1", "place": "1 of 1", "number": "1 of 1"}
    assert right(told, scene(Thing(TOP_LEFT, CIRCLE, BLUE, LARGE))) == blue
    # the very thing, elsewhere
    wrong = {"shape": "0 of 1", "colour": "0 of 1", "size": "0 of 1", "place": "0 of 1"}
    assert right(told, scene(Thing(TOP_RIGHT, CIRCLE, RED, LARGE))) == wrong | {"number": "1 of 1"}
    assert right(told, scene()) == wrong | {"number": "0 of 1"}


def test_a_thing_named_without_its_place_is_the_one_that_agrees_best():
    read = scene(Thing(TOP_LEFT, CIRCLE, BLUE, LARGE), Thing(BOTTOM_RIGHT, CIRCLE, RED, SMALL))
    assert right(said(Mention(CIRCLE, RED)), read) == {
        "shape": "1 of 1",
        "colour": "1 of 1",
        "number": "0 of 1",
    }
    assert right(said(Mention(SQUARE, BLUE)), read) == {
        "shape": "0 of 1",
        "colour": "1 of 1",
        "number": "0 of 1",
    }


def test_each_thing_read_answers_to_one_name_only():
    told = said(Mention(CIRCLE, RED), Mention(CIRCLE, RED))
    assert right(told, scene(Thing(TOP_LEFT, CIRCLE, RED, SMALL))) == {
        "shape": "1 of 2",
        "colour": "1 of 2",
        "number": "0 of 1",
    }
    two = scene(Thing(TOP_LEFT, CIRCLE, RED, SMALL), Thing(TOP_RIGHT, RING, PINK, SMALL))
    assert right(told, two) == {"shape": "1 of 2", "colour": "1 of 2", "number": "1 of 1"}
    # what is taken by its place is gone
    told = said(Mention(CIRCLE, RED, place=TOP_LEFT), Mention(CIRCLE, RED))
    assert right(told, scene(Thing(TOP_LEFT, CIRCLE, RED, SMALL)))["shape"] == "1 of 2"


def test_the_best_matching_is_not_the_first_that_comes():
    """The red circle would suit either name, and the other thing only one: taken name by name, the first
    would take it."""
    told = said(Mention(CIRCLE), Mention(CIRCLE, RED))
    read = scene(Thing(TOP_LEFT, CIRCLE, RED, SMALL), Thing(TOP_RIGHT, CIRCLE, BLUE, SMALL))
    assert right(told, read) == {"shape": "2 of 2", "colour": "1 of 1", "number": "1 of 1"}


def test_shapes_count_before_colours_where_as_much_is_right():
    """Colours exchanged: either all shapes are right and no colour, or the other way about."""
    told = said(Mention(CIRCLE, RED), Mention(SQUARE, BLUE))
    for things in (
        (Thing(0, CIRCLE, BLUE, 0), Thing(1, SQUARE, RED, 0)),
        (Thing(0, SQUARE, RED, 0), Thing(1, CIRCLE, BLUE, 0)),
    ):
        assert right(told, scene(*things)) == {"shape": "2 of 2", "colour": "0 of 2", "number": "1 of 1"}
    # a colour and a size against each other: the colour
    told, things = (
        said(Mention(CIRCLE, RED, SMALL)),
        (Thing(0, CIRCLE, BLUE, SMALL), Thing(1, CIRCLE, RED, LARGE)),
    )
    assert right(told, scene(*things)) == {
        "shape": "1 of 1",
        "colour": "1 of 1",
        "size": "0 of 1",
        "number": "0 of 1",
    }


def test_relations_are_between_the_things_that_are_matched():
    told = said(Mention(CIRCLE, RED), Mention(SQUARE, BLUE), relations=(Relation(0, LEFT, 1),))
    red, blue = (lambda place: Thing(place, CIRCLE, RED, 0)), (lambda place: Thing(place, SQUARE, BLUE, 0))
    for a, b, true in (
        (TOP_LEFT, TOP_RIGHT, 1),
        (BOTTOM_LEFT, TOP_RIGHT, 1),
        (TOP_RIGHT, TOP_LEFT, 0),
        (TOP_LEFT, BOTTOM_LEFT, 0),
        (TOP_LEFT, IN_CENTRE, 1),
    ):
        assert right(told, scene(red(a), blue(b))) == {
            "shape": "2 of 2",
            "colour": "2 of 2",
            "relation": f"{true} of 1",
            "number": "1 of 1",
        }
    assert right(told, scene(red(TOP_LEFT)))["relation"] == "0 of 1", "one of the two is not there"


def test_relations_decide_between_matchings_that_are_as_good():
    told = said(Mention(CIRCLE, RED), Mention(CIRCLE), relations=(Relation(0, BELOW, 1),))
    for below, above in ((0, 1), (1, 0)):
        places = (TOP_LEFT, BOTTOM_LEFT)
        read = scene(Thing(places[below], CIRCLE, RED, SMALL), Thing(places[above], CIRCLE, RED, LARGE))
        assert right(told, read) == {
            "shape": "2 of 2",
            "colour": "1 of 1",
            "relation": "1 of 1",
            "number": "1 of 1",
        }
    # but they do not outweigh an attribute
    told = said(Mention(CIRCLE, size=SMALL), Mention(CIRCLE), relations=(Relation(0, BELOW, 1),))
    read = scene(Thing(TOP_LEFT, CIRCLE, RED, SMALL), Thing(BOTTOM_LEFT, CIRCLE, BLUE, LARGE))
    assert right(told, read) == {
        "shape": "2 of 2",
        "size": "1 of 1",
        "relation": "0 of 1",
        "number": "1 of 1",
    }


def test_what_is_not_said_is_not_asked():
    read = scene(Thing(TOP_LEFT, CIRCLE, RED, SMALL), background=BACKGROUNDS.index("black"))
    assert right(said(Mention(CIRCLE)), read) == {"shape": "1 of 1", "number": "1 of 1"}
    for background, true in (("black", 1), ("white", 0)):
        assert (
            right(said(Mention(CIRCLE), background=BACKGROUNDS.index(background)), read)["background"]
            == f"{true} of 1"
        )


def test_more_things_than_were_named_are_wrong_in_number_alone():
    told = said(Mention(CIRCLE, RED))
    read = scene(Thing(TOP_LEFT, CIRCLE, RED, SMALL), Thing(BOTTOM_LEFT, RING, PINK, SMALL))
    of, out_of = judge([told, told], [read, scene(*read.things[:1])])
    assert accuracies(of, out_of) == {"shape": 1.0, "colour": 1.0, "number": 0.5, "caption": 0.5}


def test_accuracies_are_of_statements_and_of_whole_captions():
    of = np.array([[2, 1, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 1], [3, 2, 0, 0, 0, 0, 0]])
    out_of = np.array([[2, 2, 0, 0, 0, 1, 1], [1, 1, 0, 0, 0, 0, 1], [3, 3, 0, 0, 0, 1, 1]])
    assert accuracies(of, out_of) == {
        "shape": 1.0,
        "colour": 4 / 6,
        "background": 0.5,
        "number": 2 / 3,
        "caption": 1 / 3,
    }


def test_no_other_matching_has_more_attributes_right():
    """Captions against scenes that are not theirs: every way to give each mention a thing or nothing, none
    twice, is tried."""
    told, read = scenes.all_pairs(150, 5).captions, scenes.all_pairs(150, 6).scenes
    of, _ = judge(told, read)
    for one, other, found in zip(told, read, of):
        best, there = 0, {thing.place: thing for thing in other.things}
        for given in product((None, *other.things), repeat=len(one.mentions)):
            taken = [thing for thing in given if thing is not None]
            if len(set(taken)) == len(taken) and all(
                m.place is None or t == there.get(m.place) for m, t in zip(one.mentions, given)
            ):
                agreeing = [
                    getattr(m, name) == getattr(t, name)
                    for m, t in zip(one.mentions, given)
                    if t
                    for name in ATTRIBUTES[:4]
                ]
                best = max(best, sum(agreeing))
        assert found[:4].sum() == best


def test_chance_is_what_it_should_be_for_a_thing_named_with_its_place():
    """Things drawn evenly at all places against one mention: shapes, colours and sizes agree by their
    numbers."""
    rng, told = np.random.default_rng(0), said(Mention(RING, PINK, LARGE, TOP_LEFT))
    read = [
        scene(*(Thing(place, rng.integers(5), rng.integers(6), rng.integers(2)) for place in range(5)))
        for _ in range(6000)
    ]
    found = accuracies(*judge([told] * len(read), read))
    for name, count in (("shape", 5), ("colour", 6), ("size", 2), ("caption", np.inf)):
        assert found[name] == pytest.approx(1 / count, abs=0.02)
    assert found["place"] == 1


def test_what_does_not_belong_together_is_refused():
    with pytest.raises(ValueError, match="2 captions do not judge 1 scenes"):
        judge([said(Mention(CIRCLE))] * 2, [scene()])
    with pytest.raises(ValueError, match="0 captions do not judge 0 scenes"):
        judge([], [])
    with pytest.raises(ValueError, match="'a caption' mentions two things at one place"):
        judge([said(Mention(CIRCLE, place=0), Mention(RING, place=0))], [scene()])
