"""Scikit-learn's 1,797 handwritten digits, 8x8 in 17 grey levels: the laptop tier's stand-in for CIFAR-10.

All of them are the data that is modelled. `labelled` cuts them in two for a classifier, which must be judged on
digits that it has not seen.
"""

from __future__ import annotations

import numpy as np
import torch

from ..storage.workspace import find_root
from .images import ImagesOnFirstUse, split, to_signed

COUNT, TOP = 1797, 16
# what it reads, below the root
FILES = ("data/digits.npy", "data/digits_labels.npy")
HELD_OUT, SPLIT_SEED = 1 / 3, 20_250_518


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
    """All digits, (1797, 1, 8, 8), uint8 from 0 to 16; raises FileNotFoundError or ValueError naming the file and the cure."""
    return _read(FILES[0], (COUNT, 8, 8), TOP)[:, None]


def labels() -> np.ndarray:
    """Which digit each is, (1797,), int64 from 0 to 9; raises as `pixels`."""
    return _read(FILES[1], (COUNT,), 9).astype(np.int64)


def labelled() -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Images and labels to train a classifier on, then images and labels to judge it on: a third of every digit.

    Images are (count, 1, 8, 8), float32 in [-1, 1]; labels (count,), int64. The split is always the same.
    """
    images, classes = to_signed(torch.from_numpy(pixels()), TOP).numpy(), labels()
    train, test = split(classes, HELD_OUT, SPLIT_SEED)
    return images[train], classes[train], images[test], classes[test]


SOURCE = ImagesOnFirstUse("digits", (1, 8, 8), False, pixels, TOP)
