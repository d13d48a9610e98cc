"""How the times s and t of an objective are drawn: uniformly, on the square or on a strip |t - s| <= tau, or
by the laws of shortcut models, MeanFlow and Align Your Flow.
"""

from dataclasses import dataclass
from math import isfinite

import torch
from torch import Tensor

REGIONS = ("diagonal", "noise", "data", "forward", "square")
# the regions that a law other than the uniform one knows
LAWS = {
    "uniform": REGIONS,
    "dyadic": ("diagonal", "forward", "square"),
    "logit-normal": REGIONS,
    "gap": ("noise", "data", "forward", "square"),
}
MOST_LEVELS = 20


@dataclass(frozen=True)
class Times:
    """Pairs (s, t) of a law in a region.

    region  "diagonal": s = t; "noise": s = 0, the jumps that start from pure noise; "data": t = 1,
            those that end in data; "forward": 0 <= s <= t <= 1; "square": both directions, [0, 1]^2
    strip   tau, the largest |t - s|, in (0, 1]
    anneal  the fraction of training over which the strip widens linearly from `strip` to 1; 0 keeps it
    doublings  how many times the strip is doubled, at equal intervals, until it is 1; 0 for none
    law     "uniform", the only one that has a strip, or
            "dyadic": t - s = d is one of 1, 1/2, ..., 1/2^levels, each as likely, and s in 0, d, ..., 1 - d;
            on the diagonal a multiple of 1/2^levels below 1 (shortcut models, arXiv 2410.12557);
            "logit-normal": both times are sigmoid(mean + deviation e), e ~ N(0, 1), the smaller one first;
            in the square as they come (MeanFlow, arXiv 2505.13447, whose mean has the other sign);
            "gap": t - s = sigmoid(mean + deviation e), and s uniform on what is left (Align Your Flow,
            arXiv 2506.14603; Terminal Velocity Matching, arXiv 2511.19797)
    """

    region: str = "forward"
    strip: float = 1.0
    anneal: float = 0.0
    doublings: int = 0
    law: str = "uniform"
    mean: float = 0.0
    deviation: float = 1.0
    levels: int = 7

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
        if self.law not in LAWS:
            raise ValueError(f"law must be one of {', '.join(LAWS)}, not '{self.law}'")
        if self.region not in (known := LAWS[self.law]):
            raise ValueError(f"the law '{self.law}' has the regions {', '.join(known)}, not '{self.region}'")
        if self.law != "uniform" and (self.strip != 1 or self.anneal or self.doublings):
            raise ValueError(
                f"a strip is of the uniform law, not of '{self.law}': remove strip and its widening"
            )
        if not isfinite(self.mean):
            raise ValueError(f"mean must be finite, not {self.mean}")
        if not (self.deviation > 0 and isfinite(self.deviation)):
            raise ValueError(f"deviation must be above 0 and finite, not {self.deviation}")
        if not 0 <= self.levels <= MOST_LEVELS:
            raise ValueError(f"levels must lie in [0, {MOST_LEVELS}], not {self.levels}")

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
        if self.law == "logit-normal":
            return self._logit_normal(uniform)
        if self.law != "uniform":
            return self._by_gap(uniform)
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
        return self._either_way(s, t, uniform[2])

    def _either_way(self, low: Tensor, high: Tensor, uniform: Tensor) -> tuple[Tensor, Tensor]:
        """s and t in their order, or in the square half of them exchanged."""
        if self.region != "square":
            return low, high
        swap = uniform < 0.5
        return torch.where(swap, high, low), torch.where(swap, low, high)

    def _sigmoid(self, uniform: Tensor) -> Tensor:
        """sigmoid(mean + deviation e), e ~ N(0, 1) by its inverse distribution function."""
        return torch.sigmoid(self.mean + self.deviation * torch.special.ndtri(uniform))

    def _logit_normal(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        s, t = self._sigmoid(uniform[0]), self._sigmoid(uniform[1])
        if self.region == "diagonal":
            return s, s
        if self.region == "noise":
            return torch.zeros_like(s), s
        if self.region == "data":
            return s, torch.ones_like(s)
        return (s, t) if self.region == "square" else (torch.minimum(s, t), torch.maximum(s, t))

    def _by_gap(self, uniform: Tensor) -> tuple[Tensor, Tensor]:
        if self.law == "gap":
            gap = self._sigmoid(uniform[0])
            start = uniform[1] * (1 - gap)
        elif self.region == "diagonal":
            start = torch.floor(uniform[1] * 2**self.levels) / 2**self.levels
            gap = torch.zeros_like(start)
        else:
            gap = torch.exp2(-torch.floor(uniform[0] * (self.levels + 1)))
            start = torch.floor(uniform[1] / gap) * gap
        if self.region == "noise":
            return torch.zeros_like(gap), gap
        if self.region == "data":
            return 1 - gap, torch.ones_like(gap)
        return self._either_way(start, start + gap, uniform[2])
