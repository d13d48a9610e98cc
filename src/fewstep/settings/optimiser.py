"""The settings of an optimiser."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .base import Settings, optional


class Optimiser(Settings):
    """The optimiser and what surrounds it.

    lr            the highest learning rate
    warmup        the fraction of training over which it is reached
    schedule      "linear": from there a straight line down to zero; "constant": as it is;
                  "inverse_sqrt": lr / sqrt(step / decay_after) after `decay_after` steps
    clip_norm     the largest norm of a gradient
    ema           the horizon of the averaged weights, which are kept, as a fraction of training
    weight_decay  decoupled, times the learning rate: Adam's alone, which it makes AdamW
    """

    kind: Literal["adam", "radam", "soap"]
    lr: float = Field(gt=0)
    schedule: Literal["linear", "inverse_sqrt", "constant"]
    decay_after: int = Field(default=1, ge=1)
    warmup: float = Field(ge=0, lt=1)
    clip_norm: float = Field(gt=0)
    ema: float = Field(ge=0, lt=1)
    weight_decay: float | None = optional(gt=0, lt=1)

    def problems(self) -> Iterator[str]:
        if self.weight_decay is not None and self.kind != "adam":
            yield f"`weight_decay` is of Adam alone, and the optimiser is {self.kind}: remove it"
