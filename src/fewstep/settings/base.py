"""What all settings have in common: frozen, strict about types, and closed to unknown keys."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class SettingsError(ValueError):
    """params.yaml does not say what it should; the message names the key and how to mend it."""


class Settings(BaseModel):
    """The base of all settings: frozen, strict about types, and closed to unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


def optional(**limits: Any) -> Any:
    """A setting that may be left out, and then leaves no trace in what is written down of the settings."""
    return Field(default=None, exclude_if=lambda value: value is None, **limits)
