"""An experiment at one tier: its settings and its files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import data, networks
from ..data import DataSource
from ..settings import tiers
from ..settings.prepared import Latents
from ..settings.tiers import Compute, ExperimentSettings
from ..storage.workspace import Workspace
from .preparation import read_facts

TOUR = "tour"


@dataclass(frozen=True)
class Experiment:
    """What a notebook opens first: an experiment's files, settings, machine, and the latents it models."""

    name: str
    workspace: Workspace
    settings: ExperimentSettings
    compute: Compute
    latents: Latents | None = None

    @property
    def tier(self) -> str:
        return self.workspace.tier

    @property
    def data_folder(self) -> Path | None:
        """The folder of the data, where a stage makes them; raises FileNotFoundError before it has run."""
        latents = self.settings.training.latents
        return self.workspace.read(f"latents/{latents}") if latents else None

    @property
    def trained(self) -> str:
        """The experiment that has trained the methods: this one, unless it measures what another has."""
        return self.settings.students_of or self.name

    @property
    def source(self) -> DataSource:
        return data.load(self.settings.training.data, self.data_folder, networks.load_decoder)

    @property
    def data_name(self) -> str:
        """The data set that is modelled; for latents, that of the images that they were made from."""
        if self.data_folder is None:
            return self.settings.training.data
        return read_facts(self.data_folder / data.DESCRIBED, "data")["data"]

    @classmethod
    def open(cls, tier: str, name: str) -> Experiment:
        """The experiment `name` of params.yaml at `tier`, or its `tour`; raises SettingsError."""
        workspace = Workspace.here(tier)
        settings = tiers.load(workspace.params, tier)
        experiment = settings.tour if name == TOUR else settings.experiment(name)
        latents = settings.latents.get(experiment.training.latents)
        return cls(name, workspace, experiment, settings.compute, latents)
