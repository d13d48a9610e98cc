"""The settings of an optimiser."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .base import Settings, optional


class Optimiser(Settings):
    """The optimiser and what surrounds it.

    Warmed up, the learning rate stays "constant", falls to zero along a straight line ("linear"), or is
    lr / sqrt(step / decay_after) after `decay_after` steps ("inverse_sqrt").
    """

    kind: Literal["adam", "radam", "soap"]
    lr: float = Field(gt=0)  # the highest
    schedule: Literal["linear", "inverse_sqrt", "constant"]
    decay_after: int = Field(default=1, ge=1)
    warmup: float = Field(ge=0, lt=1)  # the fraction of training over which `lr` is reached
    clip_norm: float = Field(gt=0)  # the largest norm of a gradient
    ema: float = Field(ge=0, lt=1)  # the horizon of the averaged weights, as a fraction of training
    weight_decay: float | None = optional(gt=0, lt=1)  # decoupled, times the learning rate: AdamW's

    def problems(self) -> Iterator[str]:
        if self.weight_decay is not None and self.kind != "adam":
            yield f"`weight_decay` is of Adam alone, and the optimiser is {self.kind}: remove it"
