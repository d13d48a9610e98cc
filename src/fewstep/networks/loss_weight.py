"""The learned weight of a loss at the times (s, t): the logarithm of its variance (arXiv 2505.18825)."""

import torch
from torch import Tensor, nn

from . import zeroed
from .unet_levels import rising

WIDTH, FREQUENCIES = 64, 16
HIGHEST = 30.0  # radians: a fifth of the unit interval


class LossWeight(nn.Module):
    """w(s, t), (batch,), for the loss e^-w L + w, whose minimiser is log E[L | s, t]; it starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.embed = rising(FREQUENCIES, HIGHEST)
        last = zeroed(nn.Linear(WIDTH, 1))
        self.layers = nn.Sequential(
            nn.Linear(2 * FREQUENCIES, WIDTH), nn.SiLU(), nn.Linear(WIDTH, WIDTH), nn.SiLU(), last
        )

    def forward(self, s: Tensor, t: Tensor) -> Tensor:
        with torch.autocast(s.device.type, enabled=False):
            w: Tensor = self.layers(torch.cat([self.embed(s), self.embed(t)], 1))[:, 0]
        return w
