"""Scikit-learn's 1,797 handwritten digits, 8x8 in 17 grey levels: the laptop tier's stand-in for CIFAR-10."""

import numpy as np

from .images import Images, Labelled, labelled_split, read_levels

COUNT, TOP = 1797, 16
FILES = ("data/digits.npy", "data/digits_labels.npy")  # what it reads, below the root
HELD_OUT, SPLIT_SEED = 1 / 3, 20_250_518


def pixels() -> np.ndarray:
    """All digits, (1797, 1, 8, 8), uint8 from 0 to 16; raises as `read_levels`."""
    return read_levels(FILES[0], (COUNT, 8, 8), TOP)[:, None]


def labels() -> np.ndarray:
    """Which digit each is, (1797,), int64 from 0 to 9; raises as `read_levels`."""
    return read_levels(FILES[1], (COUNT,), 9).astype(np.int64)


def labelled() -> Labelled:
    """Images and labels to train a classifier on, and a third of every digit to test it on."""
    return labelled_split(pixels(), labels(), HELD_OUT, SPLIT_SEED, TOP)


SOURCE = Images("digits", (1, 8, 8), False, pixels, TOP)
