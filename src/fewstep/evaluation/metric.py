"""What a metric declares, and what its function is given: a cell's files, and what they are compared with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from ..metrics.frechet import Moments
from ..metrics.pairs import Manifold
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

    features  of its images; None where points are modelled
    one_step  the images of the same method and noise in one network call; None for those themselves
    teachers  one, of the cell's training seed; all of them for the exact map; none without a teacher
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
    """A data set's prompts by name, the folder of the CLIP, and the file of the probe, if there is one."""

    data: str
    name: str
    clip: Path
    probe: Path | None


@dataclass(frozen=True)
class Comparison:
    """What the samples of an experiment are compared with; None what none of its metrics needs.

    target    the array of points of the target
    data      the data's features and the extractor
    moments   of the data's features; manifold: their neighbours, for precision and recall
    """

    settings: ExperimentSettings
    device: str = "cpu"
    target: Path | None = None
    data: Reference | None = None
    moments: Moments | None = None
    manifold: Manifold | None = None
    prompts: Prompts | None = None


# a number: "metric", "value", and what is not its cell's: "train_seed", "samples", "empty"
Row = dict[str, str | float]


@dataclass(frozen=True)
class Metric:
    """A metric as params.yaml names it.

    names     its names in the tables, each with what is measured: the protocol of points, a field of images'
    about     one sentence for its reader
    function  measures a cell. Metrics that share their arithmetic share a function, which is called once
    needs     "target" points, "features" of the images, the data's "features of data" or their "neighbours"
    higher    those of the names of which more is better
    protocol  fields of images' protocol that are not as usual. Braces are filled in with measure.words
    """

    names: Mapping[str, str]
    about: str
    function: Callable[[Cell, Comparison], list[Row]]
    needs: tuple[str, ...] = ()
    higher: tuple[str, ...] = ()
    protocol: Mapping[str, str] = field(default_factory=dict)
