"""The discriminator of a text-to-image student: the teacher's layers up to its middle, and a small head.

It maps noised latents with their texts to logits, high for data and low for samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..flows.conditioning import Conditions
from ..flows.interpolants import per_sample

GROUPS = 8
SLOPE = 0.2


@dataclass(frozen=True)
class Noised:
    """D((1 - t) z + t e, t, text), called as the losses call a discriminator."""

    critic: nn.Module
    t: Tensor
    noise: Tensor
    texts: Conditions

    def __call__(self, z: Tensor, parts: int = 1) -> Tensor:
        """(batch, ...) -> (batch,); `z` holds `parts` versions of the samples, with equal times."""
        t, noise = torch.cat([self.t] * parts), torch.cat([self.noise] * parts)
        texts = self.texts if parts == 1 else self.texts.times(parts)
        return self.critic(per_sample(1 - t, z) * z + per_sample(t, z) * noise, t, texts)


class TextDiscriminator(nn.Module):
    """Logits (batch,) of latents (batch, channels, height, width) at times (batch,), 1 for noise, and texts.

    teacher  the TextUNet or PublishedUNet whose layers up to the middle are copied, and then trained
    head     the channels of the two convolutions behind them
    """

    def __init__(self, teacher: nn.Module, head: int):
        super().__init__()
        self.encoder = teacher.encoder()
        self.head = nn.Sequential(
            nn.Conv2d(self.encoder.width, head, 3, padding=1), nn.GroupNorm(min(GROUPS, head), head),
            nn.LeakyReLU(SLOPE), nn.Conv2d(head, head, 3, padding=1), nn.LeakyReLU(SLOPE),
            nn.Conv2d(head, 1, 1),
        )  # fmt: skip

    def forward(self, z: Tensor, t: Tensor, texts: Conditions) -> Tensor:
        """The mean logit over places; `t` is SCFlow's time, 0 for data."""
        return self.head(self.encoder(1 - t, z, texts)).mean((1, 2, 3))

    def at(self, t: Tensor, noise: Tensor, texts: Conditions) -> Noised:
        """The discriminator of latents that `noise` first brings to the times `t` (batch,), with `texts`."""
        return Noised(self, t, noise, texts)
