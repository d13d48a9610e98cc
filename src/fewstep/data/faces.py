"""8,000 little faces, 32x32 RGB, drawn from factors: the laptop tier's stand-in for CelebA-HQ.

Half of what is drawn is mirrored; the classes are what a mirror leaves as it is: hair, glasses, mouth.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from .drawn.face_drawing import FACTORS, GLASSES, HAIR, OPEN, SIDE, choice, render
from .images import Images, Labelled, labelled_split, read_levels

COUNT, SEED = 8000, 20_241_216
HELD_OUT_SEED = 20_250_518  # other faces than those of the file, whichever they are asked for with
FILES = ("data/faces.npy", "data/faces_classes.npy")  # what it reads, below the root
CLASSES = len(HAIR) * 4
HELD_OUT, SPLIT_SEED = 1 / 5, 20_241_216


def factors(count: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """Factors of `count` faces, (count, len(FACTORS)); a larger count begins with the same rows."""
    return np.random.default_rng(seed).random((count, len(FACTORS)))


def draw(count: int, seed: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """`count` faces, (count, 3, 32, 32) uint8, and their `factors`."""
    drawn = factors(count, seed)
    return render(drawn), drawn


def classes(drawn: np.ndarray) -> np.ndarray:
    """The class 0..23 of each row of factors, (count,), uint8: 4 * hair style + 2 * glasses + open mouth."""
    style, glasses, mouth = (drawn[:, FACTORS.index(name)] for name in ("hair_style", "glasses", "mouth"))
    return (4 * choice(style, len(HAIR)) + 2 * (glasses < GLASSES) + (mouth < OPEN)).astype(np.uint8)


def pixels() -> np.ndarray:
    """All faces, (8000, 3, 32, 32), uint8; raises as `read_levels`."""
    return read_levels(FILES[0], (COUNT, 3, SIDE, SIDE), 255)


def labels() -> np.ndarray:
    """The class of each, (8000,), int64 from 0 to 23; raises as `read_levels`."""
    return read_levels(FILES[1], (COUNT,), CLASSES - 1).astype(np.int64)


def labelled() -> Labelled:
    """Images and classes to train a classifier on, and a fifth of every class to test it on."""
    return labelled_split(pixels(), labels(), HELD_OUT, SPLIT_SEED)


def held_out(count: int, seed: int) -> Tensor:
    """`count` faces that are in no file, (count, 3, 32, 32), float32 in [-1, 1], half of them mirrored."""
    unseen, _ = draw(count, (HELD_OUT_SEED, seed))
    return replace(SOURCE, read=lambda: unseen).sample(count, torch.Generator().manual_seed(seed))


SOURCE = Images("faces", (3, SIDE, SIDE), True, pixels)
