"""Group normalisation of a value with its tangent, the backward pass written out."""

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


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
    def forward(
        ctx, x: Tensor, dx: Tensor, groups: int, weight: Tensor, bias: Tensor, eps: float
    ) -> tuple[Tensor, Tensor]:
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
        to_x = (
            torch.addcmul(constant, z, along_z)
            .addcmul_(g, w * rc)
            .addcmul_(h, -w * channels(r * r * a))
            .addcmul_(dx, channels(-r * r * e))
        )
        to_dx = torch.addcmul(channels(-r * mean_h), z, channels(-r * e)).addcmul_(h, w * rc)
        shape = ctx.saved_tensors[0].shape
        return to_x.view(shape), to_dx.view(shape), None, to_weight.sum(0), sums["g"].sum(0), None
