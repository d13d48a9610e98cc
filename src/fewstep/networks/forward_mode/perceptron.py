"""A perceptron as one function with its own backward pass, for a value with or without a tangent.

Written out, because a step on a small network is otherwise spent beside the products. The slope f'(h) that
the value leaves behind serves the tangent and both ways back.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import pi, sqrt

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

Pair = tuple[Tensor, Tensor]  # a value and its tangent


def product(a: Tensor, b: Tensor, bias: Tensor | None = None) -> Tensor:
    """a b' + bias for a (rows, inner), b (columns, inner), bias (columns,), without a gradient of its own.

    Single precision on a CPU goes to oneDNN: torch's own choice, MKL, keeps to AVX2 on AMD.
    """
    if a.dtype == torch.float32 and a.device.type == "cpu" and torch.backends.mkldnn.is_available():
        return torch.ops.mkldnn._linear_pointwise(a, b, bias, "none", [], "")
    return F.linear(a, b, bias)


def _silu(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f = h s, f' = s + f (1 - s), s = sigmoid(h); and s."""
    s = torch.sigmoid(h)
    y = h * s
    return y, torch.addcmul(s, y, s, value=-1).add_(y), s


def _silu_bend(h: Tensor, y: Tensor, slope: Tensor, s: Tensor) -> Tensor:
    """f'' = (1 - s) (2 f' - f)."""
    twice = torch.sub(slope, y, alpha=0.5).mul_(2)
    return twice.addcmul_(twice, s, value=-1)


def _gelu(h: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """f = h Phi, f' = Phi + h phi, Phi and phi the normal distribution and density; and phi."""
    phi = torch.exp(h.square().mul_(-0.5)).mul_(1 / sqrt(2 * pi))
    below = torch.special.ndtr(h)
    return h * below, torch.addcmul(below, h, phi), phi


def _gelu_bend(h: Tensor, y: Tensor, slope: Tensor, phi: Tensor) -> Tensor:
    """f'' = (2 - h^2) phi."""
    return (2 - h.square()).mul_(phi)


@dataclass(frozen=True)
class Activation:
    """An activation f: plain; f'(h) g written into g; f(h), f'(h) and what f'' uses again; f'' from these."""

    apply: Callable[[Tensor], Tensor]
    backward: Callable[..., Tensor]
    with_slope: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]]
    bend: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]


ACTIVATIONS = {
    "silu": Activation(F.silu, torch.ops.aten.silu_backward.grad_input, _silu, _silu_bend),
    "gelu": Activation(F.gelu, torch.ops.aten.gelu_backward.grad_input, _gelu, _gelu_bend),
}


class _Value(torch.autograd.Function):
    """x (batch, in) -> W_n f(... f(W_1 x + b_1) ...) + b_n."""

    @staticmethod
    def forward(ctx, x: Tensor, activation: Activation, *layers: Tensor) -> Tensor:
        weights, biases = layers[::2], layers[1::2]
        kept = [x]
        for weight, bias in zip(weights[:-1], biases[:-1]):
            h = product(kept[-1], weight, bias)
            kept += [h, activation.apply(h)]
        ctx.save_for_backward(*weights, *kept)
        ctx.activation = activation
        return product(kept[-1], weights[-1], biases[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor):
        depth = (len(ctx.needs_input_grad) - 2) // 2
        weights, kept = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        inputs, before = kept[::2], kept[1::2]
        grads: list[Tensor | None] = []
        for k in reversed(range(depth)):
            if k < depth - 1:
                ctx.activation.backward(g, before[k], grad_input=g)
            grads = [*_to_layer(ctx, k, depth, (g, inputs[k])), *grads]
            if k or ctx.needs_input_grad[0]:
                g = product(g, weights[k].t())
        return g if ctx.needs_input_grad[0] else None, None, *grads


class _Pair(torch.autograd.Function):
    """(x, dx) -> the value of _Value and its derivative along dx, both (batch, out).

    A layer sends (x, dx) to (f(h), f'(h) dh) with h = W x + b and dh = W dx; back, the gradients (g, dg) go
    to h as f'(h) g + f''(h) dh dg, and to dh as f'(h) dg.
    """

    @staticmethod
    def forward(ctx, x: Tensor, dx: Tensor, activation: Activation, *layers: Tensor) -> Pair:
        weights, biases = layers[::2], layers[1::2]
        kept = [x, dx]
        for weight, bias in zip(weights[:-1], biases[:-1]):
            h, dh = product(kept[-2], weight, bias), product(kept[-1], weight)
            y, slope, again = activation.with_slope(h)
            kept += [h, dh, slope, again, y, dh * slope]
        ctx.save_for_backward(*weights, *kept)
        ctx.activation = activation
        return product(kept[-2], weights[-1], biases[-1]), product(kept[-1], weights[-1])

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor, dg: Tensor):
        depth = (len(ctx.needs_input_grad) - 3) // 2
        weights, kept = ctx.saved_tensors[:depth], ctx.saved_tensors[depth:]
        grads: list[Tensor | None] = []
        for k in reversed(range(depth)):
            x, dx = kept[6 * k : 6 * k + 2]
            if k < depth - 1:
                h, dh, slope, again, y = kept[6 * k + 2 : 6 * k + 7]
                bent = ctx.activation.bend(h, y, slope, again).mul_(dh).mul_(dg)
                g, dg = g.mul_(slope).add_(bent), dg.mul_(slope)
            grads = [*_to_layer(ctx, k, depth, (g, x), (dg, dx)), *grads]
            if k or any(ctx.needs_input_grad[:2]):
                g, dg = product(g, weights[k].t()), product(dg, weights[k].t())
        to_x, to_dx = ctx.needs_input_grad[:2]
        return g if to_x else None, dg if to_dx else None, None, *grads


def _to_layer(ctx, k: int, depth: int, *pairs: tuple[Tensor, Tensor]) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of layer k's weight and bias, from pairs (gradient of its output, its input)."""
    to_weight, to_bias = ctx.needs_input_grad[len(ctx.needs_input_grad) - 2 * (depth - k) :][:2]
    weight = None
    if to_weight:
        weight = pairs[0][0].t() @ pairs[0][1]
        for g, x in pairs[1:]:
            weight += g.t() @ x
    return weight, pairs[0][0].sum(0) if to_bias else None


def value(x: Tensor, layers: Sequence[tuple[Tensor, Tensor]], activation: Activation) -> Tensor:
    """The perceptron with `layers` (weight, bias), the last without activation: (batch, in) -> (batch, out).

    Differentiable once, and to any order under a transform of torch.func.
    """
    transformed = torch._C._are_functorch_transforms_active()
    if torch.is_grad_enabled() and not transformed:
        return _Value.apply(x, activation, *(p for layer in layers for p in layer))
    *hidden, (weight, bias) = layers
    linear = F.linear if transformed else product
    for w, b in hidden:
        x = activation.apply(linear(x, w, b))
    return linear(x, weight, bias)


def pair(x: Tensor, dx: Tensor, layers: Sequence[tuple[Tensor, Tensor]], activation: Activation) -> Pair:
    """`value` and its derivative along dx (batch, in), side by side; differentiable once."""
    return _Pair.apply(x, dx, activation, *(p for layer in layers for p in layer))
