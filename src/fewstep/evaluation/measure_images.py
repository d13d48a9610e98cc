"""The metrics of images: distances of their features from the data's, and from images of the same noise."""

from pathlib import Path

import numpy as np
import pandas as pd
import torch

from ..metrics.features import Extractor, extract
from ..metrics.frechet import frechet, moments
from ..metrics.frechet import self_checks as checks
from ..metrics.jpeg import QUALITY, as_jpeg
from ..metrics.kid import kid
from ..metrics.precision_recall import precision_recall
from ..metrics.step_consistency import CAP, Maps, activations, distances
from ..training.experiment import Experiment
from ..training.features import OnLevels, Reference
from ..training.precision import one_thread
from .metric import Cell, Comparison, Metric, Row

FID, T_FID, KID, JPEG = "FID", "T-FID", "KID", "FID as JPEG"
NEIGHBOURS = 3
# KID takes all pairs of sets up to this size, the mean of the usual subsets without their scatter; of larger
# ones clean-fid's subsets
ALL_PAIRS, SUBSETS, SUBSET_SIZE = 10_000, 100, 1000
NOISE_SEED = 3_000_017
# images of noise at a time: a multiple of what an extractor takes at a time, so that no bit depends on it
BATCH = 256
# pairs that distances between images are a mean over: fewer than a distance between distributions needs
PAIRS = 64
DISTANCES = ("PSNR", "SSIM", "feature distance")
# their names in the tables
ONE_STEP = {distance: f"{distance} to N = 1" for distance in DISTANCES}
TEACHER = {distance: f"{distance} to the teacher" for distance in DISTANCES}
SAME_NOISE = (*ONE_STEP.values(), *TEACHER.values())
AGREEMENT = ONE_STEP["PSNR"]


def kid_subsets(samples: int, against: int) -> int | None:
    """How many subsets KID is averaged over; None for all pairs."""
    return None if max(samples, against) <= ALL_PAIRS else SUBSETS


def _fid(cell: Cell, against: Comparison) -> list[Row]:
    return [{"metric": FID, "value": frechet(moments(cell.values), against.moments)}]


def _t_fid(cell: Cell, against: Comparison) -> list[Row]:
    teacher = np.load(cell.teachers[0].other_noise).astype(np.float64)
    return [{"metric": T_FID, "value": frechet(moments(cell.values), moments(teacher))}]


def _kid(cell: Cell, against: Comparison) -> list[Row]:
    own, data = cell.values, against.data.values
    value = kid(own, data, kid_subsets(len(own), len(data)), SUBSET_SIZE, cell.sample_seed)
    return [{"metric": KID, "value": value}]


def _precision_recall(cell: Cell, against: Comparison) -> list[Row]:
    both = precision_recall(against.manifold, cell.values)
    return [{"metric": name, "value": getattr(both, name)} for name in ("precision", "recall")]


def _fid_jpeg(cell: Cell, against: Comparison) -> list[Row]:
    found = extract(as_jpeg(cell.points), against.data.extractor, device=against.device)
    stored = found.values.astype(np.float32).astype(np.float64)
    return [{"metric": JPEG, "value": frechet(moments(stored), against.moments)}]


def _maps_and_top(extractor: Extractor, device: str) -> tuple[Maps, int]:
    """What images are compared in, a classifier's convolutions or the extractor's features, and their top."""
    if isinstance(own := extractor.network, OnLevels):
        return activations(own.classifier.convolutions, own.top, device), own.top
    return lambda images: [extract(images, extractor, device=device).values], 255


def _distances(cell: Cell, other: Path | None, against: Comparison, names: dict[str, str]) -> list[Row]:
    if other is None or other == cell.samples:
        return []
    pairs = cell.points[:PAIRS], np.load(other)[:PAIRS]
    values = distances(*pairs, *_maps_and_top(against.data.extractor, against.device))
    return [{"metric": names[distance], "value": value} for distance, value in values.items()]


def _one_step(cell: Cell, against: Comparison) -> list[Row]:
    return _distances(cell, cell.one_step, against, ONE_STEP)


def _teacher_images(cell: Cell, against: Comparison) -> list[Row]:
    return _distances(cell, cell.teachers[0].same_noise, against, TEACHER)


_SAME_NOISE = {"split": "{teacher}, same noise and training seed", "reference": "none"}
_PAIRS = (
    f"mean over {PAIRS} pairs of the same noise (PSNR at most {CAP:g} dB, SSIM of Wang et al. 2004, "
    "feature distance of unit-normalised maps)"
)
METRICS = {
    "fid": Metric(
        {FID: "FID"}, "The Fréchet distance between the features of the samples and of the data.", _fid,
        ("features",)),
    "t_fid": Metric(
        {T_FID: "FID against the teacher's samples"},
        "FID against the teacher's samples from other noises: how well a student copies its teacher.",
        _t_fid, ("features",),
        protocol={"split": "{count} samples of {teacher}",
                  "reference": "same training seed and other noise"}),
    "kid": Metric(
        {KID: "KID, {subsets}"},
        "The kernel distance between the features of the samples and of the data, estimated without bias.",
        _kid, ("features", "features of data")),
    "precision": Metric(
        {"precision": f"improved precision, {NEIGHBOURS} neighbours"},
        "The share of the samples that look like data.",
        _precision_recall, ("features", "neighbours"), ("precision",)),
    "recall": Metric(
        {"recall": f"improved recall, {NEIGHBOURS} neighbours"},
        "The share of the data that the samples reach.",
        _precision_recall, ("features", "neighbours"), ("recall",)),
    "fid_jpeg": Metric(
        {JPEG: "FID"}, "FID of the samples stored as JPEG files first, as SCFlow's script stores them.",
        _fid_jpeg, protocol={"format": f"jpeg {QUALITY}"}),
    "one_step": Metric(
        {name: f"{distance}, {_PAIRS}" for distance, name in ONE_STEP.items()},
        "How near an image is to that of one step from the same noise; PSNR is in dB.",
        _one_step, higher=(ONE_STEP["PSNR"], ONE_STEP["SSIM"]),
        protocol=_SAME_NOISE | {"split": "one step of the same method, same noise and training seed"}),
    "teacher_images": Metric(
        {name: f"{distance}, {_PAIRS}" for distance, name in TEACHER.items()},
        "How near an image is to the teacher's from the same noise; PSNR is in dB.",
        _teacher_images, higher=(TEACHER["PSNR"], TEACHER["SSIM"]), protocol=_SAME_NOISE),
}  # fmt: skip


def self_checks(experiment: Experiment, reference: Reference) -> pd.DataFrame:
    """The medians of FID by check and samples: the data against itself, in smaller parts too, and noise."""
    source, device = experiment.source, experiment.compute.device

    def noise(count: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(NOISE_SEED)
        drawn = torch.randn(count, *source.shape, generator=generator) * source.scale
        # some at a time, and latents decoded where the work runs: all images as floats may exceed the memory
        parts = (source.to_uint8(some.to(device)).cpu().numpy() for some in drawn.split(BATCH))
        return np.concatenate([extract(part, reference.extractor, device=device).values for part in parts])

    half, dim = len(reference.values) // 2, reference.values.shape[1]
    sizes = [half // 2**k for k in (3, 2, 1) if half // 2**k > dim]
    with one_thread():
        found = checks(reference.values, noise, sizes)
    return found.groupby(["check", "samples"], sort=False).fid.median().round(3).to_frame()
