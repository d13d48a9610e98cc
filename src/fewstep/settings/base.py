"""The base of all settings: frozen, strict about types, and closed to unknown keys."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class SettingsError(ValueError):
    """params.yaml does not say what it should; the message names the key and how to mend it."""


class Settings(BaseModel):
    """The base of all settings: frozen, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)
