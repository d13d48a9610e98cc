"""A multilayer perceptron for v_{s,t}(x) on low-dimensional data, with its own forward-mode pass."""

from __future__ import annotations

from dataclasses import dataclass
from math import pi, sqrt
from typing import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

def _silu_bend(h: Tensor) -> Tensor:
    """silu''(h) = s (1 - s) (2 + h (1 - 2 s)), s = sigmoid(h)."""
    s = torch.sigmoid(h)
    return (1 - 2 * s).mul_(h).add_(2).mul_(s).mul_(1 - s)


def _gelu_bend(h: Tensor) -> Tensor:
    """gelu''(h) = (2 - h^2) phi(h), phi the normal density."""
    return torch.exp(h.square().mul_(-0.5)).mul_(1 / sqrt(2 * pi)).mul_(2 - h.square())


@dataclass(frozen=True)
class Activation:
    """An activation f: f itself, f into `out`, f'(h) g into `grad_input`, and f''(h)."""

    apply: Callable[[Tensor], Tensor]
    out: Callable[..., Tensor]
    backward: Callable[..., Tensor]
    bend: Callable[[Tensor], Tensor]


ACTIVATIONS = {
    "silu": Activation(F.silu, torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input, _silu_bend),
    "gelu": Activation(F.gelu, torch.ops.aten.gelu.out, torch.ops.aten.gelu_backward.grad_input, _gelu_bend),
}


class _PairLayer(torch.autograd.Function):
    """(x, dx) -> (f(h), f'(h) dh) with h = W x + b and dh = W dx; stacked as (2, batch, width).

    One matrix product serves value and tangent, torch's fused f'(h) g kernel serves both directions, and only
    f'' is written out. General forward-mode autodiff differentiates a dozen elementary operations here, each
    a pass over memory, and differentiates them again on the way back.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, activation: Activation) -> Tensor:
        pre = (x.view(-1, x.shape[-1]) @ weight.t()).view(2, x.shape[1], -1)
        pre[0] += bias
        out = torch.empty_like(pre)
        activation.out(pre[0], out=out[0])
        activation.backward(pre[1], pre[0], grad_input=out[1])
        ctx.save_for_backward(x, weight, pre)
        ctx.activation = activation
        return out

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, (h, dh) = ctx.saved_tensors
        grad = grad.contiguous()
        back = torch.empty_like(grad)
        ctx.activation.backward(grad[0], h, grad_input=back[0])
        ctx.activation.backward(grad[1], h, grad_input=back[1])
        back[0].addcmul_(ctx.activation.bend(h).mul_(dh), grad[1])
        flat = back.view(-1, back.shape[-1])
        to_x = (flat @ weight).view_as(x) if ctx.needs_input_grad[0] else None
        return to_x, flat.t() @ x.view(-1, x.shape[-1]), back[0].sum(0), None


class MLP(nn.Module):
    """v_{s,t}(x) for points (batch, dim): `depth` hidden layers of `width`.

    The inputs are x, s and t with sin and cos of pi k x for k in `frequencies` and of pi k s, pi k t for k in
    `time_frequencies`: a plain network is slow to draw the sharp edges that a one-step map needs. The last layer
    starts at zero, so an untrained flow map is the identity.
    """

    def __init__(
        self, dim: int, width: int, depth: int, activation: str, frequencies: Sequence[float], time_frequencies: Sequence[float]
    ):
        super().__init__()
        self.activation = ACTIVATIONS[activation]
        columns = [pi * k * row for k in frequencies for row in torch.eye(dim + 2)[:dim]]
        columns += [pi * k * row for k in time_frequencies for row in torch.eye(dim + 2)[dim:]]
        self.register_buffer("waves", torch.stack(columns, 1) if columns else torch.zeros(dim + 2, 0), persistent=False)
        # brings data of unit size and times in [0, 1] to mean 0 and deviation of about 1
        self.register_buffer("scale", torch.tensor([sqrt(3.0)] * dim + [2.0, 2.0]), persistent=False)
        self.register_buffer("shift", torch.tensor([0.0] * dim + [-1.0, -1.0]), persistent=False)
        sizes = [dim + 2 + 2 * self.waves.shape[1]] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(width, dim)
        for layer in self.layers:
            nn.init.normal_(layer.weight, std=sqrt(2 / layer.in_features))
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _features(self, u: Tensor) -> Tensor:
        angle = u @ self.waves
        return torch.cat([torch.addcmul(self.shift, u, self.scale), angle.sin(), angle.cos()], 1)

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), points (batch, dim)."""
        h = self._features(torch.cat([x, s[:, None], t[:, None]], 1))
        for layer in self.layers:
            h = self.activation.apply(layer(h))
        return self.out(h)

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        """v_{s,t}(x) and its derivative along (ds, dt, dx), carried through the layers side by side."""
        u = torch.cat([x, s[:, None], t[:, None]], 1)
        du = torch.cat([dx, ds[:, None], dt[:, None]], 1)
        angle, turn = u @ self.waves, du @ self.waves
        sin, cos = angle.sin(), angle.cos()
        value = torch.cat([torch.addcmul(self.shift, u, self.scale), sin, cos], 1)
        h = torch.stack([value, torch.cat([du * self.scale, cos * turn, -sin * turn], 1)])
        for layer in self.layers:
            h = _PairLayer.apply(h, layer.weight, layer.bias, self.activation)
        return self.out(h[0]), h[1] @ self.out.weight.t()
