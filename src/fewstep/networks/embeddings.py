"""Embeddings of times in sines and cosines, and of the second time in networks published with one."""

import torch
from torch import Tensor, nn


def zeroed(layer: nn.Module) -> nn.Module:
    """`layer` itself, its weights and bias set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer


class SinusoidalEmbedding(nn.Module):
    """sin and then cos of w time for frequencies w in radians: (batch,) -> (batch, 2 frequencies)."""

    def __init__(self, frequencies: Tensor, cosine_first: bool = False):
        super().__init__()
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.cosine_first = cosine_first

    def forward(self, time: Tensor) -> Tensor:
        angle = time[:, None] * self.frequencies
        parts = [angle.cos(), angle.sin()] if self.cosine_first else [angle.sin(), angle.cos()]
        return torch.cat(parts, 1)


def rising(dim: int, highest: float) -> SinusoidalEmbedding:
    """`dim` numbers of frequencies spaced evenly in the logarithm from 1 to `highest` radians.

    The high end bounds the derivative in time, which the objectives of flow maps differentiate through.
    """
    return SinusoidalEmbedding(torch.logspace(0, 1, dim // 2, base=highest))


def gap_layers(dim: int, embedding: int) -> nn.Sequential:
    """What the gap t - s adds to the embedding of s, for a network that was published with one time.

    Without bias and on `gap_features`, it vanishes at t = s; its last layer starts at zero.
    """
    first, last = nn.Linear(dim, embedding, bias=False), nn.Linear(embedding, embedding, bias=False)
    return nn.Sequential(first, nn.SiLU(), zeroed(last))


def gap_features(embed: nn.Module, gap: Tensor) -> Tensor:
    """The embedding of the gap relative to that of no gap."""
    return embed(gap) - embed(0 * gap)
