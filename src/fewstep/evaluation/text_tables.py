"""What the notebooks of the text-to-image experiments show: captions and pictures, and the metrics of their tables."""

from __future__ import annotations

import numpy as np
import pandas as pd

from ..training.experiment import Experiment
from . import prompts, sample
from .measure_texts import ATTRIBUTES, CLIP_SCORE, NAMES

CONSISTENCY, GUIDANCE = "scflow-t2i-consistency", "scflow-guidance"
# the order in which metrics are shown
ORDER = ("FID", CLIP_SCORE, ATTRIBUTES, *NAMES.values())
# rows of the picture of captions
SHOWN, SHOWN_STEPS = 8, (1, 2, 4, 8)


def shown(table: pd.DataFrame) -> list[str]:
    """The metrics of a table that are shown, in order."""
    return [metric for metric in ORDER if (table.metric == metric).any()]


def fit(table: pd.DataFrame) -> str:
    """The metric that says how well pictures fit their captions: what a probe reads back from them or, without one, the CLIP score."""
    return ATTRIBUTES if (table.metric == ATTRIBUTES).any() else CLIP_SCORE


def captions(experiment: Experiment) -> list[str]:
    """The prompts in the picture of captions: the first ones."""
    return prompts.texts(experiment.workspace.read(f"samples/{experiment.name}"))[:SHOWN]


def panels(experiment: Experiment) -> dict[str, dict[str, np.ndarray]]:
    """Images of the methods of the experiment's own table, by label and number of steps, of one noise and caption each."""
    names, steps = sample.labels(experiment.settings), experiment.settings.sampling.steps
    return {
        names[method]: {
            f"N = {n}": sample.points(experiment, method, n, SHOWN) for n in steps[method] if n in SHOWN_STEPS
        }
        for method in experiment.settings.tables[experiment.name]
        if steps.get(method)
    }
