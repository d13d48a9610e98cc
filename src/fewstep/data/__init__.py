"""Data sets, one file each; `load(name)` gives the one that params.yaml names."""

from __future__ import annotations

from importlib import import_module
from typing import Protocol

import torch
from torch import Tensor

NAMES = ("checkerboard",)


class DataSource(Protocol):
    """A source of data points: the shape of one point, the scale of the matching noise, and draws."""

    shape: tuple[int, ...]
    scale: float

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` points, (count, *shape), float32."""
        ...


def load(name: str) -> DataSource:
    """The data set called `name`; raises ValueError, naming those there are, when there is none."""
    if name not in NAMES:
        raise ValueError(f"there is no data set '{name}'; there are {', '.join(NAMES)}")
    return import_module(f"{__name__}.{name}").SOURCE
