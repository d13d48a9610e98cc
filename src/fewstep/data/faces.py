"""8,000 little faces, 32x32 RGB, drawn by the house (see fewstep.data.drawn.face_drawing): the laptop tier's stand-in for CelebA-HQ.

All of them are the data that is modelled, and half of what is drawn is mirrored. The classes are what a mirror leaves
as it is: hair, glasses, mouth. `held_out` gives faces that are in no file.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ..storage.workspace import find_root
from .drawn.face_drawing import FACTORS, GLASSES, HAIR, OPEN, SIDE, render
from .images import Images, ImagesOnFirstUse, split, to_signed

COUNT, SEED = 8000, 20_241_216
# other faces than those of the file, whichever they are asked for with
UNSEEN_SEED = 20_250_518
# what it reads, below the root
FILES = ("data/faces.npy", "data/faces_classes.npy")
CLASSES = len(HAIR) * 4
HELD_OUT, SPLIT_SEED = 1 / 5, 20_241_216


def factors(count: int, seed: int | tuple[int, ...]) -> np.ndarray:
    """What `count` faces are like, (count, len(FACTORS)), float64 in [0, 1); the first of many are those of fewer with the same seed."""
    return np.random.default_rng(seed).random((count, len(FACTORS)))


def draw(count: int, seed: int | tuple[int, ...]) -> tuple[np.ndarray, np.ndarray]:
    """`count` faces, (count, 3, 32, 32) uint8, and their `factors`."""
    drawn = factors(count, seed)
    return render(drawn), drawn


def classes(drawn: np.ndarray) -> np.ndarray:
    """The class 0..23 of each row of factors, (count,), uint8: 4 * style of the hair + 2 * glasses + open mouth."""
    style, glasses, mouth = (drawn[:, FACTORS.index(name)] for name in ("hair_style", "glasses", "mouth"))
    hair = np.minimum((style * len(HAIR)).astype(np.uint8), len(HAIR) - 1)
    return (4 * hair + 2 * (glasses < GLASSES) + (mouth < OPEN)).astype(np.uint8)


def _read(name: str, shape: tuple[int, ...], top: int) -> np.ndarray:
    path, cure = find_root() / name, "run `python -m fewstep data`"
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: {cure}")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read ({type(error).__name__}): delete it and {cure}") from None
    if array.shape != shape or array.dtype != np.uint8 or array.max() > top:
        raise ValueError(f"{path} is not {shape} uint8 from 0 to {top}: delete it and {cure}")
    return array


def pixels() -> np.ndarray:
    """All faces, (8000, 3, 32, 32), uint8; raises FileNotFoundError or ValueError naming the file and the cure."""
    return _read(FILES[0], (COUNT, 3, SIDE, SIDE), 255)


def labels() -> np.ndarray:
    """The class of each, (8000,), int64 from 0 to 23; raises as `pixels`."""
    return _read(FILES[1], (COUNT,), CLASSES - 1).astype(np.int64)


def labelled() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and classes to train a classifier on, then images and classes to judge it on: a fifth of every class.

    Images are (count, 3, 32, 32), float32 in [-1, 1]; classes (count,), int64. The split is always the same.
    """
    images, found = to_signed(torch.from_numpy(pixels())).numpy(), labels()
    train, test = split(found, HELD_OUT, SPLIT_SEED)
    return images[train], found[train], images[test], found[test]


def held_out(count: int, seed: int) -> Tensor:
    """`count` faces that are not in the file, (count, 3, 32, 32), float32 in [-1, 1], on the CPU, half of them mirrored as in training."""
    unseen, _ = draw(count, (UNSEEN_SEED, seed))
    return Images(unseen, "faces", True).sample(count, torch.Generator().manual_seed(seed))


SOURCE = ImagesOnFirstUse("faces", (3, SIDE, SIDE), True, pixels)
