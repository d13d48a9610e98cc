"""What a row of a table cost to train, beside how good it is: teacher, network calls, gradient norm."""

import numpy as np
import pandas as pd

from ..training import weights
from ..training.calls import calls_a_step
from ..training.experiment import Experiment
from ..training.state import NORM
from ..training.train import job
from . import provenance, tables

TEACHER, STEPS, NORM_AT_END = "has a teacher", "training steps", "gradient norm at the end"
CALLS, FORWARD_MODE = "network calls a training step", "of them with a derivative"
PROTOCOLS = {
    TEACHER: "1 where training distils another network, 0 where it needs none",
    STEPS: "optimisation steps in the time that every method of the table has",
    CALLS: "evaluations of all networks for each sample of the batch, counted in the first step",
    FORWARD_MODE: "those that are passes in forward mode, counted likewise",
    NORM_AT_END: "before clipping, mean over the last tenth of training",
}


def _values(experiment: Experiment, method: str) -> dict[str, list[float]]:
    """Each metric of a method's training, a value for each of its seeds, or one where it has no seed."""
    own = experiment.settings.method(method)
    first, _ = job(experiment, method, experiment.settings.training.seeds[0])
    calls, forward_mode = calls_a_step(first)
    last = max(own.steps // 10, 1)
    (logs,) = weights.logs(experiment, [method]).values()
    norms = [float(np.mean(log[NORM][-last:])) for log in logs]
    found = {TEACHER: [float(own.teacher is not None)], STEPS: [float(own.steps)]}
    return found | {CALLS: [calls], FORWARD_MODE: [forward_mode], NORM_AT_END: norms}


def table(experiment: Experiment, notebook: str) -> pd.DataFrame:
    """A row a method and metric, in the tables' columns; `nfe` is 0, as nothing is sampled."""
    settings, cells = experiment.settings, []
    for name, method in settings.methods.items():
        for metric, values in _values(experiment, name).items():
            own = {"method": method.label, "metric": metric, "nfe": 0, "value": float(np.mean(values))}
            own |= {"sd": float(np.std(values, ddof=1)) if len(values) > 1 else np.nan}
            own |= {"seeds": f"{len(values)} training", "samples": settings.training.batch}
            cells.append(own | {"protocol": PROTOCOLS[metric]})
    origin = provenance.of_experiment(experiment, notebook)
    return tables.computed(cells, experiment.name, experiment.tier, origin)


def wide(experiment: Experiment, table: pd.DataFrame, metric: str) -> pd.DataFrame:
    """One row a method for readers: its teacher, what its training cost, and `metric` by network calls."""
    methods = experiment.settings.methods
    cost = table[table.nfe == 0].pivot_table("value", "method", "metric", sort=False)
    teachers = {m.label: methods[m.teacher].label if m.teacher else "none" for m in methods.values()}
    columns = cost[[STEPS, CALLS, FORWARD_MODE, NORM_AT_END]].astype({STEPS: int})
    columns.insert(0, "teacher", pd.Series(teachers))
    both = columns.join(tables.shown(table[table.nfe > 0], metric), how="outer")
    return both.loc[table.method.unique()]


def rows(experiment: Experiment, table: pd.DataFrame, distilled: bool) -> pd.DataFrame:
    """The rows of `table` of methods with a teacher, or of those without."""
    methods = experiment.settings.methods.values()
    return table[table.method.isin([own.label for own in methods if (own.teacher is not None) == distilled])]
