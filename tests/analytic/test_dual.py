"""Dual numbers and the two-time UNet: values, tangents and gradients against torch.func.jvp."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from fewstep import networks
from fewstep.flows.flow_map import FlowMap
from fewstep.networks.forward_mode.dual import Dual, PairGroupNorm, parts, value_of

from .exact import F64, close, randn, uniform

X, DX, Y = (randn(4, 6, 4, 4, seed=k) for k in (1, 2, 3))
KERNEL, BIAS, SCALE, SHIFT = randn(8, 6, 3, 3, seed=4), randn(8, seed=5), randn(6, seed=6), randn(6, seed=7)
WEIGHT = randn(5, 4, seed=8)
Q, K, V = (randn(6, 5, seed=k) for k in (9, 10, 11))

FUNCTIONS = {
    "convolution with a bias": lambda x: F.conv2d(x, KERNEL, BIAS, 1, 1),
    "convolution with a stride": lambda x: F.conv2d(x, KERNEL, None, stride=2, padding=1),
    "linear": lambda x: F.linear(x, WEIGHT, BIAS[:5]),
    "group norm": lambda x: F.group_norm(x, 3, SCALE, SHIFT, 1e-5),
    "group norm of one group": lambda x: F.group_norm(x, 1, SCALE, SHIFT, 0.3),
    "group norm without weights": lambda x: F.group_norm(x, 3),
    "silu": F.silu,
    "gelu": F.gelu,
    "gelu by tanh": lambda x: F.gelu(x, approximate="tanh"),
    "sin": torch.sin,
    "cos": torch.cos,
    "softmax, which has no rule": lambda x: torch.softmax(x, 1),
    "plus a constant": lambda x: x + Y,
    "a constant plus, broadcast": lambda x: (Y + x[:1]) * Y,
    "plus itself": lambda x: x + x.sin(),
    "minus": lambda x: Y - x - x.cos(),
    "negated": lambda x: -x,
    "times a constant": lambda x: x * Y,
    "a number times": lambda x: 3.0 * x,
    "times itself": lambda x: x * x.sin(),
    "scale and shift": lambda x: x * (1 + x.mean((2, 3), keepdim=True)) + x[:, :, :1, :1],
    "divided by a number": lambda x: x / 1.5,
    "divided by one": lambda x: x / 1.0,
    "a number divided by": lambda x: 1.0 / (x + 9),
    "divided by itself": lambda x: x.sin() / (x + 9),
    "concatenated with a constant": lambda x: torch.cat([x, Y], 1),
    "chunks": lambda x: torch.chunk(x, 2, 1)[1] * x.chunk(2, dim=1)[0],
    "resized": lambda x: F.interpolate(x, scale_factor=2.0, mode="nearest"),
    "reshaped": lambda x: x.view(4, 6, 16).transpose(1, 2).reshape(4, 96).contiguous(),
    "attention": lambda x: F.scaled_dot_product_attention(x @ Q[:4], x @ K[:4], x @ V[:4]),
    "attention of fixed keys": lambda x: F.scaled_dot_product_attention(x @ Q[:4], Y @ K[:4], Y @ V[:4]),
    "in a wider type": lambda x: x.to(F64).double(),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_a_dual_number_is_the_jvp(name):
    f, found = FUNCTIONS[name], []
    for how in ("dual", "jvp"):
        x, dx = X.clone().requires_grad_(), DX.clone().requires_grad_()
        # torch's fused attention has no forward-mode derivative
        with sdpa_kernel(SDPBackend.MATH):
            v, dv = parts(f(Dual(x, dx))) if how == "dual" else torch.func.jvp(f, (x,), (dx,))
        # squares, so that what arrives from above depends on both outputs
        grads = torch.autograd.grad((v.square() * 0.3 + v * dv.sin()).sum(), (x, dx))
        found.append((v, dv, *grads))
    for ours, theirs in zip(*found):
        close(ours, theirs, 1e-11)


def test_gradcheck_of_group_norm():
    x, dx, w, b = (randn(2, 6, 3, seed=1), randn(2, 6, 3, seed=2), SCALE.clone(), SHIFT.clone())
    inputs = [k.requires_grad_() for k in (x, dx, w, b)]
    assert torch.autograd.gradcheck(lambda x, dx, w, b: PairGroupNorm.apply(x, dx, 3, w, b, 0.1), inputs)


def test_dropout_drops_value_and_tangent_together():
    x = torch.ones(1000)
    torch.manual_seed(0)
    v, dv = parts(F.dropout(Dual(x, 2 * x), 0.25))
    assert torch.equal(dv, 2 * v) and v.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (v == 0).float().mean() == pytest.approx(0.25, abs=0.05)
    kept = F.dropout(Dual(x, 2 * x), 0.25, training=False)
    assert torch.equal(value_of(kept), x)


def test_what_cannot_be_done_is_refused():
    with pytest.raises(NotImplementedError, match="cannot be changed in place by add_"):
        Dual(X, DX).add_(1)
    with pytest.raises(ValueError, match=r"has its value's shape: \(4, 6, 4, 4\), not \(4,\)"):
        Dual(X, DX[:, 0, 0, 0])
    with pytest.raises(NotImplementedError, match="no mask"):
        F.scaled_dot_product_attention(Dual(Q, K), K, V, is_causal=True)


def test_shapes_and_types_are_the_values():
    x = Dual(X, DX)
    assert x.shape == X.shape and x.dtype == F64 and x.size(1) == 6 and x.dim() == 4 and torch.is_tensor(x)


def unet(*attention: bool, seed: int = 0) -> FlowMap:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        settings = {
            "channels": [8, 16],
            "layers": 1,
            "attention": attention,
            "groups": 4,
            "time_scale": 10.0,
            "dropout": 0.0,
        }
        flow_map = networks.build({"kind": "unet", **settings}, (2, 4, 4)).double()
        torch.nn.init.normal_(flow_map.network.model.conv_out.weight, std=0.1)
    return flow_map


IMAGES, ALONG = randn(3, 2, 4, 4, seed=1), randn(3, 2, 4, 4, seed=2)
S, T = (uniform(3, low=0.0, high=1.0, seed=k) for k in (3, 4))
DS, DT = (randn(3, seed=k) for k in (5, 6))


@pytest.mark.parametrize("attention", [(False, False), (False, True), (True, True)])
def test_the_unets_pushforward_is_the_jvp_with_its_gradients(attention):
    found = []
    for general in (False, True):
        flow_map = unet(*attention)
        how = FlowMap.average_velocity_pushforward if general else type(flow_map).average_velocity_pushforward
        v, dv = how(flow_map, S, T, IMAGES, DS, DT, ALONG)
        grads = torch.autograd.grad((v * dv.sin()).sum(), list(flow_map.parameters()))
        assert all(g.abs().max() > 0 for g in grads[-2:])
        found.append((v, dv, *grads))
    assert found[0][1].abs().max() > 0.1
    for ours, theirs in zip(*found):
        close(ours, theirs, 1e-10)


def test_both_times_matter_and_their_waves_turn_as_fast_as_they_say():
    flow_map = unet(False, True)
    base = flow_map.average_velocity(S, T, IMAGES)
    assert (flow_map.average_velocity(S + 0.1, T + 0.1, IMAGES) - base).abs().max() > 1e-3
    assert (flow_map.average_velocity(S, T + 0.1, IMAGES) - base).abs().max() > 1e-3
    waves = flow_map.network.model.time_proj
    close(waves.frequencies[[0, -1]], torch.tensor([1.0, 10.0], dtype=F64), 1e-6)
    rate = torch.func.jvp(waves, (S,), (torch.ones_like(S),))[1]
    assert rate.abs().max() <= 10.0 + 1e-6


def test_an_untrained_unet_is_the_identity_map():
    flow_map = networks.build(
        {"kind": "unet", "channels": [8], "layers": 1, "attention": [False], "groups": 4, "time_scale": 10.0},
        (1, 4, 4),
    )
    x = IMAGES[:, :1].float()
    assert torch.equal(flow_map.jump(S.float(), T.float(), x), x)


@pytest.mark.parametrize(
    "change, shape, sentence",
    [
        ({}, (2,), r"takes images or latents of shape \(channels, height, width\), not \(2,\)"),
        ({"attention": [True]}, (1, 4, 4), "same number of `block_out_channels` as `down_block_types`"),
        ({}, (1, 5, 4), "5 x 4 is not divisible by 2"),
        ({"groups": 3}, (1, 4, 4), r"num_channels \(\d+\) must be divisible by num_groups"),
    ],
)
def test_a_unet_that_cannot_be_built_is_refused(change, shape, sentence):
    settings = {
        "kind": "unet",
        "channels": [8, 16],
        "layers": 1,
        "attention": [False, False],
        "groups": 4,
        "time_scale": 10.0,
    } | change
    with pytest.raises(ValueError, match=sentence):
        networks.build(settings, shape)


@pytest.mark.parametrize(
    "shape, channels, layers, attention, millions",
    [
        ((3, 32, 32), [256, 256, 256], 3, [False, True, False], 54.7),
        ((3, 64, 64), [128, 256, 384, 512], 3, [False, False, True, True], 124.3),
    ],
)
def test_the_papers_sizes(shape, channels, layers, attention, millions):
    """As large as the follow-up's networks (arXiv 2505.18825.

    54.7M on CIFAR-10, 124.3M on CelebA-64 and AFHQ-64) to 3%.
    """
    with torch.device("meta"):
        network = networks.build(
            {
                "kind": "unet",
                "channels": channels,
                "layers": layers,
                "attention": attention,
                "groups": 32,
                "time_scale": 16.0,
            },
            shape,
        )
    assert sum(p.numel() for p in network.parameters()) / 1e6 == pytest.approx(millions, rel=0.03)


def test_what_is_dropped_follows_from_the_batch():
    """Nothing random stays outside of a checkpoint.

    Equal batches drop equal units, in both passes, and others drop others.
    """
    torch.manual_seed(0)
    settings = {
        "kind": "unet",
        "channels": [8, 16],
        "layers": 1,
        "attention": [False, False],
        "groups": 4,
        "time_scale": 10.0,
        "dropout": 0.5,
    }
    flow_map = networks.build(settings, (1, 8, 8)).train()
    torch.nn.init.normal_(flow_map.network.model.conv_out.weight, std=0.05)
    x, s, t = torch.randn(4, 1, 8, 8), torch.rand(4), torch.rand(4)
    before = torch.random.get_rng_state()
    value = flow_map.average_velocity(s, t, x)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(flow_map.average_velocity(s, t, x), value)
    dual, _ = flow_map.average_velocity_pushforward(
        s, t, x, torch.zeros(4), torch.ones(4), torch.zeros_like(x)
    )
    assert torch.allclose(dual, value, atol=1e-5)
    other = x.clone()
    other[0, 0, 0, 0] += 1e-3
    assert (flow_map.average_velocity(s, t, other)[1:] - value[1:]).abs().max() > 1e-3, (
        "the same units for another batch"
    )
    assert (flow_map.eval().average_velocity(s, t, x) - value).abs().max() > 1e-3, "nothing was dropped"
