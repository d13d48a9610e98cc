"""What FID gives where the answer is known: the data against itself, against noise, and at few samples."""

from collections.abc import Callable, Sequence

import numpy as np
import pandas as pd

from .features import as_features
from .frechet import frechet, moments


def two_parts(features: np.ndarray, size: int, seed: int) -> float:
    """FID between two disjoint random parts, `size` each, of features (count, dim): the truth is zero."""
    if 2 * size > len(features):
        needed = f"two disjoint parts of {size} samples need {2 * size}"
        raise ValueError(f"{needed} and there are {len(features)}: ask for fewer")
    order = np.random.default_rng(seed).permutation(len(features))
    return frechet(moments(features[order[:size]]), moments(features[order[size : 2 * size]]))


def self_checks(
    features: np.ndarray,
    noise: Callable[[int], np.ndarray],
    sizes: Sequence[int],
    repeats: int = 3,
    seed: int = 0,
) -> pd.DataFrame:
    """FID of the data's features (count, dim) where it is known, one row each: check, samples, repeat, fid.

    "split in two": the halves of the data against each other, close to zero.
    "noise": the data against `noise(count)`, the features of as many images of noise: large.
    "bias": disjoint parts of the data of each of `sizes`; the truth is zero, so this is FID's bias and falls
    as 1 / samples. `samples` is the size of each side. Raises ValueError for NaN, for sizes that repeat, do
    not fit into the data twice or do not exceed the features' dimension, and for less than one repeat.
    """
    if repeats < 1 or len(set(sizes)) < len(sizes):
        found = f"{repeats} repeats of parts of {', '.join(map(str, sizes))}"
        raise ValueError(f"{found} check nothing: give one repeat or more, and sizes that differ")
    features = as_features(features, "the data's features")
    half = len(features) // 2
    rows = [("split in two", half, k, two_parts(features, half, seed + k)) for k in range(repeats)]
    rows.append(("noise", len(features), 0, frechet(moments(features), moments(noise(len(features))))))
    rows += [("bias", size, k, two_parts(features, size, seed + k)) for size in sizes for k in range(repeats)]
    return pd.DataFrame(rows, columns=["check", "samples", "repeat", "fid"])
