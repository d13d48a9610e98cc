"""The settings of self-corrected flow distillation, as params.yaml says them."""

from __future__ import annotations

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

    lr        the discriminator's learning rate, Adam's
    schedule  "constant", or "student": it warms up and falls as the student's does, so that a student that
              hardly moves does not face a discriminator that still does. As published, both are constant
    beta1     Adam's first for the discriminator; 0, as StyleGAN2 has it, keeps a fast one from overshooting
    r1        the weight gamma of the gradient penalty at real data
    channels  the discriminator's width at each resolution, from the latents' own down to 4 x 4, or
    head      the width of the head of a discriminator made of the teacher's encoder, which is conditioned on
              captions and sees noised latents; see fewstep.networks.text_discriminator
    """

    lr: float = Field(gt=0)
    schedule: Literal["constant", "student"] = Field(
        default="constant", exclude_if=lambda value: value == "constant"
    )
    beta1: float = Field(default=0.9, ge=0, lt=1)
    r1: float = Field(ge=0)
    channels: list[int] | None = optional(min_length=1)
    head: int | None = optional(ge=1)

    def problems(self) -> Iterator[str]:
        if (self.channels is None) == (self.head is None):
            yield "give the discriminator either `channels` or, where data have captions, `head`"


class SelfCorrection(Settings):
    """The four losses (arXiv 2412.16906); one that is not named does not take part.

    threshold   delta, the largest move along the teacher's flow
    truncation  t_trunc: below it the consistency target is the data itself; 0 never truncates
    huber_c     c of the pseudo-Huber distance
    target_ema  how much of the target network's weights is kept at each step
    """

    threshold: float = Field(gt=0, le=1)
    truncation: float = Field(ge=0, lt=1)
    huber_c: float = Field(default=0.01, gt=0)
    target_ema: float = Field(default=0.9, ge=0, lt=1)
    reflow: WeightedLoss | None = None
    adversarial: AdversarialLoss | None = None
    bidirectional: WeightedLoss | None = None
