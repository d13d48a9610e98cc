"""Every metric of params.yaml: of points in the plane, of images, and of images conditioned on captions.

Images are measured by distances of their features from the data's, by distances from images of the same
noise, by the CLIP score, and by the attributes that a probe reads back.
"""

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data.images import to_signed
from ..metrics.attributes import accuracies, judge
from ..metrics.features import QUALITY, Extractor, as_jpeg, extract
from ..metrics.frechet import frechet, moments
from ..metrics.frechet import self_checks as checks
from ..metrics.pairs import kid, precision_recall
from ..metrics.points import kl_to_checkerboard, map_distance, squared_w2
from ..metrics.step_consistency import CAP, Maps, activations, distances
from ..networks.probe import read
from ..training import features
from ..training.experiment import Experiment
from ..training.precision import one_thread
from . import prompts as prompt_sets
from .metric import Cell, Comparison, Metric, Prompts, Row

KL = "KL to target"
W2_TARGET, W2_TEACHER, MAP_TEACHER = "W2^2 to target", "W2^2 to teacher samples", "L2 to teacher map"
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
CLIP_SCORE, ATTRIBUTES = "CLIP score", "attribute accuracy"
# of the attributes, those with a metric of their own
NAMES = {name: f"{name} accuracy" for name in ("shape", "colour", "place", "caption")}
# images of the prompts that self-checks look at, the first ones
CHECKED = 1000


def _kl(cell: Cell, against: Comparison) -> list[Row]:
    result = kl_to_checkerboard(cell.points, against.settings.metrics.bins)
    return [{"metric": KL, "value": result.value, "empty": result.empty}]


def _w2_target(cell: Cell, against: Comparison) -> list[Row]:
    size, target = against.settings.metrics.w2_samples, np.load(against.target, mmap_mode="r")
    # every sampling seed meets its own part of the target's points
    order = against.settings.sampling.seeds.index(cell.sample_seed)
    start = order * size % (len(target) - size + 1)
    value = squared_w2(cell.points[:size], target[start : start + size])
    return [{"metric": W2_TARGET, "value": value, "samples": size}]


def _w2_teacher(cell: Cell, against: Comparison) -> list[Row]:
    size, found = against.settings.metrics.w2_samples, []
    for t in cell.teachers:
        value = squared_w2(cell.points[:size], np.load(t.other_noise)[:size])
        found.append({"metric": W2_TEACHER, "value": value, "samples": size, "train_seed": t.train_seed})
    return found


def _map_teacher(cell: Cell, against: Comparison) -> list[Row]:
    values = {t.train_seed: map_distance(cell.points, np.load(t.same_noise)) for t in cell.teachers}
    return [{"metric": MAP_TEACHER, "value": value, "train_seed": seed} for seed, value in values.items()]


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
    if isinstance(own := extractor.network, features.OnLevels):
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


def prompts_of(experiment: Experiment) -> Prompts:
    """The prompts of an experiment; raises FileNotFoundError, naming the cure, where a stage has not run."""
    preparation = features.FeaturePreparation.open(experiment.tier, experiment.settings.metrics.features)
    folder, name = prompt_sets.clip_of(experiment).folder, experiment.settings.sampling.prompts
    return Prompts(experiment.latents.data, name, folder, features.probe_file(preparation))


@cache
def _clip(folder: Path, device: str) -> Any:
    # here, and not above: transformers takes seconds to load, and most experiments have no captions
    from ..networks import clip_files

    return clip_files.load(folder, device)


_prompts = cache(prompt_sets.load)


def clip_score(images: np.ndarray, prompts: Prompts, device: str) -> dict[str, float]:
    """The mean CLIP score of images (count, channels, height, width), uint8, and their captions, in order."""
    captions = _prompts(prompts.data, prompts.name, len(images)).captions
    scores = _clip(prompts.clip, device).score(torch.from_numpy(images), [c.text for c in captions])
    return {CLIP_SCORE: float(scores.double().mean())}


def attributes(images: np.ndarray, prompts: Prompts, device: str) -> dict[str, float]:
    """The shares of what the captions say that the probe reads back from images, uint8, in their order."""
    captions = _prompts(prompts.data, prompts.name, len(images)).captions
    seen = read(features.load_probe(prompts.probe), to_signed(torch.from_numpy(images)))
    right, said = judge(captions, seen)
    shares = accuracies(right, said)
    found = {ATTRIBUTES: float(right.sum() / said.sum())}
    return found | {title: shares[name] for name, title in NAMES.items() if name in shares}


def _of_cell(cell: Cell, against: Comparison, function: Callable[..., dict[str, float]]) -> list[Row]:
    found = function(cell.points, against.prompts, against.device)
    return [{"metric": name, "value": value} for name, value in found.items()]


def words(prompts: Prompts, measures: list[str], count: int) -> dict[str, str]:
    """What stands for the words in braces in the protocols of these metrics."""
    said = {"prompts": f"the first {count} prompts {prompts.name} of {prompts.data}"}
    if "clip" in measures:
        from ..networks import clip_files

        clip = clip_files.read_described(prompts.clip)
        said |= {"score": clip["score"], "clip": f"{clip['clip']} (sha256 {clip['checksum'][:8]})"}
    if "attributes" in measures:
        said["probe"] = features.probe_name(prompts.probe)
    return said


_SAME_NOISE = {"split": "{teacher}, same noise and training seed", "reference": "none"}
_PAIRS = (
    f"mean over {PAIRS} pairs of the same noise (PSNR at most {CAP:g} dB, SSIM of Wang et al. 2004, "
    "feature distance of unit-normalised maps)"
)
_READ = "the share of all that captions say which a probe reads back from the picture"
_OF_PROMPTS = {"split": "{prompts}", "resize": "none", "reference": "none"}
# by their names in params.yaml
METRICS: dict[str, Metric] = {
    "kl": Metric(
        {KL: "KL(target || histogram), {count} samples, {bins}x{bins} bins on [-1,1]^2, exact quadrature"},
        "From the target to the histogram, so missing a square costs more than spilling over its edge. Bins "
        "that straddle an edge cost even a perfect sampler something (0.054 with 50 along an axis); a bin "
        "that caught no sample counts as half of one, also in their sum: KL would be infinite else.", _kl),
    "w2_target": Metric(
        {W2_TARGET: "exact assignment, {size} samples against {size} of data/checkerboard.npy"},
        "The squared Wasserstein distance to points of the target.", _w2_target, ("target",)),
    "w2_teacher": Metric(
        {W2_TEACHER: "exact assignment, {size} samples against {size} of {teacher}, independent noise"},
        "The squared Wasserstein distance to the teacher's samples from another noise.", _w2_teacher),
    "map_teacher": Metric(
        {MAP_TEACHER: "root mean square over {count} noises, against {teacher}, "
                      "same noise and training seed"},
        "How far the points lie from the teacher's of the same noise.", _map_teacher),
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
    "clip": Metric(
        {CLIP_SCORE: "{score}"},
        "How well images fit their captions, by the CLIP whose text tower the flow is conditioned on.",
        partial(_of_cell, function=clip_score), higher=(CLIP_SCORE,),
        protocol=_OF_PROMPTS | {"extractor": "{clip}"}),
    "attributes": Metric(
        {ATTRIBUTES: _READ} | {title: f"{_READ}, {name} alone" for name, title in NAMES.items()}
        | {NAMES["caption"]: "the share of captions right in everything"},
        "The share of what captions say, shapes, colours, places and relations, that a probe reads back.",
        partial(_of_cell, function=attributes), higher=(ATTRIBUTES, *NAMES.values()),
        protocol=_OF_PROMPTS | {"extractor": "{probe}"}),
}  # fmt: skip


def fid_self_checks(experiment: Experiment, reference: features.Reference) -> pd.DataFrame:
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


def caption_self_checks(experiment: Experiment) -> pd.DataFrame:
    """The metrics of the images that the prompts were written for, in order and one place further on."""
    prompts, count = prompts_of(experiment), min(experiment.settings.sampling.count, CHECKED)
    images, measured = np.asarray(_prompts(prompts.data, prompts.name, count).pixels), {}
    with one_thread():
        for title, shown in (("their own captions", images), ("another's", np.roll(images, 1, axis=0))):
            found = measured[title] = {}
            for measure, function in (("clip", clip_score), ("attributes", attributes)):
                if measure in experiment.settings.metrics.measures:
                    found |= function(shown, prompts, experiment.compute.device)
    return pd.DataFrame(measured).round(3).rename_axis("metric")
