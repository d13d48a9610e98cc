"""How far the images of one noise lie apart: in one step and in several, and from the teacher's; and what JPEG files do to FID."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..metrics.features import Extractor, extract
from ..metrics.frechet import Moments, frechet, moments
from ..metrics.jpeg import QUALITY, as_jpeg
from ..metrics.step_consistency import CAP, Maps, activations, distances
from ..settings.sampling import Metrics, Sampling
from ..training.features import OnLevels

# by measure in params.yaml: what the images are compared with, in words, and the metric's name behind each distance
AGAINST = {"one_step": "N = 1", "teacher_images": "the teacher"}
DISTANCES = ("PSNR", "SSIM", "feature distance")
JPEG = "FID as JPEG"
# pairs that the distances are a mean over: a mean over images needs fewer of them than a distance between distributions
PAIRS = 64


@dataclass(frozen=True)
class Pair:
    """Arrays of images, uint8, from the same noises: a cell's own, those of one step, and the teacher's; None where there are none."""

    own: Path
    one_step: Path | None
    teacher_images: Path | None


def names(measure: str) -> dict[str, str]:
    """The metrics' names in the tables, by distance, of the measure "one_step" or "teacher_images"."""
    return {distance: f"{distance} to {AGAINST[measure]}" for distance in DISTANCES}


def said(measure: str, metrics: Metrics) -> tuple[str, str]:
    """What is measured and what the images are compared with, for the evaluation protocol."""
    how = f"mean over {PAIRS} pairs of the same noise (PSNR at most {CAP:g} dB, SSIM of Wang et al. 2004, feature distance of unit-normalised maps)"
    teacher = metrics.reference
    with_what = (
        "one step of the same method"
        if measure == "one_step"
        else f"{teacher.method} at {teacher.steps} Euler steps"
    )
    return how, f"{with_what}, same noise and training seed"


def maps_of(extractor: Extractor, device: str) -> Maps:
    """The feature maps that images are compared in: a classifier's convolutions, or else the extractor's own features."""
    if isinstance(extractor.network, OnLevels):
        return activations(extractor.network.classifier.convolutions, extractor.network.top, device)
    return lambda images: [extract(images, extractor, device=device).values]


def check(sampling: Sampling, metrics: Metrics) -> None:
    """Raise ValueError where a measure has nothing to compare with."""
    if "one_step" in metrics.measures and not any(1 in steps for steps in sampling.steps.values()):
        raise ValueError(
            "the measure 'one_step' compares with one step: `sampling.steps` must draw it for a method"
        )


def measure(
    pair: Pair, measures: list[str], extractor: Extractor, reference: Moments, device: str
) -> Mapping[str, float]:
    """The metrics of a cell by name: distances to one step and to the teacher, and FID of the images as JPEG files against the data's moments."""
    found: dict[str, float] = {}
    own = np.load(pair.own)
    for name in AGAINST:
        other = getattr(pair, name)
        if name in measures and other is not None:
            top = extractor.network.top if isinstance(extractor.network, OnLevels) else 255
            values = distances(own[:PAIRS], np.load(other)[:PAIRS], maps_of(extractor, device), top)
            found |= {title: values[distance] for distance, title in names(name).items()}
    if "fid_jpeg" in measures:
        stored = extract(as_jpeg(own), extractor, device=device).values.astype(np.float32).astype(np.float64)
        found[JPEG] = frechet(moments(stored), reference)
    return found


def jpeg_format() -> str:
    """How the images of `fid_jpeg` are stored, for the evaluation protocol."""
    return f"jpeg {QUALITY}"
