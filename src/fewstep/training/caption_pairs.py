"""Pictures and their captions: those of a data set that a CLIP is trained on, and those on which it is judged."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from .. import data
from ..data.drawn.scene_captions import Caption
from ..data.drawn.scene_drawing import Scene
from ..metrics.attributes import judge

# how many pairs are drawn to find so many that are told apart, and from which seed; that of "all" pairs is another
DRAWN, DRAW_SEED, ALL_SEED = 1024, 2_000_003, 2_000_004
# the data set's functions (count, seed) that draw pairs which are in no training, by what they are called here
UNSEEN = {"held-out pairs": "validation", "pairs of held-out combinations": "prompts"}


@dataclass(frozen=True)
class Pairs:
    """Pictures, (count, channels, height, width), uint8, and one caption each; raises ValueError where these do not go together."""

    pictures: np.ndarray
    captions: tuple[str, ...]

    def __post_init__(self) -> None:
        if (
            self.pictures.dtype != np.uint8
            or self.pictures.ndim != 4
            or len(self.pictures) != len(self.captions)
            or not self.captions
        ):
            raise ValueError(
                f"{len(self.captions)} captions do not go with {self.pictures.dtype} pictures of shape {self.pictures.shape}: "
                "give uint8 of shape (count, channels, height, width), and one caption each"
            )

    def tensor(self) -> Tensor:
        """The pictures as a tensor of their own."""
        # a tensor may not share memory with an array that is not to be written to
        return torch.from_numpy(np.array(self.pictures))

    def __getitem__(self, which: Sequence[int]) -> Pairs:
        """The pairs with these indices."""
        return Pairs(self.pictures[list(which)], tuple(self.captions[k] for k in which))


class Captioned(Protocol):
    """Pairs as a data set draws them: what its captions say is true of its own pictures, and known of all others."""

    scenes: Sequence[Any]
    captions: Sequence[Caption]
    pixels: np.ndarray


def _pairs(pictures: np.ndarray, captions: Sequence[Any]) -> Pairs:
    """Pairs of a data set, whose captions are texts or have one."""
    return Pairs(pictures, tuple(getattr(caption, "text", caption) for caption in captions))


def _is_true(caption: Caption, scene: Scene) -> bool:
    # the two that are soon compared, before all ways to read the caption are gone through
    if len(caption.mentions) != len(scene.things) or caption.background not in (None, scene.background):
        return False
    right, said = judge([caption], [scene])
    return bool((right == said).all())


def unambiguous(drawn: Captioned, count: int) -> Pairs:
    """The first `count` of the pairs drawn, or as many as there are, none of whose captions is true of another's picture.

    Among captions that merely differ, "a circle" is true of every picture of one circle: whoever finds another than the
    one it was written for has found right and would be counted wrong.
    """
    kept: list[int] = []
    for k, (caption, scene) in enumerate(zip(drawn.captions, drawn.scenes)):
        if len(kept) < count and not any(
            _is_true(caption, drawn.scenes[other]) or _is_true(drawn.captions[other], scene) for other in kept
        ):
            kept.append(k)
    return _pairs(drawn.pixels, drawn.captions)[kept]


def pairs_of(name: str, which: str) -> Pairs:
    """The pairs of the data set `name` that a CLIP is trained on: "training", those that are modelled, or "all", as many drawn over all there can be."""
    module = data.module(name)
    if which == "training":
        return _pairs(module.pictures(), module.captions())
    drawn = module.all_pairs(len(module.captions()), ALL_SEED)
    return _pairs(drawn.pixels, drawn.captions)


def unseen_pairs(name: str, count: int) -> dict[str, Pairs]:
    """`count` pairs that are told apart, of each part of the data set `name` that is in no training, by what the part is."""
    module = data.module(name)
    return {part: unambiguous(getattr(module, own)(DRAWN, DRAW_SEED), count) for part, own in UNSEEN.items()}
