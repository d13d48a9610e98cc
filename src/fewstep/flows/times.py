"""How the times s and t of an objective are drawn, on the whole square or on a strip |t - s| <= tau."""

from dataclasses import dataclass

import torch
from torch import Tensor

REGIONS = ("diagonal", "noise", "data", "forward", "square")


@dataclass(frozen=True)
class Times:
    """Uniform pairs (s, t).

    region  "diagonal": s = t; "noise": s = 0, the jumps that start from pure noise; "data": t = 1,
            those that end in data; "forward": 0 <= s <= t <= 1; "square": both directions, [0, 1]^2
    strip   tau, the largest |t - s|, in (0, 1]
    anneal  the fraction of training over which the strip widens linearly from `strip` to 1; 0 keeps it
    doublings  how many times the strip is doubled, at equal intervals, until it is 1; 0 for none
    """

    region: str = "forward"
    strip: float = 1.0
    anneal: float = 0.0
    doublings: int = 0

    def __post_init__(self) -> None:
        if self.region not in REGIONS:
            raise ValueError(f"region must be one of {', '.join(REGIONS)}, not '{self.region}'")
        if not 0 < self.strip <= 1:
            raise ValueError(f"strip must lie in (0, 1], not {self.strip}")
        if not 0 <= self.anneal <= 1:
            raise ValueError(f"anneal must lie in [0, 1], not {self.anneal}")
        if self.doublings < 0:
            raise ValueError(f"doublings must be 0 or more, not {self.doublings}")
        if self.anneal and self.doublings:
            raise ValueError("a strip is either annealed or doubled in stages, not both")

    def width(self, progress: float) -> float:
        """tau after the fraction `progress` of training."""
        if self.doublings:
            stage = min(int(progress * (self.doublings + 1)), self.doublings)
            return min(1.0, self.strip * 2.0**stage)
        if self.anneal == 0 or self.strip == 1:
            return self.strip
        return min(1.0, self.strip + (1 - self.strip) * progress / self.anneal)

    def draw(self, uniform: Tensor, progress: float = 1.0) -> tuple[Tensor, Tensor]:
        """s and t, each (batch,), from `uniform` (3, batch) in [0, 1).

        The gap d = t - s of a uniform point of the strip has density proportional to 1 - d on [0, tau].
        """
        if self.region == "diagonal":
            return uniform[0], uniform[0]
        tau = self.width(progress)
        if self.region == "noise":
            return torch.zeros_like(uniform[0]), tau * uniform[0]
        if self.region == "data":
            return 1 - tau * uniform[0], torch.ones_like(uniform[0])
        gap = 1 - torch.sqrt(1 - uniform[0] * (2 * tau - tau**2))
        s = uniform[1] * (1 - gap)
        t = s + gap
        if self.region == "forward":
            return s, t
        swap = uniform[2] < 0.5
        return torch.where(swap, t, s), torch.where(swap, s, t)
