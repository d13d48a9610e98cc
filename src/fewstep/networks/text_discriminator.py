"""The discriminator of a text-to-image student: the teacher's own encoder and middle, and a small head, on noised latents with their texts.

So it starts from features that know texts and latents of every noise. It is no flow map: it maps latents to logits,
high for data and low for samples, and no `network.kind` names it.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from ..conditions import Conditions
from ..interpolants import per_sample
from .text_unet import TextUNet

GROUPS = 8
SLOPE = 0.2


def _rounds(value: Tensor, parts: int) -> Tensor:
    return value if parts == 1 else torch.cat([value] * parts)


class TextDiscriminator(nn.Module):
    """Logits (batch,) of latents (batch, channels, height, width) at times (batch,), 1 for noise, and texts.

    teacher  the network whose layers up to the middle are copied, and then trained
    head     the channels of the two convolutions behind them
    """

    def __init__(self, teacher: TextUNet, head: int):
        super().__init__()
        model = copy.deepcopy(teacher.model).requires_grad_(True)
        self.time_proj, self.time_embedding, self.class_embedding = model.time_proj, model.time_embedding, model.class_embedding
        self.conv_in, self.down_blocks, self.mid_block = model.conv_in, model.down_blocks, model.mid_block
        width = model.config.block_out_channels[-1]
        self.head = nn.Sequential(
            nn.Conv2d(width, head, 3, padding=1), nn.GroupNorm(min(GROUPS, head), head), nn.LeakyReLU(SLOPE),
            nn.Conv2d(head, head, 3, padding=1), nn.LeakyReLU(SLOPE), nn.Conv2d(head, 1, 1),
        )  # fmt: skip

    def forward(self, z: Tensor, t: Tensor, texts: Conditions) -> Tensor:
        """The mean logit over places; `t` is SCFlow's time, 0 for data."""
        embedded = self.time_embedding(self.time_proj(1 - t)) + self.class_embedding(self.time_proj(torch.zeros_like(t)))
        # as diffusers hands a mask on: zero where a token counts, far below where not
        bias = (1 - texts.mask[:, None].to(z.dtype)) * -10_000.0
        told = {"encoder_hidden_states": texts.hidden, "encoder_attention_mask": bias}
        x = self.conv_in(z)
        for block in self.down_blocks:
            x, _ = block(x, embedded, **told) if getattr(block, "has_cross_attention", False) else block(x, embedded)
        return self.head(self.mid_block(x, embedded, **told)).mean((1, 2, 3))

    def at(self, t: Tensor, noise: Tensor, texts: Conditions) -> "Noised":
        """The discriminator of latents that are first brought to the times `t` (batch,) by `noise` (batch, ...), and read with `texts`."""
        return Noised(self, t, noise, texts)


@dataclass(frozen=True)
class Noised:
    """D((1 - t) z + t e, t, text), called as the losses call a discriminator."""

    critic: TextDiscriminator
    t: Tensor
    noise: Tensor
    texts: Conditions

    def __call__(self, z: Tensor, parts: int = 1) -> Tensor:
        """(batch, ...) -> (batch,); `z` holds `parts` rounds of the samples, which share times, noise and texts."""
        t, noise = _rounds(self.t, parts), _rounds(self.noise, parts)
        texts = self.texts if parts == 1 else self.texts.times(parts)
        return self.critic(per_sample(1 - t, z) * z + per_sample(t, z) * noise, t, texts)
