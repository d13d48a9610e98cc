"""What all settings have in common: frozen, strict about types, closed to unknown keys, and whole."""

from collections.abc import Iterable, Iterator
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator


class SettingsError(ValueError):
    """params.yaml does not say what it should; the message names the key and how to mend it."""


class Settings(BaseModel):
    """The base of all settings; those of which some do not go together say so in `problems`."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    def problems(self) -> Iterator[str]:
        """What is wrong with settings that are right each for itself, a sentence each."""
        return iter(())

    @model_validator(mode="after")
    def _whole(self) -> Self:
        for sentence in self.problems():
            raise ValueError(sentence)
        return self


def optional(**limits: Any) -> Any:
    """A setting that may be left out, and then leaves no trace in what is written down of the settings."""
    return Field(default=None, exclude_if=lambda value: value is None, **limits)


def listed(names: Iterable[str]) -> str:
    return f"there are {', '.join(names) or 'none'}"
