"""What is prepared for the experiments: entries of `features`, `latents` or `clip` in params.yaml."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, Self

import pandas as pd
import torch
from torch import Tensor

from .. import data
from ..data.formats.archives import folder_of
from ..settings import tiers
from ..settings.base import SettingsError, listed
from ..storage import stand_in
from ..storage.checkpoint import CheckpointError
from ..storage.files import write_json
from ..storage.fingerprint import fingerprint
from ..storage.workspace import Workspace

DESCRIPTION = "described.json"
# draws the images that are shown and measured against
DRAW_SEED = 2_000_003


def data_name(name: str) -> str:
    """The data set's name, which says so where a rehearsal's stand-in is in its place."""
    return f"a rehearsal's stand-in for {name}" if stand_in.is_marked(folder_of(name)) else name


def dimensions(shape: Sequence[int]) -> str:
    """A shape in words: "3 x 64 x 64"."""
    return " x ".join(map(str, shape))


def fact_table(facts: Mapping[str, Any]) -> pd.DataFrame:
    """One row a fact; those that are None are left out."""
    return pd.DataFrame({"": {name: fact for name, fact in facts.items() if fact is not None}})


def figure_table(figures: Mapping[str, Mapping[str, float]], formats: Mapping[str, str]) -> pd.DataFrame:
    """One row a part of the data, and one column a figure of it that `formats` names."""
    rows = {part: {key: formats[key].format(own[key]) for key in formats} for part, own in figures.items()}
    return pd.DataFrame(rows).T


def read_facts(path: Path, *names: str) -> dict[str, Any]:
    """The facts of a stage's JSON file, `names` among them; raises CheckpointError for any other file."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        facts = None
    if not isinstance(facts, dict) or not {*names} <= facts.keys():
        problem = f"{path} is damaged, or describes something else"
        raise CheckpointError(f"{problem}: delete it and run `dvc repro` again")
    return facts


@dataclass(frozen=True)
class Preparation:
    """The entry `name` of a section of params.yaml, its settings, and where its files are.

    A subclass gives the SECTION, its folder OUTPUT below the tier's artifacts, and the settings that no
    training depends on, UNUSED.
    """

    name: str
    workspace: Workspace
    settings: Any
    device: str

    SECTION: ClassVar[str] = ""
    OUTPUT: ClassVar[str] = ""
    UNUSED: ClassVar[frozenset[str]] = frozenset()

    @classmethod
    def open(cls, tier: str, name: str) -> Self:
        """The entry `name` of params.yaml at `tier`; raises SettingsError, naming those there are."""
        workspace = Workspace.here(tier)
        settings = tiers.load(workspace.params, tier)
        entries = getattr(settings, cls.SECTION)
        if name not in entries:
            problem = f"there is no '{name}' among the `{cls.SECTION}` of tier '{tier}'"
            raise SettingsError(f"{problem}; {listed(entries)}")
        return cls(name, workspace, entries[name], settings.compute.device)

    @property
    def source(self) -> data.DataSource:
        return data.load(self.settings.data)

    def sample(self, count: int) -> Tensor:
        """`count` samples of the data set, on the CPU, always the same."""
        return self.source.sample(count, torch.Generator().manual_seed(DRAW_SEED))

    @property
    def folder(self) -> Path:
        """The folder of its files; raises FileNotFoundError before they are written."""
        return self.workspace.read(f"{self.OUTPUT}/{self.name}/{DESCRIPTION}").parent

    @property
    def output(self) -> Path:
        """The folder that its files are written to."""
        return self.workspace.write(f"{self.OUTPUT}/{self.name}/{DESCRIPTION}").parent

    @property
    def description(self) -> dict[str, Any]:
        """What `describe` wrote; raises FileNotFoundError before that, and CheckpointError for damage."""
        return read_facts(self.folder / DESCRIPTION, "data")

    def describe(self, description: dict[str, Any]) -> dict[str, Any]:
        """Write the description of its files, which declares them complete, and return it."""
        write_json(self.output / DESCRIPTION, description)
        return description

    def retract(self) -> None:
        """Remove the description, so that it never stands beside other files, not even after a kill."""
        (self.output / DESCRIPTION).unlink(missing_ok=True)

    def fingerprint(self) -> str:
        """What a training depends on; a state on disk with another fingerprint is another run's."""
        modules = [type(self).__module__, f"{data.__name__}.{self.settings.data}"]
        return fingerprint(self.settings.model_dump(exclude=self.UNUSED), modules)

    @property
    def state(self) -> Path:
        """The state of its training; one whose settings or code changed starts afresh."""
        return self.workspace.write(f"states/{self.SECTION}/{self.name}-{self.fingerprint()}.safetensors")
