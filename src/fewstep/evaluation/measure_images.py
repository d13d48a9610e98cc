"""The metrics of images: distances of their features from the data's, and from images of the same noise."""

from __future__ import annotations

from functools import partial

import numpy as np
import pandas as pd
import torch

from ..metrics.features import Extractor, extract
from ..metrics.frechet import frechet, moments
from ..metrics.jpeg import QUALITY, as_jpeg
from ..metrics.kid import kid
from ..metrics.precision_recall import precision_recall
from ..metrics.protocol import ImageProtocol
from ..metrics.self_checks import self_checks as checks
from ..metrics.step_consistency import CAP, Maps, activations, distances
from ..training.experiment import Experiment
from ..training.features import OnLevels, Reference
from ..training.pool import one_thread
from .metric import Against, Cell, Metric, Row

FID, T_FID, KID, JPEG = "FID", "T-FID", "KID", "FID as JPEG"
NEIGHBOURS = 3
# KID takes all pairs of sets up to this size, which is the mean of the usual subsets without their scatter; larger sets
# are measured in clean-fid's hundred subsets of a thousand, as their pairs are too many
ALL_PAIRS, SUBSETS, SUBSET_SIZE = 10_000, 100, 1000
NOISE_SEED = 3_000_017
# images of noise at a time: a whole number of what an extractor takes at a time, so that no bit depends on it
BATCH = 256
# pairs that distances between images are a mean over: it needs fewer of them than a distance between distributions
PAIRS = 64
DISTANCES = ("PSNR", "SSIM", "feature distance")
ONE_STEP = {distance: f"{distance} to N = 1" for distance in DISTANCES}
TEACHER = {distance: f"{distance} to the teacher" for distance in DISTANCES}
# the distances between images of one noise, by their names in the tables
SAME_NOISE = (*ONE_STEP.values(), *TEACHER.values())
AGREEMENT = ONE_STEP["PSNR"]


def kid_subsets(samples: int, against: int) -> int | None:
    """How many subsets KID is averaged over; None for all pairs."""
    return None if max(samples, against) <= ALL_PAIRS else SUBSETS


def _fid(cell: Cell, against: Against) -> list[Row]:
    return [{"metric": FID, "value": frechet(moments(cell.values), against.moments)}]


def _t_fid(cell: Cell, against: Against) -> list[Row]:
    return [
        {"metric": T_FID, "value": frechet(moments(cell.values), moments(features))}
        for features in (np.load(teacher.other_noise).astype(np.float64) for teacher in cell.teachers)
    ]


def _kid(cell: Cell, against: Against) -> list[Row]:
    own, data = cell.values, against.data.values
    value = kid(own, data, kid_subsets(len(own), len(data)), SUBSET_SIZE, cell.sample_seed)
    return [{"metric": KID, "value": value}]


def _precision_recall(cell: Cell, against: Against) -> list[Row]:
    both = precision_recall(against.manifold, cell.values)
    return [{"metric": "precision", "value": both.precision}, {"metric": "recall", "value": both.recall}]


def _fid_jpeg(cell: Cell, against: Against) -> list[Row]:
    found = extract(as_jpeg(cell.points), against.data.extractor, device=against.device)
    stored = found.values.astype(np.float32).astype(np.float64)
    return [{"metric": JPEG, "value": frechet(moments(stored), against.moments)}]


def maps_of(extractor: Extractor, device: str) -> Maps:
    """The feature maps that images are compared in: a classifier's convolutions, or else the extractor's own features."""
    if isinstance(extractor.network, OnLevels):
        return activations(extractor.network.classifier.convolutions, extractor.network.top, device)
    return lambda images: [extract(images, extractor, device=device).values]


def _same_noise(cell: Cell, against: Against, of_teacher: bool) -> list[Row]:
    others = [teacher.same_noise for teacher in cell.teachers] if of_teacher else [cell.one_step]
    if others in ([], [None], [cell.samples]):
        return []
    extractor, names = against.data.extractor, TEACHER if of_teacher else ONE_STEP
    top = extractor.network.top if isinstance(extractor.network, OnLevels) else 255
    other = np.load(others[0])[:PAIRS]
    values = distances(cell.points[:PAIRS], other, maps_of(extractor, against.device), top)
    return [{"metric": names[distance], "value": value} for distance, value in values.items()]


def image_protocol(against: Against, what: str, extractor: str, split: str, **other: str) -> ImageProtocol:
    """The protocol of a number about the images of an experiment; `other` is what differs from uint8 images as drawn."""
    sampling = against.settings.sampling
    usual = {"format": "uint8", "resize": "none", "reference": "none"}
    return ImageProtocol(
        what,
        extractor,
        split,
        sampling.count,
        **usual | other,
        weights="average over training, at its end",
        seeds=tuple(sampling.seeds),
    )


def _protocol(against: Against, name: str, what: str, stored: str = "uint8") -> dict[str, ImageProtocol]:
    data = against.data
    other = {"resize": data.extractor.resize, "reference": f"sha256 {data.checksum}", "format": stored}
    return {name: image_protocol(against, what, data.extractor.name, data.split, **other)}


def _teacher(against: Against) -> str:
    teacher = against.settings.metrics.reference
    return f"{teacher.method} at {teacher.steps} Euler steps"


def _t_fid_protocol(against: Against) -> dict[str, ImageProtocol]:
    extractor, split = (
        against.data.extractor,
        f"{against.settings.sampling.count} samples of {_teacher(against)}",
    )
    other = {"resize": extractor.resize, "reference": "same training seed and other noise"}
    what = "FID against the teacher's samples"
    return {T_FID: image_protocol(against, what, extractor.name, split, **other)}


def _kid_protocol(against: Against) -> dict[str, ImageProtocol]:
    subsets = kid_subsets(against.settings.sampling.count, len(against.data.values))
    how = "unbiased, over all pairs of samples" if subsets is None else f"{subsets} subsets of {SUBSET_SIZE}"
    return _protocol(against, KID, f"KID, {how}")


def _same_noise_protocol(against: Against, of_teacher: bool) -> dict[str, ImageProtocol]:
    other = _teacher(against) if of_teacher else "one step of the same method"
    extractor, split = against.data.extractor, f"{other}, same noise and training seed"
    terms = f"PSNR at most {CAP:g} dB, SSIM of Wang et al. 2004, feature distance of unit-normalised maps"
    how = f"mean over {PAIRS} pairs of the same noise ({terms})"
    return {
        name: image_protocol(against, f"{d}, {how}", extractor.name, split, resize=extractor.resize)
        for d, name in (TEACHER if of_teacher else ONE_STEP).items()
    }


METRICS = {
    "fid": Metric(
        (FID,),
        "The Frechet distance between the features of the samples and of the data.",
        _fid,
        partial(_protocol, name=FID, what="FID"),
        ("features",),
    ),
    "t_fid": Metric(
        (T_FID,),
        "FID against the teacher's samples from other noises: how well a student copies its teacher, not how good the teacher is.",
        _t_fid,
        _t_fid_protocol,
        ("features",),
    ),
    "kid": Metric(
        (KID,),
        "The kernel distance between the features of the samples and of the data, which has no bias.",
        _kid,
        _kid_protocol,
        ("features", "features of data"),
    ),
    "precision": Metric(
        ("precision",),
        "The share of samples that look like data.",
        _precision_recall,
        partial(_protocol, name="precision", what=f"improved precision, {NEIGHBOURS} neighbours"),
        ("features", "neighbours"),
        ("precision",),
    ),
    "recall": Metric(
        ("recall",),
        "The share of the data that the samples reach.",
        _precision_recall,
        partial(_protocol, name="recall", what=f"improved recall, {NEIGHBOURS} neighbours"),
        ("features", "neighbours"),
        ("recall",),
    ),
    "fid_jpeg": Metric(
        (JPEG,),
        "FID of the samples stored as JPEG files first, as SCFlow's script stores them.",
        _fid_jpeg,
        partial(_protocol, name=JPEG, what="FID", stored=f"jpeg {QUALITY}"),
    ),
    "one_step": Metric(
        tuple(ONE_STEP.values()),
        "How near an image is to that of one step from the same noise; PSNR is in dB.",
        partial(_same_noise, of_teacher=False),
        partial(_same_noise_protocol, of_teacher=False),
        higher=(ONE_STEP["PSNR"], ONE_STEP["SSIM"]),
    ),
    "teacher_images": Metric(
        tuple(TEACHER.values()),
        "How near an image is to the teacher's from the same noise; PSNR is in dB.",
        partial(_same_noise, of_teacher=True),
        partial(_same_noise_protocol, of_teacher=True),
        higher=(TEACHER["PSNR"], TEACHER["SSIM"]),
    ),
}


def self_checks(experiment: Experiment, reference: Reference) -> pd.DataFrame:
    """FID of the data against itself in two halves, against noise, and of smaller and smaller parts: medians, by check and samples."""
    source, device = experiment.source, experiment.compute.device

    def noise(count: int) -> np.ndarray:
        generator = torch.Generator().manual_seed(NOISE_SEED)
        drawn = torch.randn(count, *source.shape, generator=generator) * source.scale
        # some at a time, and latents decoded where the work runs: all images, as floats, may be more than there is memory
        parts = (source.to_uint8(some.to(device)).cpu().numpy() for some in drawn.split(BATCH))
        return np.concatenate([extract(part, reference.extractor, device=device).values for part in parts])

    half, dim = len(reference.values) // 2, reference.values.shape[1]
    sizes = [half // 2**k for k in (3, 2, 1) if half // 2**k > dim]
    with one_thread():
        found = checks(reference.values, noise, sizes)
    return found.groupby(["check", "samples"], sort=False).fid.median().round(3).to_frame()
