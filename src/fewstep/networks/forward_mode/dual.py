"""Dual numbers that pass through any module: a value and its derivative along one direction, side by side.

    v, dv = parts(network(Dual(s, ds), Dual(t, dt), Dual(x, dx)))

The operations that a convolutional network is made of have a rule of their own, a normalisation and an
activation with the backward pass written out; what has no rule is handed to torch.func.jvp.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F
from torch.utils._pytree import tree_flatten, tree_unflatten

from .perceptron import ACTIVATIONS, Pair

SILU = ACTIVATIONS["silu"]


class Dual(Tensor):
    """A tensor that carries its `tangent`, of its shape, through any torch function; differentiable once."""

    tangent: Tensor

    @staticmethod
    def __new__(cls, value: Tensor, tangent: Tensor) -> "Dual":
        if value.shape != tangent.shape:
            shapes = f"{tuple(value.shape)}, not {tuple(tangent.shape)}"
            raise ValueError(f"a tangent has its value's shape: {shapes}")
        self = value.as_subclass(cls)
        self.tangent = tangent
        return self

    @classmethod
    def __torch_function__(cls, func: Callable, types: Any, args: tuple = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunctionSubclass():
            rule = RULES.get(func)
            return rule(*args, **(kwargs or {})) if rule else _general(func, args, kwargs or {})


def value_of(x: Any) -> Any:
    """`x` without its tangent."""
    return x.as_subclass(Tensor) if isinstance(x, Dual) else x


def parts(x: Tensor) -> Pair:
    """(value, tangent); the tangent of an ordinary tensor is zero."""
    with torch._C.DisableTorchFunctionSubclass():
        return (value_of(x), x.tangent) if isinstance(x, Dual) else (x, torch.zeros_like(x))


class DualNetwork(nn.Module):
    """A network (s, t, x) -> v_{s,t}(x) whose derivative comes from one pass of dual numbers."""

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> Pair:
        """v_{s,t}(x) and its derivative along (ds, dt, dx)."""
        return parts(self.forward(Dual(s, ds), Dual(t, dt), Dual(x, dx)))


def _general(func: Callable, args: tuple, kwargs: dict) -> Any:
    """A function without a rule: tensors come from torch.func.jvp, all else from the value alone."""
    leaves, tree = tree_flatten((args, kwargs))
    plain = tree_unflatten([value_of(leaf) for leaf in leaves], tree)
    if func.__name__.endswith("_") and not func.__name__.endswith("__"):
        cure = "use the function that returns a new tensor"
        raise NotImplementedError(f"a dual number cannot be changed in place by {func.__name__}: {cure}")
    result = func(*plain[0], **plain[1])
    if not any(isinstance(leaf, Tensor) for leaf in tree_flatten(result)[0]):
        return result

    def of_duals(*values: Tensor) -> Any:
        own = iter(values)
        filled = [next(own) if isinstance(leaf, Dual) else leaf for leaf in leaves]
        inner_args, inner_kwargs = tree_unflatten(filled, tree)
        return func(*inner_args, **inner_kwargs)

    duals = (parts(leaf) for leaf in leaves if isinstance(leaf, Dual))
    values, tangents = torch.func.jvp(of_duals, *zip(*duals))
    flat, shape = tree_flatten(values)
    return tree_unflatten([Dual(v, d) for v, d in zip(flat, tree_flatten(tangents)[0])], shape)


def _each(func: Callable) -> Callable:
    """The rule of a function linear in its first argument, the only dual one: views, sums, resizing."""

    def rule(x: Dual, *args: Any, **kwargs: Any) -> Any:
        v, d = func(value_of(x), *args, **kwargs), func(x.tangent, *args, **kwargs)
        return Dual(v, d) if isinstance(v, Tensor) else type(v)(Dual(a, b) for a, b in zip(v, d))

    return rule


def _sum(sign: float) -> Callable:
    def rule(a: Any, b: Any) -> Dual:
        v = value_of(a) + value_of(b) if sign > 0 else value_of(a) - value_of(b)
        if not isinstance(b, Dual):
            return Dual(v, a.tangent.expand_as(v))
        if not isinstance(a, Dual):
            return Dual(v, (b.tangent if sign > 0 else -b.tangent).expand_as(v))
        return Dual(v, a.tangent + b.tangent if sign > 0 else a.tangent - b.tangent)

    return rule


def _product(a: Any, b: Any) -> Dual:
    x, y = value_of(a), value_of(b)
    v = x * y
    if not isinstance(b, Dual):
        return Dual(v, a.tangent * y)
    if not isinstance(a, Dual):
        return Dual(v, x * b.tangent)
    return Dual(v, torch.addcmul(x * b.tangent, a.tangent, y))


def _quotient(a: Any, b: Any) -> Any:
    if isinstance(b, Dual):
        return _general(torch.div, (a, b), {})
    # by one, which diffusers' blocks do without end
    return a if isinstance(b, (int, float)) and b == 1 else Dual(value_of(a) / b, a.tangent / b)


def _cat(tensors: Any, dim: int = 0) -> Dual:
    values, tangents = zip(*map(parts, tensors))
    return Dual(torch.cat(values, dim), torch.cat(tangents, dim))


def _affine(func: Callable) -> Callable:
    """The rule of a layer W x + b: the bias has no tangent."""

    def rule(input: Dual, weight: Tensor, bias: Tensor | None = None, *args: Any, **kwargs: Any) -> Dual:
        v = func(value_of(input), weight, bias, *args, **kwargs)
        return Dual(v, func(input.tangent, weight, None, *args, **kwargs))

    return rule


def _dropout(input: Dual, p: float = 0.5, training: bool = True, inplace: bool = False) -> Dual:
    if not training or p == 0:
        return input
    keep = torch.empty_like(value_of(input)).bernoulli_(1 - p) / (1 - p)
    return Dual(value_of(input) * keep, input.tangent * keep)


def _attention(
    query: Tensor, key: Tensor, value: Tensor, attn_mask: None = None, dropout_p: float = 0.0,
    is_causal: bool = False,
) -> Dual:  # fmt: skip
    """softmax(q k' / sqrt(d)) v; with S = q k' / sqrt(d) and A = softmax(S), dA = A (dS - sum A dS)."""
    if attn_mask is not None or dropout_p or is_causal:
        raise NotImplementedError("attention of dual numbers has no mask, no dropout and no causal order")
    (q, dq), (k, dk), (v, dv) = parts(query), parts(key), parts(value)
    q, dq = q / q.shape[-1] ** 0.5, dq / q.shape[-1] ** 0.5
    a = torch.softmax(q @ k.mT, -1)
    ds = a * (dq @ k.mT + q @ dk.mT)
    return Dual(a @ v, (ds - a * ds.sum(-1, keepdim=True)) @ v + a @ dv)


class _SiLU(torch.autograd.Function):
    """(h, dh) -> (f(h), f'(h) dh); back: (f'(h) g + f''(h) dh dg, f'(h) dg)."""

    @staticmethod
    def forward(ctx, h: Tensor, dh: Tensor) -> Pair:
        y, slope, again = SILU.with_slope(h)
        ctx.save_for_backward(h, dh, y, slope, again)
        return y, dh * slope

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor, dg: Tensor):
        h, dh, y, slope, again = ctx.saved_tensors
        bent = SILU.bend(h, y, slope, again).mul_(dh).mul_(dg)
        return bent.addcmul_(g, slope), dg * slope


def _dots(a: Tensor, b: Tensor) -> Tensor:
    """The inner products over the last axis: (n, c, k), (n, c, k) -> (n, c)."""
    n, c, k = a.shape
    return torch.bmm(a.reshape(n * c, 1, k), b.reshape(n * c, k, 1)).view(n, c)


class PairGroupNorm(torch.autograd.Function):
    """(x, dx) -> (w z + b, w dz), (batch, channels, ...), for z the x normalised by sample and group.

    With m the mean over a group and r = 1 / sqrt(var + eps):

        z = r (x - m(x)),   dz = r (dx - m(dx) - z a),   a = m(z dx)

    Backwards, for gradients g of the value and h of the tangent, G = w g, H = w h and e = m(H z):

        to dx:  r (H - m(H) - z e)
        to x:   r (P(G - r (a H + e dx)) - z m(H dz)),   P(u) = u - m(u) - z m(z u)

    Every mean over a group is a weighted sum of means over its channels: one pass serves them all, w and b.
    """

    @staticmethod
    def forward(ctx, x: Tensor, dx: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float) -> Pair:
        n, c = x.shape[:2]
        x, dx = x.contiguous(), dx.contiguous()
        k = x[0].numel() // groups
        z, _, r = torch.native_group_norm(x, None, None, n, c, x[0, 0].numel(), groups, eps)
        over = z.view(n, groups, k), dx.view(n, groups, k)
        a, mean = _dots(*over)[..., None] / k, over[1].mean(2, keepdim=True)
        r = r.view(n, groups, 1)
        dz = torch.addcmul(-r * mean, over[0], -r * a).addcmul_(over[1], r).view_as(x)
        shape = (1, c, *[1] * (x.ndim - 2))
        ctx.save_for_backward(z, dx, r, a, mean, weight)
        return torch.addcmul(bias.view(shape), z, weight.view(shape)), dz.mul_(weight.view(shape))

    @staticmethod
    @once_differentiable
    def backward(ctx, g: Tensor, h: Tensor):
        z, dx, r, a, mean, weight = ctx.saved_tensors
        n, c = z.shape[:2]
        groups = r.shape[1]
        k = z[0].numel() // groups

        def channels(u: Tensor) -> Tensor:
            """(n, c, 1) from one number a group (n, groups, 1)."""
            return u.expand(n, groups, c // groups).reshape(n, c, 1)

        def group(u: Tensor) -> Tensor:
            """The mean over a group of w u, from the sums of u over its channels (n, c)."""
            return (u * weight).view(n, groups, -1).sum(2, keepdim=True) / k

        g, h, z, dx = (u.reshape(n, c, -1) for u in (g, h, z, dx))
        sums = {"g": g.sum(2), "h": h.sum(2), "gz": _dots(g, z), "hz": _dots(h, z), "hdx": _dots(h, dx)}
        mean_g, mean_h, e = group(sums["g"]), group(sums["h"]), group(sums["hz"])
        turned = r * (group(sums["hdx"]) - mean_h * mean - a * e)
        hdx, h_sum, hz = (sums[name][..., None] for name in ("hdx", "h", "hz"))
        through_tangent = channels(r) * (hdx - channels(mean) * h_sum - channels(a) * hz)
        to_weight = sums["gz"] + through_tangent[..., 0]
        w, rc = weight.view(1, c, 1), channels(r)
        constant = channels(-r * (mean_g - r * (a * mean_h + e * mean)))
        along_z = channels(-r * (group(sums["gz"]) - 2 * r * a * e + turned))
        to_x = torch.addcmul(constant, z, along_z).addcmul_(g, w * rc).addcmul_(h, -w * channels(r * r * a))
        to_x = to_x.addcmul_(dx, channels(-r * r * e))
        to_dx = torch.addcmul(channels(-r * mean_h), z, channels(-r * e)).addcmul_(h, w * rc)
        shape = ctx.saved_tensors[0].shape
        return to_x.view(shape), to_dx.view(shape), None, to_weight.sum(0), sums["g"].sum(0), None


def _elementwise(func: Callable, slope: Callable) -> Callable:
    return lambda input: Dual(func(value_of(input)), slope(value_of(input)) * input.tangent)


def _silu(input: Dual, inplace: bool = False) -> Dual:
    return Dual(*_SiLU.apply(value_of(input), input.tangent))


def _group_norm(
    input: Dual, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Dual:
    if weight is None or bias is None:
        return _general(F.group_norm, (input, num_groups, weight, bias, eps), {})
    # under autocast, statistics are taken in the weight's precision, as in torch's own normalisation on a GPU
    with torch.autocast(weight.device.type, enabled=False):
        pair = value_of(input).to(weight.dtype), input.tangent.to(weight.dtype)
        return Dual(*PairGroupNorm.apply(*pair, num_groups, weight, bias, eps))


_LINEAR = (
    torch.reshape, torch.transpose, torch.permute, torch.chunk, torch.split, torch.flatten, torch.squeeze,
    torch.unsqueeze, torch.neg, torch.mean, torch.sum, Tensor.view, Tensor.reshape, Tensor.transpose,
    Tensor.permute, Tensor.chunk, Tensor.split, Tensor.flatten, Tensor.squeeze, Tensor.unsqueeze, Tensor.neg,
    Tensor.__neg__, Tensor.mean, Tensor.sum, Tensor.__getitem__, Tensor.contiguous, Tensor.expand,
    Tensor.float, Tensor.double, Tensor.to, Tensor.clone, F.interpolate, F.avg_pool2d, F.pad,
)  # fmt: skip
RULES: dict[Callable, Callable] = {func: _each(func) for func in _LINEAR}
RULES |= {func: _sum(+1) for func in (torch.add, Tensor.add, Tensor.__add__, Tensor.__radd__)}
RULES |= {func: _sum(-1) for func in (torch.sub, Tensor.sub, Tensor.__sub__)}
RULES |= {Tensor.__rsub__: lambda a, b: _sum(-1)(b, a)}
RULES |= {func: _product for func in (torch.mul, Tensor.mul, Tensor.__mul__, Tensor.__rmul__)}
RULES |= {func: _quotient for func in (torch.div, Tensor.div, Tensor.__truediv__)}
RULES |= {func: _affine(func) for func in (F.linear, F.conv2d)}
RULES |= {torch.cat: _cat, F.dropout: _dropout, F.silu: _silu, F.group_norm: _group_norm}
RULES |= {F.scaled_dot_product_attention: _attention}
RULES |= {func: _elementwise(torch.sin, torch.cos) for func in (torch.sin, Tensor.sin)}
RULES |= {func: _elementwise(torch.cos, lambda v: -v.sin()) for func in (torch.cos, Tensor.cos)}
