"""A residual multilayer perceptron for v_{s,t}(x) on low-dimensional data, with its own forward-mode pass."""

from __future__ import annotations

from math import pi, sqrt
from typing import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

silu_out, silu_backward_out = torch.ops.aten.silu.out, torch.ops.aten.silu_backward.grad_input


class _PairLayer(torch.autograd.Function):
    """(x, dx) -> (x + silu(h), dx + silu'(h) dh) with h = W x + b, dh = W dx; stacked as (2, batch, width).

    `residual` says whether x and dx are added. One matrix product serves value and tangent, torch's fused
    silu'(h) g kernel serves both directions, and only silu'' is written out. General forward-mode autodiff
    differentiates a dozen elementary operations here, each a pass over memory, and differentiates them
    again on the way back.
    """

    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor, residual: bool) -> Tensor:
        pre = (x.view(-1, x.shape[-1]) @ weight.t()).view(2, x.shape[1], -1)
        pre[0] += bias
        out = torch.empty_like(pre)
        silu_out(pre[0], out=out[0])
        silu_backward_out(pre[1], pre[0], grad_input=out[1])
        ctx.save_for_backward(x, weight, pre)
        ctx.residual = residual
        return out.add_(x) if residual else out

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight, pre = ctx.saved_tensors
        grad = grad.contiguous()
        h, dh = pre
        back = torch.empty_like(pre)
        silu_backward_out(grad[0], h, grad_input=back[0])
        silu_backward_out(grad[1], h, grad_input=back[1])
        # silu''(h) = s (1 - s) (2 + h (1 - 2 s)), s = sigmoid(h)
        s = torch.sigmoid(h)
        bend = (1 - 2 * s).mul_(h).add_(2).mul_(s).mul_(1 - s)
        back[0].addcmul_(bend.mul_(dh), grad[1])
        flat = back.view(-1, back.shape[-1])
        to_x = None
        if ctx.needs_input_grad[0]:
            to_x = (flat @ weight).view_as(x)
            if ctx.residual:
                to_x = to_x.add_(grad)
        return to_x, flat.t() @ x.view(-1, x.shape[-1]), back[0].sum(0), None


class MLP(nn.Module):
    """v_{s,t}(x) for points (batch, dim): `depth` layers of `width`, residual from the second on.

    The inputs are x, s and t with sin and cos of pi k x for k in `frequencies` and of pi k s, pi k t for k in
    `time_frequencies`: a plain network is slow to draw the sharp edges that a one-step map needs. The last layer
    starts at zero, so an untrained flow map is the identity.
    """

    def __init__(self, dim: int, width: int, depth: int, frequencies: Sequence[float], time_frequencies: Sequence[float]):
        super().__init__()
        columns = [pi * k * row for k in frequencies for row in torch.eye(dim + 2)[:dim]]
        columns += [pi * k * row for k in time_frequencies for row in torch.eye(dim + 2)[dim:]]
        self.register_buffer("waves", torch.stack(columns, 1) if columns else torch.zeros(dim + 2, 0), persistent=False)
        # brings data of unit size and times in [0, 1] to mean 0 and deviation of about 1
        self.register_buffer("scale", torch.tensor([sqrt(3.0)] * dim + [2.0, 2.0]), persistent=False)
        self.register_buffer("shift", torch.tensor([0.0] * dim + [-1.0, -1.0]), persistent=False)
        sizes = [dim + 2 + 2 * self.waves.shape[1]] + [width] * depth
        self.layers = nn.ModuleList(nn.Linear(a, b) for a, b in zip(sizes, sizes[1:]))
        self.out = nn.Linear(width, dim)
        for k, layer in enumerate(self.layers):
            nn.init.normal_(layer.weight, std=(sqrt(2) if k == 0 else 1.0) / sqrt(layer.in_features))
            nn.init.zeros_(layer.bias)
        nn.init.zeros_(self.out.weight)
        nn.init.zeros_(self.out.bias)

    def _features(self, u: Tensor) -> Tensor:
        angle = u @ self.waves
        return torch.cat([torch.addcmul(self.shift, u, self.scale), angle.sin(), angle.cos()], 1)

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), points (batch, dim)."""
        h = self._features(torch.cat([x, s[:, None], t[:, None]], 1))
        for k, layer in enumerate(self.layers):
            h = h + F.silu(layer(h)) if k else F.silu(layer(h))
        return self.out(h)

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> tuple[Tensor, Tensor]:
        """v_{s,t}(x) and its derivative along (ds, dt, dx), carried through the layers side by side."""
        u = torch.cat([x, s[:, None], t[:, None]], 1)
        du = torch.cat([dx, ds[:, None], dt[:, None]], 1)
        angle, turn = u @ self.waves, du @ self.waves
        sin, cos = angle.sin(), angle.cos()
        value = torch.cat([torch.addcmul(self.shift, u, self.scale), sin, cos], 1)
        h = torch.stack([value, torch.cat([du * self.scale, cos * turn, -sin * turn], 1)])
        for k, layer in enumerate(self.layers):
            h = _PairLayer.apply(h, layer.weight, layer.bias, k > 0)
        return self.out(h[0]), h[1] @ self.out.weight.t()
