"""A study: one experiment at one tier, its settings and its files."""

from __future__ import annotations

import json
from dataclasses import dataclass

from pathlib import Path

from . import data, experiments
from .autoencoder_settings import Latents
from .data import DataSource
from .experiments import Compute, Experiment
from .workspace import Workspace

TOUR = "tour"


@dataclass(frozen=True)
class Study:
    """What a notebook opens first: which experiment, where its files are, on what machine it runs, and the latents that it models, if any."""

    name: str
    workspace: Workspace
    experiment: Experiment
    compute: Compute
    latents: Latents | None = None

    @property
    def tier(self) -> str:
        return self.workspace.tier

    @property
    def made(self) -> Path | None:
        """The folder of the data that are modelled, where a stage of the pipeline makes them; FileNotFoundError before it has run."""
        latents = self.experiment.training.latents
        return self.workspace.read(f"latents/{latents}") if latents else None

    @property
    def trained(self) -> str:
        """The experiment that has trained the methods: this one, unless it measures what another has."""
        return self.experiment.trained or self.name

    @property
    def source(self) -> DataSource:
        """The data that are modelled."""
        return data.load(self.experiment.training.data, self.made)

    @property
    def data_name(self) -> str:
        """The data set that is modelled; for latents, that of the images that they were made from."""
        return json.loads((self.made / data.DESCRIBED).read_text())["data"] if self.made else self.experiment.training.data

    @classmethod
    def open(cls, tier: str, name: str) -> "Study":
        """The experiment `name` of params.yaml at `tier`, or its `tour`; raises SettingsError for what is wrong."""
        workspace = Workspace.here(tier)
        settings = experiments.load(workspace.params, tier)
        experiment = settings.tour if name == TOUR else settings.experiment(name)
        return cls(name, workspace, experiment, settings.compute, settings.latents.get(experiment.training.latents))
