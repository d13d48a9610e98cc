"""Does the picture show what the caption says: the CLIP score, and attributes that a probe reads back from the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data.images import to_signed
from ..metrics.attributes import accuracies, judge
from ..networks import clip, clip_files
from ..networks.probe import read
from ..training import features
from ..training.experiment import Experiment
from ..training.pool import one_thread
from . import prompts as prompt_sets

CLIP_SCORE, ATTRIBUTES = "CLIP score", "attribute accuracy"
# of the attributes, those with a metric of their own
NAMES = {
    "shape": "shape accuracy",
    "colour": "colour accuracy",
    "place": "place accuracy",
    "caption": "caption accuracy",
}
# pictures of the prompts that are looked at, the first ones
CHECKED = 1000
MEASURES = {"clip": (CLIP_SCORE,), "attributes": (ATTRIBUTES, *NAMES.values())}


@dataclass(frozen=True)
class PromptReference:
    """What images are held against: the data set and the set of prompts that they were drawn for, the CLIP's folder and the probe's file, if it has one."""

    data: str
    prompts: str
    clip: Path
    probe: Path | None

    @classmethod
    def of_experiment(
        cls, experiment: Experiment, preparation: features.FeaturePreparation
    ) -> PromptReference:
        """That of an experiment; raises FileNotFoundError, naming the cure, where a stage has not run."""
        folder = prompt_sets.clip_of(experiment).folder
        return cls(
            experiment.latents.data,
            experiment.settings.sampling.prompts,
            folder,
            features.probe_file(preparation),
        )


@cache
def _clip(folder: Path, device: str) -> clip.Clip:
    return clip_files.load(folder, device)


@cache
def _prompts(data_name: str, name: str, count: int) -> Any:
    return prompt_sets.load(data_name, name, count)


def measure(
    images: np.ndarray, measures: list[str], reference: PromptReference, device: str
) -> dict[str, float]:
    """The metrics of images (count, channels, height, width), uint8, drawn for the prompts in their order, by name."""
    found, captions = {}, _prompts(reference.data, reference.prompts, len(images)).captions
    if "clip" in measures:
        scores = _clip(reference.clip, device).score(
            torch.from_numpy(images), [caption.text for caption in captions]
        )
        found[CLIP_SCORE] = float(scores.double().mean())
    if "attributes" in measures:
        right, said = judge(
            captions, read(features.load_probe(reference.probe), to_signed(torch.from_numpy(images)))
        )
        own = accuracies(right, said)
        found[ATTRIBUTES] = float(right.sum() / said.sum())
        found |= {title: own[name] for name, title in NAMES.items() if name in own}
    return found


def self_checks(experiment: Experiment) -> pd.DataFrame:
    """What the metrics of an experiment say of the pictures that its prompts were written for: in their order, and each one place further on."""
    reference = PromptReference.of_experiment(
        experiment, features.FeaturePreparation.open(experiment.tier, experiment.settings.metrics.features)
    )
    measures = [measure for measure in experiment.settings.metrics.measures if measure in MEASURES]
    own = np.asarray(
        _prompts(reference.data, reference.prompts, min(experiment.settings.sampling.count, CHECKED)).pixels
    )
    with one_thread():
        found = {
            name: measure(images, measures, reference, experiment.compute.device)
            for name, images in (("their own pictures", own), ("another prompt's", np.roll(own, 1, axis=0)))
        }
    return pd.DataFrame(found).round(3).rename_axis("metric")


def protocols(reference: PromptReference, count: int) -> dict[str, tuple[str, str, str]]:
    """What is measured, with what, and against what, by metric, for the evaluation protocol."""
    said = clip_files.read_described(reference.clip)
    name = f"{said['clip']} (sha256 {said['checksum'][:8]})"
    against = f"the first {count} prompts {reference.prompts} of {reference.data}"
    found = {CLIP_SCORE: (said["score"], name, against)}
    if reference.probe is not None:
        how = "the share of all that captions say which a probe reads back from the picture"
        found[ATTRIBUTES] = (how, features.probe_name(reference.probe), against)
        for attribute, title in NAMES.items():
            what = (
                "the share of captions right in everything"
                if attribute == "caption"
                else f"{how}, {attribute} alone"
            )
            found[title] = (what, features.probe_name(reference.probe), against)
    return found
