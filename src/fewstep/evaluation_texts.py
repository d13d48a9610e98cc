"""Does the picture show what the caption says: the CLIP score, and attributes that a probe reads back from the picture."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from . import prompting, reference
from .data.images import to_signed
from .metrics.attributes import accuracies, judge
from .networks import clip
from .networks.probe import read
from .parallel import one_thread
from .study import Study

CLIP_SCORE, ATTRIBUTES = "CLIP score", "attribute accuracy"
# of the attributes, those with a metric of their own
NAMES = {"shape": "shape accuracy", "colour": "colour accuracy", "place": "place accuracy", "caption": "caption accuracy"}
# pictures of the prompts that are looked at, the first ones
CHECKED = 1000
MEASURES = {"clip": (CLIP_SCORE,), "attributes": (ATTRIBUTES, *NAMES.values())}


@dataclass(frozen=True)
class Told:
    """What images are held against: the data set and the set of prompts that they were told, the CLIP's folder and the probe's file, if it has one."""

    data: str
    prompts: str
    clip: Path
    probe: Path | None

    @classmethod
    def of(cls, study: Study, bench: reference.Bench) -> "Told":
        """That of a study; raises FileNotFoundError, naming the cure, where a stage has not run."""
        folder = prompting.reader(study).folder
        return cls(study.latents.data, study.experiment.sampling.prompts, folder, reference.probe_file(bench))


@cache
def _clip(folder: Path, device: str) -> clip.Clip:
    return clip.load(folder, device)


@cache
def _prompts(data_name: str, name: str, count: int) -> Any:
    return prompting.load(data_name, name, count)


def measure(images: np.ndarray, measures: list[str], told: Told, device: str) -> dict[str, float]:
    """The metrics of images (count, channels, height, width), uint8, that were told the prompts in their order, by name."""
    found, captions = {}, _prompts(told.data, told.prompts, len(images)).captions
    if "clip" in measures:
        scores = _clip(told.clip, device).score(torch.from_numpy(images), [caption.text for caption in captions])
        found[CLIP_SCORE] = float(scores.double().mean())
    if "attributes" in measures:
        right, said = judge(captions, read(reference.load_probe(told.probe), to_signed(torch.from_numpy(images))))
        own = accuracies(right, said)
        found[ATTRIBUTES] = float(right.sum() / said.sum())
        found |= {title: own[name] for name, title in NAMES.items() if name in own}
    return found


def self_checks(study: Study) -> pd.DataFrame:
    """What the metrics of a study say of the pictures that its prompts were written for: in their order, and each one place further on."""
    told = Told.of(study, reference.Bench.open(study.tier, study.experiment.metrics.features))
    measures = [measure for measure in study.experiment.metrics.measures if measure in MEASURES]
    own = np.asarray(_prompts(told.data, told.prompts, min(study.experiment.sampling.count, CHECKED)).pixels)
    with one_thread():
        found = {name: measure(images, measures, told, study.compute.device) for name, images in (("their own pictures", own), ("another prompt's", np.roll(own, 1, axis=0)))}
    return pd.DataFrame(found).round(3).rename_axis("metric")


def protocols(told: Told, count: int) -> dict[str, tuple[str, str, str]]:
    """What is measured, with what, and against what, by metric, for the evaluation protocol."""
    said = clip.read_described(told.clip)
    name = f"{said['clip']} (sha256 {said['checksum'][:8]})"
    against = f"the first {count} prompts {told.prompts} of {told.data}"
    found = {CLIP_SCORE: (said["score"], name, against)}
    if told.probe is not None:
        how = "the share of all that captions say which a probe reads back from the picture"
        found[ATTRIBUTES] = (how, reference.probe_name(told.probe), against)
        for attribute, title in NAMES.items():
            what = "the share of captions right in everything" if attribute == "caption" else f"{how}, {attribute} alone"
            found[title] = (what, reference.probe_name(told.probe), against)
    return found

