"""The discriminator of a text-to-image student: the teacher's layers up to its middle, and a small head.

It maps noised latents with their texts to logits, high for data and low for samples.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from ..flows.conditioning import Conditions
from ..flows.interpolants import per_sample

GROUPS = 8
SLOPE = 0.2


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

    def at(self, t: Tensor, noise: Tensor, texts: Conditions) -> Callable[..., Tensor]:
        """D((1 - t) z + t e, t, text), called as the losses call a discriminator, z at times (batch,).

        It maps (parts x batch, ...) to (parts x batch,): so many `parts` are versions with equal times.
        """

        def noised(z: Tensor, parts: int = 1) -> Tensor:
            times, e = torch.cat([t] * parts), torch.cat([noise] * parts)
            with_texts = texts if parts == 1 else texts.times(parts)
            return self(per_sample(1 - times, z) * z + per_sample(times, z) * e, times, with_texts)

        return noised
