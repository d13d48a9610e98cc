"""The metrics of images conditioned on captions: the CLIP score, and attributes that a probe reads back."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data.images import to_signed
from ..metrics.attributes import accuracies, judge
from ..networks.probe import read
from ..training import features
from ..training.experiment import Experiment
from ..training.precision import one_thread
from . import prompts as prompt_sets
from .metric import Cell, Comparison, Metric, Prompts, Row

CLIP_SCORE, ATTRIBUTES = "CLIP score", "attribute accuracy"
# of the attributes, those with a metric of their own
NAMES = {name: f"{name} accuracy" for name in ("shape", "colour", "place", "caption")}
# images of the prompts that self-checks look at, the first ones
CHECKED = 1000


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


def clip_score(images: np.ndarray, prompts: Prompts, device: str) -> float:
    """The mean CLIP score of images (count, channels, height, width), uint8, and their captions, in order."""
    captions = _prompts(prompts.data, prompts.name, len(images)).captions
    scores = _clip(prompts.clip, device).score(torch.from_numpy(images), [c.text for c in captions])
    return float(scores.double().mean())


def attributes(images: np.ndarray, prompts: Prompts) -> dict[str, float]:
    """The shares of what the captions say that the probe reads back from images, uint8, in their order."""
    captions = _prompts(prompts.data, prompts.name, len(images)).captions
    seen = read(features.load_probe(prompts.probe), to_signed(torch.from_numpy(images)))
    right, said = judge(captions, seen)
    shares = accuracies(right, said)
    found = {ATTRIBUTES: float(right.sum() / said.sum())}
    return found | {title: shares[name] for name, title in NAMES.items() if name in shares}


def _clip_score(cell: Cell, against: Comparison) -> list[Row]:
    return [{"metric": CLIP_SCORE, "value": clip_score(cell.points, against.prompts, against.device)}]


def _attributes(cell: Cell, against: Comparison) -> list[Row]:
    found = attributes(cell.points, against.prompts)
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


_READ = "the share of all that captions say which a probe reads back from the picture"
_OF_PROMPTS = {"split": "{prompts}", "resize": "none", "reference": "none"}
METRICS = {
    "clip": Metric(
        {CLIP_SCORE: "{score}"},
        "How well images fit their captions, by the CLIP whose text tower the flow is conditioned on.",
        _clip_score, higher=(CLIP_SCORE,), protocol=_OF_PROMPTS | {"extractor": "{clip}"}),
    "attributes": Metric(
        {ATTRIBUTES: _READ} | {title: f"{_READ}, {name} alone" for name, title in NAMES.items()}
        | {NAMES["caption"]: "the share of captions right in everything"},
        "The share of what captions say, shapes, colours, places and relations, that a probe reads back.",
        _attributes, higher=(ATTRIBUTES, *NAMES.values()), protocol=_OF_PROMPTS | {"extractor": "{probe}"}),
}  # fmt: skip


def self_checks(experiment: Experiment) -> pd.DataFrame:
    """The metrics of the images that the prompts were written for, in order and one place further on."""
    prompts, count = prompts_of(experiment), min(experiment.settings.sampling.count, CHECKED)
    images, measured = np.asarray(_prompts(prompts.data, prompts.name, count).pixels), {}
    with one_thread():
        for title, shown in (("their own captions", images), ("another's", np.roll(images, 1, axis=0))):
            found = measured[title] = {}
            if "clip" in experiment.settings.metrics.measures:
                found[CLIP_SCORE] = clip_score(shown, prompts, experiment.compute.device)
            if "attributes" in experiment.settings.metrics.measures:
                found |= attributes(shown, prompts)
    return pd.DataFrame(measured).round(3).rename_axis("metric")
