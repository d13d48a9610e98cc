"""How (s, t) is drawn, how a sample is weighted, and which noise goes with which data."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from ..flows.sampler_names import MOST_GUIDANCE
from ..flows.times import MOST_LEVELS, Times
from .base import Settings, optional
from .limits import Name, Positive, Share, Weight

# the settings of a law that the others do not have
OF_LAW = {
    "uniform": (), "dyadic": ("levels",), "logit-normal": ("mean", "deviation"), "gap": ("mean", "deviation")
}  # fmt: skip


class TimesSettings(Settings):
    """How (s, t) is drawn; see fewstep.flows.times.Times."""

    region: Literal["diagonal", "noise", "data", "forward", "square"]
    strip: Share = 1.0
    anneal: float = Field(default=0.0, ge=0, le=1)
    doublings: int = Field(default=0, ge=0, le=20)
    law: Literal["uniform", "dyadic", "logit-normal", "gap"] | None = optional()  # None: uniform
    mean: float | None = optional(ge=-100, le=100)
    deviation: float | None = optional(gt=0, le=100)
    levels: int | None = optional(ge=0, le=MOST_LEVELS)

    def build(self) -> Times:
        return Times(**self.model_dump())

    def problems(self) -> Iterator[str]:
        law = self.law or "uniform"
        for key in ("mean", "deviation", "levels"):
            if getattr(self, key) is not None and key not in OF_LAW[law]:
                having = " and ".join(f"'{name}'" for name, own in OF_LAW.items() if key in own)
                yield f"`{key}` is of the law {having}, not of '{law}': remove it, or change `law`"
        for key in ("mean", "deviation"):
            if getattr(self, key) is None and key in OF_LAW[law]:
                yield f"the law '{law}' needs `{key}`"


class Adaptive(Settings):
    """A weight for each sample, 1 / (residual + offset)^power, under a stop-gradient (arXiv 2505.13447)."""

    power: Weight = 1.0
    offset: Positive = 0.01


class GeneratorCoupling(Settings):
    """For the `share` of a batch the data are what the averaged map makes of I_s (arXiv 2406.09570)."""

    kind: Literal["generator"]
    share: Share = 0.5


class EncoderCoupling(Settings):
    """Noise from an encoder of the data, whose divergence from N(0, scale^2) costs `weight` (2301.12003)."""

    kind: Literal["encoder"]
    weight: Weight = 20.0


Coupling = Annotated[GeneratorCoupling | EncoderCoupling, Field(discriminator="kind")]


class Autoguidance(Settings):
    """The teacher's velocity, away from that of the weaker method `weak`: scale b + (1 - scale) b_weak."""

    weak: Name
    scale: float = Field(ge=0, le=MOST_GUIDANCE)
