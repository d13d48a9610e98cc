"""The tables of SCFlow's experiment: one set of measured rows, several tables, and the pictures beside them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from ..training.experiment import Experiment
from . import measure_steps, sample, tables

# the table of distances between the images of one noise, which every method is in
CONSISTENCY = "scflow-consistency"
JPEG = measure_steps.JPEG
# what stands in every table for one row of the consistency table
AGREEMENT = "PSNR to N = 1"
SHOWN_STEPS = (1, 2, 4, 8, 16)


def _between_images() -> list[str]:
    """The metrics that compare images of one noise."""
    return [name for measure in measure_steps.AGAINST for name in measure_steps.names(measure).values()]


def build(
    experiment: Experiment, measured: pd.DataFrame, consistency: str = CONSISTENCY
) -> dict[str, pd.DataFrame]:
    """Every table of the experiment by name, columns as tables.COLUMNS: those that its settings name, and the table `consistency`.

    Raises as tables.build.
    """
    apart, found = measured.metric.isin(_between_images()), {}
    for name, methods in experiment.settings.tables.items():
        rows = measured[measured.method.isin(methods) & (~apart | (measured.metric == AGREEMENT))]
        found[name] = tables.build(rows, experiment.settings, name, experiment.tier, experiment.name)
    if apart.any():
        found[consistency] = tables.build(
            measured[apart], experiment.settings, consistency, experiment.tier, experiment.name
        )
    return found


def with_cost(table: pd.DataFrame, seconds: Sequence[pd.DataFrame]) -> pd.DataFrame:
    """`table` with the rows of `seconds`, parts of the same columns, below its own."""
    own = str(table.table.iloc[0])
    return pd.concat([table, *(part.assign(table=own) for part in seconds)], ignore_index=True)[
        list(tables.COLUMNS)
    ]


def panels(experiment: Experiment) -> dict[str, dict[str, np.ndarray]]:
    """Images of the methods of the experiment's own table, by label and number of steps, from the same noises."""
    names, steps = sample.labels(experiment.settings), experiment.settings.sampling.steps
    return {
        names[method]: {
            f"N = {n}": sample.points(experiment, method, n, sample.SHOWN)
            for n in steps[method]
            if n in SHOWN_STEPS
        }
        for method in experiment.settings.tables[experiment.name]
        if steps.get(method)
    }
