"""Data sets, one file each; `load(name)` gives the one that params.yaml names.

A data set named `checkerboard` is the SOURCE of the module `fewstep.data.checkerboard`.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor


class DataSource(Protocol):
    """A source of data points: the shape of one point, the scale of the matching noise, and draws."""

    shape: tuple[int, ...]
    scale: float

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` points, (count, *shape), float32."""
        ...


def names() -> list[str]:
    """The data sets there are: the files here that hold a SOURCE."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.py") if "\nSOURCE = " in path.read_text())


def load(name: str) -> DataSource:
    """The data set called `name`; raises ValueError, naming those there are, when there is none."""
    if not Path(__file__).with_name(f"{name}.py").exists():
        raise ValueError(f"there is no data set '{name}'; there are {', '.join(names())}")
    return import_module(f"{__name__}.{name}").SOURCE


def files(name: str) -> list[str]:
    """The files that ship with the project and that the data set reads, below the root; none for one that is drawn or fetched."""
    load(name)
    return list(getattr(import_module(f"{__name__}.{name}"), "FILES", ()))
