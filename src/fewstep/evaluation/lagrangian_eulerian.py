"""Lagrangian against Eulerian distillation in one table, by what else tells the methods of the zoo apart.

Flow Map Matching (arXiv 2406.07507) has LMD ahead of EMD; Align Your Flow (arXiv 2506.14603), at image scale,
its EMD ahead of its LMD, with all but v stopped in both and EMD's residual normalised. The claims on the zoo
change one of the three at a time.
"""

from collections.abc import Mapping

import pandas as pd

NAME = "lagrangian-against-eulerian"
TABLES = {"zoo-checkerboard": "KL to target", "zoo-digits": "FID", "zoo-latents": "FID"}
CALLS = (1, 2)
# method -> its equation, what is stopped, and whether the residual is normalised
METHODS = {
    "LMD": ("Lagrangian", "the teacher's input", "no"),
    "AYF-LMD": ("Lagrangian", "all but v", "no"),
    "EMD": ("Eulerian", "nothing", "no"),
    "consistency": ("Eulerian", "all but v", "no"),
    "AYF-EMD": ("Eulerian", "all but v", "yes, and warmed up"),
}


def label(method: str) -> str:
    """What a row of the table is called."""
    equation, stopped, normalised = METHODS[method]
    return f"{equation}, stops {stopped}, normalised: {normalised} ({method})"


def metric(experiment: str) -> str:
    """What an experiment's metric is called in the table: FIDs of different data do not compare."""
    return f"{TABLES[experiment]}, {experiment.removeprefix('zoo-')}"


def table(tables: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """The table by its name, of rows of the zoo's `tables` in the order of METHODS; nothing without these."""
    if not set(TABLES) <= set(tables):
        return {}
    parts = []
    for name, measured in TABLES.items():
        own = tables[name]
        own = own[(own.metric == measured) & own.nfe.isin(CALLS)].assign(metric=metric(name))
        parts += [own[own.method == method] for method in METHODS]
    rows = pd.concat(parts)
    return {NAME: rows.assign(table=NAME, method=rows.method.map(label)).reset_index(drop=True)}
