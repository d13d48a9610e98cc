"""Faults in networks/: networks and their forward mode."""

from . import Fault, within

FAULTS: list[Fault] = [
    *within(
        "networks/mlp.py",
        "mlp",
        ("cosine's derivative", "-sin * turn", "sin * turn"),
        ("tangent not scaled", "du * self.scale", "du"),
    ),
    *within(
        "networks/forward_mode/perceptron.py",
        "mlp",
        ("silu'", "y, s, value=-1).add_(y), s", "y, s, value=1).add_(y), s"),
        ("silu''", "torch.sub(slope, y, alpha=0.5)", "torch.sub(slope, y, alpha=1.0)"),
        ("gelu'", "torch.addcmul(below, h, phi)", "below + phi"),
        ("gelu''", "(2 - h.square())", "(1 - h.square())"),
        ("the bias has a tangent", "product(kept[-1], weight)\n", "product(kept[-1], weight, bias)\n"),
        ("tangent's gradient from the value's", "dg.mul_(slope)", "g.clone()"),
        ("bend left out", "g.mul_(slope).add_(bent)", "g.mul_(slope)"),
        ("bend without the tangent", ".mul_(dh).mul_(dg)", ".mul_(dg)"),
        ("no gradient for the layer below", "dg if to_dx else None, None, *grads", "None, None, *grads"),
        ("tangent's share of the weights lost", "for g, x in pairs[1:]", "for g, x in pairs[2:]"),
        ("slope forgotten", "ctx.activation.backward(g, before[k], grad_input=g)", "pass"),
    ),
    *within(
        "networks/forward_mode/dual.py",
        "dual",
        ("tangent not centred", "torch.addcmul(-r * mean,", "torch.addcmul(0 * mean,"),
        ("tangent keeps its part along z", "over[0], -r * a)", "over[0], 0 * a)"),
        ("the spread has no gradient", "- 2 * r * a * e + turned", "- 2 * r * a * e"),
        ("once, not twice", "2 * r * a * e", "r * a * e"),
        ("dx's part of x's gradient lost", ".addcmul_(dx, channels(-r * r * e))", ""),
        (
            "the tangent teaches the scale nothing",
            'to_weight = sums["gz"] + through',
            'to_weight = sums["gz"] + 0 * through',
        ),
    ),
    *within(
        "networks/forward_mode/dual.py",
        "dual",
        ("the bias has a tangent", "func(input.tangent, weight, None,", "func(input.tangent, weight, bias,"),
        ("half a product rule", "torch.addcmul(x * b.tangent, a.tangent, y)", "x * b.tangent"),
        (
            "minus becomes plus",
            "a.tangent + b.tangent if sign > 0 else a.tangent - b.tangent",
            "a.tangent + b.tangent",
        ),
        ("a constant keeps its place", "-b.tangent).expand_as", "b.tangent).expand_as"),
        ("softmax is not normalised", "(ds - a * ds.sum(-1, keepdim=True))", "ds"),
        ("values do not move", " + a @ dv", ""),
        (
            "the gap does not move with s",
            "forward(Dual(s, ds), Dual(t, dt)",
            "forward(Dual(s, ds), Dual(t, dt + ds)",
        ),
        ("sine's derivative", "_elementwise(torch.sin, torch.cos)", "_elementwise(torch.sin, torch.sin)"),
    ),
    *within(
        "networks/unet.py", "unet", ("the end in place of the gap", "class_labels=t - s", "class_labels=t")
    ),
    *within(
        "networks/text_unet.py", "unet", ("the end in place of the gap", "texts, t - s, enc", "texts, t, enc")
    ),
    *within(
        "networks/magnitudes.py",
        "edm2",
        ("a sum over its weights alone", "/ sqrt((1 - share) ** 2 + share**2)", "/ 1.0"),
        (
            "channels count as many as they are",
            "* (scale * (1 - share) / sqrt(m))",
            "* (scale * (1 - share) / sqrt(n))",
        ),
        ("filters as long as they are", "filters = unit(self.weight, dims) *", "filters = self.weight *"),
        ("filters of size one", "* (gain / sqrt(prod(self.weight.shape[1:])))", "* gain"),
        ("sizes in half precision", "x.to(torch.promote_types(x.dtype, torch.float32))", "x"),
        ("weights stay where the step took them", "self.weight.copy_(unit(", "torch.clone(unit("),
        ("silu not over its size", "return F.silu(x) / SILU", "return F.silu(x)"),
    ),
    *within(
        "networks/edm2.py",
        "edm2",
        ("the end in place of the gap", "self.gap(t - s)", "self.gap(t)"),
        ("waves of half the size", "self.waves(time) * 2**0.5", "self.waves(time)"),
        ("queries of any size", "(unit(parts, (2,))[:, :, :, i]", "(parts[:, :, :, i]"),
        ("pixels of any size", "x = unit(self.skip(x), (1,))", "x = self.skip(x)"),
        ("no clip", ".clamp(-LARGEST, LARGEST)", ""),
        ("modulation without its one", "self.gain) + 1)[", "self.gain))["),
        (
            "the output at the input's scale",
            "self.last(x, self.gain) * self.data_std",
            "self.last(x, self.gain)",
        ),
        ("no block more in the decoder", "for _ in range(blocks + 1):", "for _ in range(blocks):"),
        ("evaluating writes", "if self.training and not", "if not"),
    ),
    *within(
        "networks/discriminator.py",
        "conditions",
        (
            "logits in the place of the released sigmoid",
            "nn.Sigmoid(), nn.Unflatten",
            "nn.Identity(), nn.Unflatten",
        ),
        ("a released head of stride 1", "KERNEL, stride=2)", "KERNEL, stride=1)"),
    ),
]
