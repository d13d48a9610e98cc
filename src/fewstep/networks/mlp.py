"""A multilayer perceptron for v_{s,t}(x) on low-dimensional data, with its own forward-mode pass."""

from collections.abc import Sequence
from math import pi, sqrt

import torch
from torch import Tensor, nn

from . import zeroed
from .forward_mode.perceptron import ACTIVATIONS, Pair, pair, value


class MLP(nn.Module):
    """v_{s,t}(x) for points (batch, dim), of one `shape` (dim,): `depth` hidden layers of `width`.

    The inputs are x, s and t with sin and cos of pi k x for k in `frequencies` and of pi k s, pi k t for k in
    `time_frequencies`. The last layer starts at zero, so an untrained flow map is the identity. Raises
    ValueError for points of another shape.

    >>> network = MLP((2,), width=16, depth=2, activation="silu", frequencies=[1, 2], time_frequencies=[1])
    >>> network(torch.zeros(8), torch.ones(8), torch.randn(8, 2)).shape
    torch.Size([8, 2])
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, depth: int, activation: str, frequencies: Sequence[float],
        time_frequencies: Sequence[float],
    ):  # fmt: skip
        super().__init__()
        if len(shape) != 1:
            raise ValueError(f"an mlp takes points of shape (dim,), not {tuple(shape)}")
        (dim,) = shape
        self.activation = ACTIVATIONS[activation]
        columns = [pi * k * row for k in frequencies for row in torch.eye(dim + 2)[:dim]]
        columns += [pi * k * row for k in time_frequencies for row in torch.eye(dim + 2)[dim:]]
        waves = torch.stack(columns, 1) if columns else torch.zeros(dim + 2, 0)
        self.register_buffer("waves", waves, persistent=False)
        # brings data of unit size and times in [0, 1] to mean 0 and deviation of about 1
        self.register_buffer("scale", torch.tensor([sqrt(3.0)] * dim + [2.0, 2.0]), persistent=False)
        self.register_buffer("shift", torch.tensor([0.0] * dim + [-1.0, -1.0]), persistent=False)
        sizes = [dim + 2 + 2 * self.waves.shape[1]] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(width, dim)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
        zeroed(self.out)

    def _pairs(self) -> list[tuple[Tensor, Tensor]]:
        return [(layer.weight, layer.bias) for layer in (*self.layers, self.out)]

    def _features(self, u: Tensor) -> Tensor:
        angle = u @ self.waves
        return torch.cat([torch.addcmul(self.shift, u, self.scale), angle.sin(), angle.cos()], 1)

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), points (batch, dim)."""
        features = self._features(torch.cat([x, s[:, None], t[:, None]], 1))
        return value(features, self._pairs(), self.activation)

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> Pair:
        """v_{s,t}(x) and its derivative along (ds, dt, dx), carried through the layers side by side."""
        u = torch.cat([x, s[:, None], t[:, None]], 1)
        du = torch.cat([dx, ds[:, None], dt[:, None]], 1)
        angle, turn = u @ self.waves, du @ self.waves
        sin, cos = angle.sin(), angle.cos()
        features = torch.cat([torch.addcmul(self.shift, u, self.scale), sin, cos], 1)
        along = torch.cat([du * self.scale, cos * turn, -sin * turn], 1)
        return pair(features, along, self._pairs(), self.activation)


build = MLP
