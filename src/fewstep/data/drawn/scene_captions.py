"""Captions of scenes in plain English, in several phrasings, and what each of them says.

Every caption names every thing, so it gives their number; sizes, places, colours, the background and how two
things stand to each other are said by some phrasings and left open by others.
"""

from dataclasses import dataclass

from .scene_drawing import BACKGROUNDS, CENTRE, COLOURS, MIDDLES, PLACES, SHAPES, SIZES, Scene

# relation k of one thing to another is relation k ^ 1 of the other to the one
RELATIONS = ("to the left of", "to the right of", "above", "below")
NUMBERS = ("no shapes", "one shape", "two shapes", "three shapes")


@dataclass(frozen=True)
class Mention:
    """A thing as a caption names it: indices into SHAPES, COLOURS, SIZES and PLACES, or None."""

    shape: int | None = None
    colour: int | None = None
    size: int | None = None
    place: int | None = None


@dataclass(frozen=True)
class Relation:
    """How the mention `first` stands to the mention `second` of a caption: an index into RELATIONS."""

    first: int
    kind: int
    second: int


@dataclass(frozen=True)
class Caption:
    """A text and what it says: things in its order, how they stand to each other, the background or None."""

    text: str
    mentions: tuple[Mention, ...]
    relations: tuple[Relation, ...] = ()
    background: int | None = None


def holds(kind: int, place: int, other: int) -> bool:
    """Whether what stands at `place` is RELATIONS[kind] what stands at `other`, by the places' middles."""
    axis, later = divmod(kind, 2)
    gap = MIDDLES[place][axis] - MIDDLES[other][axis]
    return gap > 0 if later else gap < 0


def _named(mention: Mention) -> str:
    """The thing with its article, without its place: no word of ours begins with a vowel."""
    parts = ((SIZES, mention.size), (COLOURS, mention.colour), (SHAPES, mention.shape))
    return " ".join(["a", *(words[index] for words, index in parts if index is not None)])


def _at(place: int) -> str:
    return "in the centre" if place == CENTRE else f"at the {PLACES[place]}"


def _mentions(scene: Scene, *attributes: str) -> tuple[Mention, ...]:
    """The things of a scene with these attributes, and with colours where two would be named alike."""
    found = tuple(Mention(**{name: getattr(thing, name) for name in attributes}) for thing in scene.things)
    return found if len(set(found)) == len(found) else _mentions(scene, *attributes, "colour")


def _related(scene: Scene, choice: int) -> tuple[list[int], tuple[Relation, ...]]:
    """One of the things, picked by `choice`, and the others, and how it stands to each of these."""
    count = len(scene.things)
    subject, turn = choice % count, choice // count
    order = sorted(range(count), key=lambda k: k != subject)
    relations = []
    for second, k in enumerate(order[1:], 1):
        places = scene.things[subject].place, scene.things[k].place
        true = [kind for kind in range(len(RELATIONS)) if holds(kind, *places)]
        relations.append(Relation(0, true[turn % len(true)], second))
    return order, tuple(relations)


# what is named of every thing, the words for one (none: they are named as they stand to each other), the text
PHRASINGS = (
    ("shape colour size place", "{thing} {place}", "{things}, on a {ground} background"),
    ("shape colour", "", "{things}"),
    ("shape colour", "{thing}", "{things}"),
    ("shape colour place", "{thing} {place}", "{things}"),
    ("shape colour size", "", "on a {ground} background, {things}"),
    ("shape", "{thing}", "{number} on {ground}: {things}"),
    ("shape colour size place", "{place} {thing}", "{things}"),
    ("shape colour size", "{thing}", "a picture of {things}"),
    ("shape colour place", "{thing} {place}", "a {ground} background with {things}"),
)
ALONE = {1: 3, 4: 0}  # the phrasing in the place of one by relations, where a thing is alone


def caption(scene: Scene, number: int) -> Caption:
    """A caption of one to three things that differ; `number` chooses the phrasing, and then within it."""
    choice, phrasing = divmod(number, len(PHRASINGS))
    if len(scene.things) == 1:
        phrasing = ALONE.get(phrasing, phrasing)
    attributes, words, text = PHRASINGS[phrasing]
    found, ground = _mentions(scene, *attributes.split()), scene.background
    relations: tuple[Relation, ...] = ()
    if words:
        places = [_at(thing.place) for thing in scene.things]
        *others, things = (words.format(thing=_named(m), place=p) for m, p in zip(found, places))
        things = f"{', '.join(others)} and {things}" if others else things
    else:
        order, relations = _related(scene, choice)
        found = tuple(found[k] for k in order)
        others = " and ".join(f"{RELATIONS[r.kind]} {_named(found[r.second])}" for r in relations)
        things = f"{_named(found[0])} {others}"
    written = text.format(things=things, number=NUMBERS[len(found)], ground=BACKGROUNDS[ground])
    return Caption(written, found, relations, ground if "{ground}" in text else None)
