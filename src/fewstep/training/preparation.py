"""An entry of one of a tier's sections of params.yaml, such as `features`, `latents` or `clip`: its settings, and where its files are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..settings import tiers
from ..settings.base import SettingsError
from ..storage.workspace import Workspace


@dataclass(frozen=True)
class Preparation:
    """The entry `name`; a subclass names its SECTION, and the type of its settings."""

    name: str
    workspace: Workspace
    settings: Any
    device: str

    SECTION: ClassVar[str] = ""

    @classmethod
    def open(cls, tier: str, name: str):
        """The entry `name` of params.yaml at `tier`; raises SettingsError, naming those there are, when there is none."""
        workspace = Workspace.here(tier)
        settings = tiers.load(workspace.params, tier)
        there = getattr(settings, cls.SECTION)
        if name not in there:
            raise SettingsError(
                f"there is no '{name}' among the `{cls.SECTION}` of tier '{tier}'; there are {', '.join(there) or 'none'}"
            )
        return cls(name, workspace, there[name], settings.compute.device)
