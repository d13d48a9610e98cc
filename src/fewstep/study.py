"""A study: one experiment at one tier, its settings and its files."""

from __future__ import annotations

from dataclasses import dataclass

from . import experiments
from .experiments import Compute, Experiment
from .workspace import Workspace

TOUR = "tour"


@dataclass(frozen=True)
class Study:
    """What a notebook opens first: which experiment, where its files are, and on what machine it runs."""

    name: str
    workspace: Workspace
    experiment: Experiment
    compute: Compute

    @property
    def tier(self) -> str:
        return self.workspace.tier

    @classmethod
    def open(cls, tier: str, name: str) -> "Study":
        """The experiment `name` of params.yaml at `tier`, or its `tour`; raises SettingsError for what is wrong."""
        workspace = Workspace.here(tier)
        settings = experiments.load(workspace.params, tier)
        experiment = settings.tour if name == TOUR else settings.experiment(name)
        return cls(name, workspace, experiment, settings.compute)
