"""The share of captions' statements that hold in images, as a probe reads these: by attribute, by caption.

Each thing that a caption mentions is matched with one that was read: with its place, the one that was read
there, or none; without, so that the most attributes are right, among equals the most shapes, then colours,
then relations, then in the order of places. A mention without a match is wrong in all its attributes.
"""

from collections.abc import Iterator, Sequence
from itertools import permutations

import numpy as np

from ..data.drawn.scene_captions import Caption, holds
from ..data.drawn.scene_drawing import Scene, Thing

# what a caption says: of things, of pairs of them, of the picture
ATTRIBUTES = ("shape", "colour", "size", "place", "relation", "background", "number")
OF_THINGS, RELATION, BACKGROUND, NUMBER = ATTRIBUTES[:4], *range(4, len(ATTRIBUTES))


def _matchings(caption: Caption, scene: Scene) -> Iterator[tuple[Thing | None, ...]]:
    """Every matching of the things mentioned with things read: those with a place have no choice."""
    there, mentions = {thing.place: thing for thing in scene.things}, caption.mentions
    placed = {k: there.get(mention.place) for k, mention in enumerate(mentions) if mention.place is not None}
    free = [k for k in range(len(mentions)) if k not in placed]
    left = [thing for thing in scene.things if thing not in placed.values()]
    for order in permutations(left + [None] * max(len(free) - len(left), 0), len(free)):
        matched = placed | dict(zip(free, order))
        yield tuple(matched[k] for k in range(len(mentions)))


def _right(caption: Caption, things: tuple[Thing | None, ...]) -> np.ndarray:
    """How many statements about things and relations hold for a matching, by attribute, (7,)."""
    right = np.zeros(len(ATTRIBUTES), np.int64)
    for mention, thing in zip(caption.mentions, things):
        for k, name in enumerate(OF_THINGS):
            right[k] += thing is not None and getattr(mention, name) == getattr(thing, name)
    for relation in caption.relations:
        first, second = things[relation.first], things[relation.second]
        if first is not None and second is not None:
            right[RELATION] += holds(relation.kind, first.place, second.place)
    return right


def judge(captions: Sequence[Caption], read: Sequence[Scene]) -> tuple[np.ndarray, np.ndarray]:
    """How many statements of each caption hold in its scene, and how many it makes, both (captions, 7).

    The background and the number of things are one statement each. Raises ValueError unless there is one
    scene a caption, and for two things mentioned at one place.
    """
    if len(captions) != len(read) or not len(captions):
        raise ValueError(f"{len(captions)} captions do not judge {len(read)} scenes: give one a caption")
    right, said = np.zeros((2, len(captions), len(ATTRIBUTES)), np.int64)
    for k, (caption, scene) in enumerate(zip(captions, read)):
        places = [mention.place for mention in caption.mentions if mention.place is not None]
        if len(set(places)) < len(places):
            raise ValueError(f"the caption '{caption.text}' mentions two things at one place")
        # permutations come in the order of the places, and max keeps the first of equals
        matched = (_right(caption, things) for things in _matchings(caption, scene))
        right[k] = max(matched, key=lambda r: (r[:RELATION].sum(), r[0], r[1], r[RELATION]))
        right[k, BACKGROUND] = caption.background is not None and caption.background == scene.background
        right[k, NUMBER] = len(caption.mentions) == len(scene.things)
        of_things = [sum(getattr(m, name) is not None for m in caption.mentions) for name in OF_THINGS]
        said[k] = *of_things, len(caption.relations), caption.background is not None, 1
    return right, said


def accuracies(right: np.ndarray, said: np.ndarray) -> dict[str, float]:
    """The share of right statements by attribute, if any; `caption` of captions right in all."""
    stated = [(k, name) for k, name in enumerate(ATTRIBUTES) if said[:, k].any()]
    found = {name: int(right[:, k].sum()) / int(said[:, k].sum()) for k, name in stated}
    return found | {"caption": float((right == said).all(1).mean())}
