"""Prompts: captions that samples are conditioned on, of combinations that training has not seen."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from .. import data
from ..flows.conditioning import Conditions
from ..storage.files import write_atomically
from ..training.experiment import Experiment
from ..training.precision import one_thread

TEXTS, HIDDEN, MASKS = "prompts.json", "prompts.npy", "prompts-masks.npy"


def load(data_name: str, name: str, count: int) -> Any:
    """The first `count` prompts of a set: `captions` and `pixels` (uint8); ValueError for an unknown set."""
    sets = data.prompt_sets(data_name)
    if name not in sets:
        known = f"there are {', '.join(sets) or 'none'}"
        raise ValueError(f"the data set '{data_name}' has no prompts '{name}'; {known}")
    return data.module(data_name).prompt_set(name, count)


def prompts_of(experiment: Experiment) -> Any:
    """The prompts that an experiment's samples are conditioned on, in their order."""
    sampling = experiment.settings.sampling
    return load(experiment.latents.data, sampling.prompts, sampling.count)


def clip_of(experiment: Experiment) -> Any:
    """The ClipPreparation of the text tower that the flows of an experiment are conditioned through."""
    # here, and not above: transformers takes seconds to load, and most experiments have no prompts
    from ..training import clip

    return clip.ClipPreparation.open(experiment.tier, experiment.latents.clip)


def prepare(experiment: Experiment, folder: Path) -> Path:
    """Write an experiment's prompts and their features by the text tower into `folder`; returns it."""
    from ..training import clip

    texts = [caption.text for caption in prompts_of(experiment).captions]
    folder.mkdir(parents=True, exist_ok=True)
    with one_thread():
        read = clip.load(clip_of(experiment)).text(texts)
    np.save(folder / HIDDEN, read.hidden.cpu().numpy())
    np.save(folder / MASKS, read.mask.cpu().numpy())
    write_atomically(folder / TEXTS, (json.dumps(texts, indent=0, ensure_ascii=False) + "\n").encode())
    return folder


def conditions(folder: Path) -> Conditions:
    """The prompts that `prepare` has written into `folder`, on the CPU."""
    return Conditions(*(torch.from_numpy(np.load(folder / name)) for name in (HIDDEN, MASKS)))


def texts(folder: Path) -> list[str]:
    """The prompts' texts that `prepare` has written into `folder`."""
    return json.loads((folder / TEXTS).read_text(encoding="utf-8"))
