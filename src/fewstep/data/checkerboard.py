"""The two-dimensional checkerboard, drawn afresh for every batch."""

from dataclasses import dataclass

import torch
from torch import Tensor

from ..flows.exact import checkerboard


@dataclass(frozen=True)
class Checkerboard:
    """Uniform on eight squares of [-1, 1]^2; the noise is scaled to the data's standard deviation."""

    shape: tuple[int, ...] = (2,)
    scale: float = checkerboard.DATA_SCALE

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return checkerboard.sample(count, generator)


SOURCE = Checkerboard()
