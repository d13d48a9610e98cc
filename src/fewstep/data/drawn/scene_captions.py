"""Captions of scenes in plain English, in several phrasings, and what each of them says.

Every caption names every thing, so it gives their number; sizes, places, colours, the background
and how two things stand to each other are said by some phrasings and left open by others. What a caption
leaves open, no picture is asked for.
"""

from __future__ import annotations

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
    words = [] if mention.size is None else [SIZES[mention.size]]
    words += [] if mention.colour is None else [COLOURS[mention.colour]]
    return " ".join(["a", *words, SHAPES[mention.shape]])


def _at(place: int) -> str:
    return "in the centre" if place == CENTRE else f"at the {PLACES[place]}"


def _listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"


def _placed(mentions: tuple[Mention, ...]) -> str:
    return _listed([f"{_named(mention)} {_at(mention.place)}" for mention in mentions])


def _mentions(scene: Scene, *attributes: str) -> tuple[Mention, ...]:
    """The things of a scene with these attributes, and with colours where two would be named alike."""
    found = tuple(Mention(**{name: getattr(thing, name) for name in attributes}) for thing in scene.things)
    return found if len(set(found)) == len(found) else _mentions(scene, *attributes, "colour")


def _with_places(scene: Scene, choice: int) -> Caption:
    found = _mentions(scene, "shape", "colour", "place")
    return Caption(_placed(found), found)


def _with_everything(scene: Scene, choice: int) -> Caption:
    found = _mentions(scene, "shape", "colour", "size", "place")
    text = f"{_placed(found)}, on a {BACKGROUNDS[scene.background]} background"
    return Caption(text, found, background=scene.background)


def _places_first(scene: Scene, choice: int) -> Caption:
    found = _mentions(scene, "shape", "colour", "size", "place")
    return Caption(_listed([f"{_at(m.place)} {_named(m)}" for m in found]), found)


def _background_first(scene: Scene, choice: int) -> Caption:
    found = _mentions(scene, "shape", "colour", "place")
    text = f"a {BACKGROUNDS[scene.background]} background with {_placed(found)}"
    return Caption(text, found, background=scene.background)


def _picture(scene: Scene, choice: int) -> Caption:
    found = _mentions(scene, "shape", "colour", "size")
    return Caption(f"a picture of {_listed([_named(m) for m in found])}", found)


def _short(scene: Scene, choice: int) -> Caption:
    found = _mentions(scene, "shape", "colour")
    return Caption(_listed([_named(m) for m in found]), found)


def _counted(scene: Scene, choice: int) -> Caption:
    """Shapes without colours, unless a shape comes twice."""
    found = _mentions(scene, "shape")
    text = f"{NUMBERS[len(found)]} on {BACKGROUNDS[scene.background]}: {_listed([_named(m) for m in found])}"
    return Caption(text, found, background=scene.background)


def _related(scene: Scene, choice: int, attributes: tuple[str, ...]) -> Caption:
    """One of the things, picked by `choice`, as it stands to each of the others, along rows or columns."""
    found = _mentions(scene, *attributes)
    subject = choice % len(found)
    order = [subject, *(k for k in range(len(found)) if k != subject)]
    relations, place = [], scene.things[subject].place
    for second, k in enumerate(order[1:], 1):
        true = [kind for kind in range(len(RELATIONS)) if holds(kind, place, scene.things[k].place)]
        relations.append(Relation(0, true[choice // len(found) % len(true)], second))
    found = tuple(found[k] for k in order)
    others = " and ".join(f"{RELATIONS[r.kind]} {_named(found[r.second])}" for r in relations)
    return Caption(f"{_named(found[0])} {others}", found, tuple(relations))


def _relations(scene: Scene, choice: int) -> Caption:
    if len(scene.things) == 1:
        return _with_places(scene, choice)
    return _related(scene, choice, ("shape", "colour"))


def _relations_on_background(scene: Scene, choice: int) -> Caption:
    if len(scene.things) == 1:
        return _with_everything(scene, choice)
    inner = _related(scene, choice, ("shape", "colour", "size"))
    text = f"on a {BACKGROUNDS[scene.background]} background, {inner.text}"
    return Caption(text, inner.mentions, inner.relations, scene.background)


PHRASINGS = (
    _with_everything, _relations, _short, _with_places, _relations_on_background, _counted, _places_first,
    _picture, _background_first,
)  # fmt: skip


def caption(scene: Scene, number: int) -> Caption:
    """A caption of a scene of one to three things.

    The phrasing is `number` modulo their number; what is left chooses within it. The arguments alone decide.
    Raises ValueError for a scene of none or more things, and for two of one colour and shape, which no
    phrasing distinguishes.
    """
    if not 1 <= len(scene.things) < len(NUMBERS) or len(set(scene.pairs)) < len(scene.pairs):
        pairs = ", ".join(f"{COLOURS[colour]} {SHAPES[shape]}" for colour, shape in scene.pairs)
        cure = "give one to three things that differ in colour or shape"
        raise ValueError(f"a scene of {pairs or 'nothing'} has no caption: {cure}")
    return PHRASINGS[number % len(PHRASINGS)](scene, number // len(PHRASINGS))
