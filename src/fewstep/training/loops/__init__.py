"""What one optimisation step does: `terms` for objectives of flow maps, `scflow` for SCFlow's distillation,
`sid` for the matching of distributions without data.

A loop is `Loop(job, state, teacher, processes)` with `step()`, and begins with `start(job, teacher)`.
States on disk and their resumption are the same for all: see fewstep.training.job.
"""

from importlib import import_module
from types import ModuleType


def load(name: str) -> ModuleType:
    """The module of the loop called `name`."""
    return import_module(f"{__name__}.{name}")
