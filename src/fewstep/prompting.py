"""Prompts: the texts that samples are told, the pictures that they were written for, and what the text tower makes of them.

A data set of captioned pictures names its sets of prompts in PROMPTS, and `prompt_set(name, count)` gives one: the first
`count`, always the same. None is of a combination that training has seen: they are the zero-shot prompts.
"""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from . import data
from .conditions import Conditions
from .files import write_atomically
from .parallel import one_thread
from .study import Study

if TYPE_CHECKING:
    from .contrastive import Maker

TEXTS, HIDDEN, MASKS = "prompts.json", "prompts.npy", "prompts-masks.npy"


def load(data_name: str, name: str, count: int) -> Any:
    """The first `count` prompts of the set `name` of a data set: `captions`, each with its `text`, and `pixels`, uint8.

    Raises ValueError, naming those there are, for a data set or a set that there is not.
    """
    if name not in data.prompt_sets(data_name):
        raise ValueError(f"the data set '{data_name}' has no prompts '{name}'; there are {', '.join(data.prompt_sets(data_name)) or 'none'}")
    return import_module(f"{data.__name__}.{data_name}").prompt_set(name, count)


def of(study: Study) -> Any:
    """The prompts that a study's samples are told, in their order."""
    return load(study.latents.data, study.experiment.sampling.prompts, study.experiment.sampling.count)


def reader(study: Study) -> Maker:
    """The CLIP whose text tower read the captions that a study's flows were trained with."""
    from . import contrastive  # here, and not above: transformers takes seconds to load, and most experiments have no prompts

    return contrastive.Maker.open(study.tier, study.latents.clip)


def prepare(study: Study, folder: Path) -> Path:
    """Write the texts of a study's prompts into `folder`, and what the text tower makes of them; returns the folder."""
    from . import contrastive

    texts = [caption.text for caption in of(study).captions]
    folder.mkdir(parents=True, exist_ok=True)
    with one_thread():
        told = contrastive.load(reader(study)).text(texts)
    np.save(folder / HIDDEN, told.hidden.cpu().numpy())
    np.save(folder / MASKS, told.mask.cpu().numpy())
    write_atomically(folder / TEXTS, (json.dumps(texts, indent=0, ensure_ascii=False) + "\n").encode())
    return folder


def conditions(folder: Path) -> Conditions:
    """The prompts that `prepare` has written into `folder`, on the CPU."""
    return Conditions(*(torch.from_numpy(np.load(folder / name)) for name in (HIDDEN, MASKS)))


def texts(folder: Path) -> list[str]:
    """The prompts' texts that `prepare` has written into `folder`."""
    return json.loads((folder / TEXTS).read_text())
