"""What a metric declares, and what its function is handed: the files of one cell, and what they are compared with."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from ..metrics.frechet import Moments
from ..metrics.precision_recall import Manifold
from ..metrics.protocol import ImageProtocol
from ..settings.tiers import ExperimentSettings
from ..training.features import Reference


@dataclass(frozen=True)
class Teacher:
    """The teacher's samples from the same noise and, of another noise, its samples or their features."""

    train_seed: int
    same_noise: Path
    other_noise: Path


@dataclass(frozen=True)
class Cell:
    """The files of one method, number of steps, training seed and sampling seed.

    features  the features of its images; None where points are modelled
    one_step  the images of the same method and noise in one network call; None for those themselves
    teachers  one a training seed: the cell's own, or all of them for the exact map; none without a teacher
    """

    samples: Path
    features: Path | None
    sample_seed: int
    one_step: Path | None = None
    teachers: tuple[Teacher, ...] = ()

    @cached_property
    def points(self) -> np.ndarray:
        """(count, *shape): float32 points, or uint8 images."""
        return np.load(self.samples)

    @cached_property
    def values(self) -> np.ndarray:
        """The features of the images, (count, dim), float64."""
        return np.load(self.features).astype(np.float64)


@dataclass(frozen=True)
class Prompts:
    """The captions that images are conditioned on, the folder of the CLIP that scores them, and the probe's file, if any."""

    data: str
    name: str
    clip: Path
    probe: Path | None


@dataclass(frozen=True)
class Against:
    """What the samples of an experiment are compared with; None or empty what none of its metrics needs.

    target    the array of points of the target
    data      the data's features, and the extractor; moments, manifold: what FID, precision and recall take of them
    """

    settings: ExperimentSettings
    device: str = "cpu"
    target: Path | None = None
    data: Reference | None = None
    moments: Moments | None = None
    manifold: Manifold | None = None
    prompts: Prompts | None = None


# one number: its metric's name under "metric", its "value", and what differs from its cell: "train_seed", "samples", "empty"
Row = dict[str, str | float]


@dataclass(frozen=True)
class Metric:
    """A metric as experiments name it in params.yaml; its names in the tables are the keys of its protocols.

    names     in the tables
    about     one sentence for its reader
    function  measures a cell. Metrics that share their arithmetic share a function, which is called once
    protocol  the frozen evaluation protocol by name; two numbers compare only if theirs are equal
    needs     "target" points, "features" of the images, the data's "features of data" or their "neighbours", "prompts"
    higher    those of the names of which more is better
    """

    names: tuple[str, ...]
    about: str
    function: Callable[[Cell, Against], list[Row]]
    protocol: Callable[[Against], Mapping[str, str | ImageProtocol]]
    needs: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
