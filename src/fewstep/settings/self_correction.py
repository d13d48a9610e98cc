"""The settings of self-corrected flow distillation, as params.yaml says them."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .base import Settings, optional


class WeightedLoss(Settings):
    """A loss with its weight; it takes part from the optimisation step `warmup` on."""

    weight: float = Field(ge=0)
    warmup: int = Field(default=0, ge=0)


class AdversarialLoss(WeightedLoss):
    """The adversarial loss and its discriminator; see fewstep.networks.discriminator.

    Its learning rate is "constant", as published, or warms up and falls as the student's does. It is given
    by `channels`, its width at each resolution from the latents' own down to 4 x 4, or by `head`: the width
    of a head on the teacher's encoder, conditioned on captions; see fewstep.networks.text_discriminator.
    """

    lr: float = Field(gt=0)  # of the discriminator, trained by Adam
    schedule: Literal["constant", "student"] = Field("constant", exclude_if=lambda value: value == "constant")
    beta1: float = Field(default=0.9, ge=0, lt=1)  # Adam's; 0, as in StyleGAN2, does not overshoot
    r1: float = Field(ge=0)  # the weight gamma of the gradient penalty at real data
    channels: list[int] | None = optional(min_length=1)
    head: int | None = optional(ge=1)

    def problems(self) -> Iterator[str]:
        if (self.channels is None) == (self.head is None):
            yield "give the discriminator either `channels` or, where data have captions, `head`"


class SelfCorrection(Settings):
    """The four losses (arXiv 2412.16906); one that is not named does not take part."""

    threshold: float = Field(gt=0, le=1)  # delta, the largest move along the teacher's flow
    truncation: float = Field(ge=0, lt=1)  # t_trunc: below it the consistency target is the data; 0: never
    huber_c: float = Field(default=0.01, gt=0)  # c of the pseudo-Huber distance
    target_ema: float = Field(default=0.9, ge=0, lt=1)  # what is kept of the target's weights at each step
    reflow: WeightedLoss | None = None
    adversarial: AdversarialLoss | None = None
    bidirectional: WeightedLoss | None = None
