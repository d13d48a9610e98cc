"""Pictures and their captions: the pairs that a CLIP is trained on, and those on which it is measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import data
from ..data.drawn.scene_captions import Caption
from ..data.drawn.scene_drawing import Scene
from ..data.scenes import CaptionedScenes
from ..metrics.attributes import judge

# how many pairs are drawn to find unambiguous ones, and from which seed; that of "all" pairs is another
DRAWN, DRAW_SEED, ALL_SEED = 1024, 2_000_003, 2_000_004
# the data set's functions (count, seed) that draw pairs which are in no training, by the name of the part
UNSEEN = {"held-out pairs": "validation", "pairs of held-out combinations": "prompts"}


@dataclass(frozen=True)
class Pairs:
    """Pictures, (count, channels, height, width), uint8, with a caption each; raises ValueError otherwise."""

    pictures: np.ndarray
    captions: tuple[str, ...]

    def __post_init__(self) -> None:
        kind, shape, count = self.pictures.dtype, self.pictures.shape, len(self.captions)
        if kind != np.uint8 or len(shape) != 4 or not shape[0] == count > 0:
            problem = f"{count} captions do not go with {kind} pictures of shape {shape}"
            wanted = "uint8 of shape (count, channels, height, width), and one caption each"
            raise ValueError(f"{problem}: give {wanted}")

    def tensor(self) -> Tensor:
        """The pictures as a tensor, copied: it may not share memory with an array that is read-only."""
        return torch.from_numpy(np.array(self.pictures))

    def __getitem__(self, indices: Sequence[int]) -> Pairs:
        return Pairs(self.pictures[list(indices)], tuple(self.captions[k] for k in indices))


def texts_of(captions: Sequence[Any]) -> tuple[str, ...]:
    """The captions of a data set, which are strings or have a `text`."""
    return tuple(getattr(caption, "text", caption) for caption in captions)


def _is_true(caption: Caption, scene: Scene) -> bool:
    # quick comparisons first, before all ways to read the caption are tried
    if len(caption.mentions) != len(scene.things) or caption.background not in (None, scene.background):
        return False
    right, stated = judge([caption], [scene])
    return bool((right == stated).all())


def unambiguous(drawn: CaptionedScenes, count: int) -> Pairs:
    """The first `count` of the pairs drawn, at most, none of whose captions is true of another's picture.

    "a circle" is true of every picture of one circle: a right retrieval would count as wrong.
    """
    kept: list[int] = []
    captions, scenes = drawn.captions, drawn.scenes
    for k, (caption, scene) in enumerate(zip(captions, scenes)):
        confused = (_is_true(caption, scenes[j]) or _is_true(captions[j], scene) for j in kept)
        if len(kept) < count and not any(confused):
            kept.append(k)
    return Pairs(drawn.pixels, texts_of(drawn.captions))[kept]


def pairs_of(name: str, which: str) -> Pairs:
    """The pairs of the data set `name` that a CLIP is trained on.

    "training": those that the flows model; "all": as many, drawn over all that the data set can show.
    """
    module = data.module(name)
    if which == "training":
        return Pairs(module.pictures(), texts_of(module.captions()))
    drawn = module.all_pairs(len(module.captions()), ALL_SEED)
    return Pairs(drawn.pixels, texts_of(drawn.captions))


def unseen_pairs(name: str, count: int) -> dict[str, Pairs]:
    """`count` unambiguous pairs of each part of the data set `name` that is in no training, by its name."""
    module = data.module(name)
    drawn = {part: getattr(module, draw)(DRAWN, DRAW_SEED) for part, draw in UNSEEN.items()}
    return {part: unambiguous(pairs, count) for part, pairs in drawn.items()}
