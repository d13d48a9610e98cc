"""The encoder of a learned coupling, q(x0 | x1) = N(mean, diag e^l): small, thrown away after training."""

import torch
from torch import Tensor, nn

from . import zeroed

WIDTH, CHANNELS = 64, 32


class NoiseEncoder(nn.Module):
    """Mean and log-variance of the noise of data (batch, *shape), in units of the noise's deviation.

    Three layers, of a perceptron for points and of 3 x 3 convolutions for images. The last starts at zero,
    the independent coupling. Raises ValueError for data that are neither.
    """

    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        if len(shape) not in (1, 3):
            raise ValueError(f"an encoder takes points (dim,) or images (channels, h, w), not {tuple(shape)}")
        sizes = (shape[0], *[WIDTH if len(shape) == 1 else CHANNELS] * 2, 2 * shape[0])
        layers = [
            nn.Linear(a, b) if len(shape) == 1 else nn.Conv2d(a, b, 3, padding=1)
            for a, b in zip(sizes, sizes[1:])
        ]
        self.layers = nn.Sequential(layers[0], nn.SiLU(), layers[1], nn.SiLU(), zeroed(layers[2]))

    def forward(self, x1: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance, each of the shape of `x1`, in single precision."""
        with torch.autocast(x1.device.type, enabled=False):
            mean, log_variance = self.layers(x1).chunk(2, 1)
        return mean, log_variance
