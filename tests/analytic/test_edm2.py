"""EDM2's UNet: what keeps its size, what stays on its sphere, its derivative, its sizes as published."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from fewstep import networks
from fewstep.flows.flow_map import FlowMap
from fewstep.networks.edm2 import EDM2, HEAD, LARGEST, Attention, Block, Times, frequencies
from fewstep.networks.forward_mode.dual import Dual, parts
from fewstep.networks.magnitudes import SILU, Layer, concatenated, mixed, silu, unit
from fewstep.settings import networks as sizes_of

F64 = torch.float64
SETTINGS = {"kind": "edm2", "width": 8, "multipliers": [1, 2], "blocks": 1, "attention": [2], "data_std": 0.5}
SHAPE = (2, 8, 8)


def randn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=F64)


def size(x: torch.Tensor) -> float:
    return float(x.detach().square().mean().sqrt())


def lively(seed: int = 0, **changed: object) -> FlowMap:
    """A network in double precision whose gains, which start at zero, are not zero."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        flow_map = networks.build(SETTINGS | changed, SHAPE).double()
        for parameter in flow_map.parameters():
            if parameter.ndim == 0:
                torch.nn.init.normal_(parameter, mean=0.7, std=0.2)
    return flow_map.eval()


S, T = torch.tensor([0.1, 0.3, 0.6], dtype=F64), torch.tensor([0.8, 0.3, 0.9], dtype=F64)
X = 0.5 * randn(3, *SHAPE)


@pytest.mark.parametrize(
    "shape, sizes, published",
    [
        ((3, 32, 32), {"multipliers": [2, 2, 2], "blocks": 4, "attention": [2], "dropout": 0.13}, 54.7),
        ((3, 64, 64), {"multipliers": [1, 2, 3, 4], "blocks": 3, "attention": [4, 8]}, 124.3),
    ],
)
def test_the_papers_networks_have_the_published_number_of_weights(shape, sizes, published):
    with torch.device("meta"):
        network = networks.build({"kind": "edm2", "width": 128, "data_std": 0.5} | sizes, shape)
    assert round(sum(p.numel() for p in network.parameters()) / 1e6, 1) == published


def test_silu_is_over_its_size_on_normal_inputs():
    nodes, weights = np.polynomial.hermite_e.hermegauss(80)
    squared = np.sum(weights * (nodes / (1 + np.exp(-nodes))) ** 2) / math.sqrt(2 * math.pi)
    assert round(math.sqrt(squared), 3) == SILU
    assert torch.equal(silu(X), F.silu(X) / SILU)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.5, 1.0])
def test_sums_and_concatenations_keep_the_size_of_independent_inputs(share):
    # rows of a Hadamard matrix are exactly uncorrelated and of size 1
    rows = torch.tensor([[1.0, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]], dtype=F64)
    a, b = rows[None, :1], rows[None, 1:]
    assert size(mixed(a, b[:, :1], share)) == pytest.approx(1)
    joined = concatenated(a, b, share)
    assert joined.shape == (1, 4, 4) and size(joined) == pytest.approx(1)
    # one channel against three: each input has its share of the squares
    mine = joined[:, :1].square().sum() / joined.square().sum()
    assert float(mine) == pytest.approx((1 - share) ** 2 / ((1 - share) ** 2 + share**2))


@pytest.mark.parametrize("kernel", [None, 1, 3])
def test_a_layer_applies_filters_of_norm_one_whatever_the_length_of_its_weights(kernel):
    torch.manual_seed(0)
    layer = Layer(6, 5, kernel).double()
    shape = (6,) if kernel is None else (6, 4, 4)
    x = randn(2, *shape)
    before = layer(x)
    norms = layer.weight.flatten(1).norm(dim=1).view(-1, *[1] * (layer.weight.ndim - 1))
    plain = (
        F.linear(x, layer.weight / norms)
        if kernel is None
        else F.conv2d(x, layer.weight / norms, padding="same")
    )
    torch.testing.assert_close(before, plain, rtol=2e-4, atol=1e-4)
    torch.testing.assert_close(layer(x, torch.tensor(3.0)), 3 * before)
    with torch.no_grad():
        layer.weight.mul_(7)
    torch.testing.assert_close(layer(x), before, rtol=2e-4, atol=1e-4)


def test_activations_have_size_one_before_training():
    torch.manual_seed(0)
    network, sizes = EDM2((3, 16, 16), 64, [1, 2], 2, [2], 1.0), []
    for block in (*network.encoder, *network.decoder, network.first):
        block.register_forward_hook(lambda _, __, out: sizes.append(size(out)))
    network(torch.rand(8), torch.rand(8), torch.randn(8, 3, 16, 16))
    assert len(sizes) == len(network.encoder) + len(network.decoder) + 1
    # neighbours are not quite independent, which is all that the rules suppose
    assert min(sizes) > 0.8 and max(sizes) < 1.15


def test_times_are_waves_of_size_one():
    times, seen = Times(16, 4), []
    times.layer.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    times(torch.tensor([0.3]))
    (told,) = seen
    assert size(told) == pytest.approx(1, abs=1e-6)
    omega = frequencies(8)
    assert omega[0] == 1 and float(omega[1] / omega[0]) == pytest.approx(10_000 ** (-1 / 8))
    torch.testing.assert_close(told[0, :8], 2**0.5 * torch.cos(0.3 * omega))


def test_the_pushforward_is_the_jvp_with_its_gradients():
    ds, dt, dx = randn(3, seed=3), randn(3, seed=4), randn(3, *SHAPE, seed=5)
    found = []
    for general in (False, True):
        flow_map = lively()
        how = FlowMap.average_velocity_pushforward if general else type(flow_map).average_velocity_pushforward
        v, dv = how(flow_map, S, T, X, ds, dt, dx)
        grads = torch.autograd.grad((v * dv.sin()).sum(), list(flow_map.parameters()))
        found.append((v, dv, *grads))
    assert found[0][1].abs().max() > 0.1 and all(g.abs().max() > 0 for g in found[0])
    for ours, theirs in zip(*found):
        torch.testing.assert_close(ours, theirs, rtol=1e-9, atol=1e-9)


def test_an_untrained_map_is_the_identity_and_both_times_matter_when_trained():
    assert torch.equal(networks.build(SETTINGS, SHAPE).double().jump(S, T, X), X)
    flow_map = lively()
    base = flow_map.average_velocity(S, T, X)
    assert (flow_map.average_velocity(S + 0.1, T + 0.1, X) - base).abs().max() > 1e-3
    assert (flow_map.average_velocity(S, T + 0.1, X) - base).abs().max() > 1e-3


def test_the_layers_are_told_the_start_and_the_gap():
    network, told = lively().network, {}
    for name in ("start", "gap"):
        getattr(network, name).register_forward_pre_hook(lambda _, x, name=name: told.update({name: x[0]}))
    network(S, T, X)
    assert torch.equal(told["start"], S) and torch.equal(told["gap"], T - S)


def test_the_datas_deviation_scales_what_comes_in_and_what_goes_out():
    one, two = lively(data_std=1.0), lively(data_std=2.0)
    torch.testing.assert_close(
        two.average_velocity(S, T, 2 * X), 2 * one.average_velocity(S, T, X), rtol=1e-12, atol=1e-12
    )


def test_attention_is_softmax_of_unit_queries_and_keys():
    torch.manual_seed(0)
    attention, x = Attention(128).double(), randn(2, 128, 3, 2)
    assert attention.heads == 2 and Attention(8).heads == 1
    assert HEAD == sizes_of.HEAD, "settings refuse what a head of the network does not divide"
    q, k, v = unit(attention.qkv(x).reshape(2, 2, 64, 3, 6), (2,)).unbind(3)
    weights = torch.softmax(torch.einsum("nhcq,nhck->nhqk", q, k) / 8, -1)
    y = torch.einsum("nhqk,nhck->nhcq", weights, v).reshape(x.shape)
    torch.testing.assert_close(attention(x), mixed(x, attention.out(y), 0.3))
    torch.testing.assert_close(q.square().mean(2), torch.ones(2, 2, 6, dtype=F64), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("decodes", [False, True])
def test_a_block_is_its_formula(decodes):
    torch.manual_seed(0)
    block = Block(6, 4, 5, decodes).double()
    torch.nn.init.ones_(block.gain)
    x, embedding = 3 * randn(2, 6, 4, 4), randn(2, 5)
    skip = block.skip(x)
    pixels = unit(skip, (1,))
    y = block.first(silu(x if decodes else pixels))
    y = block.second(silu(y * (1 + block.modulation(embedding)[:, :, None, None])))
    torch.testing.assert_close(block(x, embedding), mixed(skip if decodes else pixels, y, 0.3))
    largest = float(block(1e5 * x, embedding).detach().abs().max())
    assert largest == LARGEST if decodes else largest < 10


def test_a_step_leaves_the_sphere_and_the_next_pass_in_training_goes_back():
    flow_map = lively().float().train()
    layers = [m for m in flow_map.modules() if isinstance(m, Layer)]
    s, t, x = S.float(), T.float(), X.float()

    def lengths() -> list[float]:
        return [
            float(m.weight.detach().square().flatten(1).mean(1).sqrt().sub(1).abs().max()) for m in layers
        ]

    flow_map.average_velocity(s, t, x)
    assert max(lengths()) < 1e-3
    optimiser = torch.optim.Adam(flow_map.parameters(), lr=0.1)
    # two passes before one gradient: nothing is written in between
    v, dv = flow_map.average_velocity_pushforward(s, t, x, 0 * s, torch.ones_like(t), 0 * x)
    (v.square().mean() + dv.square().mean() + flow_map.average_velocity(t, t, x).square().mean()).backward()
    for layer in layers:
        # the function does not change with the length of a filter: the gradient is tangential
        along = (layer.weight.grad * layer.weight).flatten(1).sum(1)
        assert along.abs().max() < 1e-3 * layer.weight.grad.norm()
    optimiser.step()
    assert min(lengths()) > 5e-3
    flow_map.eval()
    evaluated = flow_map.average_velocity(s, t, x)
    assert min(lengths()) > 5e-3, "evaluating writes no weights"
    torch.testing.assert_close(flow_map.train().average_velocity(s, t, x), evaluated, rtol=1e-3, atol=1e-3)
    assert max(lengths()) < 1e-3


def test_equal_batches_drop_equal_units():
    flow_map = lively(dropout=0.5).float().train()
    s, t, x = S.float(), T.float(), X.float()
    before = torch.random.get_rng_state()
    value = flow_map.average_velocity(s, t, x)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(flow_map.average_velocity(s, t, x), value)
    dual, _ = flow_map.average_velocity_pushforward(s, t, x, 0 * s, torch.ones_like(t), 0 * x)
    torch.testing.assert_close(dual, value, rtol=1e-4, atol=1e-5)
    assert (flow_map.eval().average_velocity(s, t, x) - value).abs().max() > 1e-3, "nothing was dropped"


def test_sizes_are_taken_in_single_precision():
    # the squares are beyond half precision
    x = (300 + randn(2, 6, 4, 4)).half()
    torch.testing.assert_close(unit(x, (1,)).float(), unit(x.float(), (1,)), rtol=1e-2, atol=1e-2)
    value, tangent = parts(unit(Dual(x, x), (1,)))
    assert value.dtype == tangent.dtype == torch.float16


@pytest.mark.parametrize(
    "change, shape, sentence",
    [
        ({}, (2,), r"an edm2 takes images or latents of shape \(channels, height, width\), not \(2,\)"),
        ({}, (1, 5, 4), "2 levels of an edm2 halve the image 1 times: 5 x 4 is not divisible by 2"),
        ({"width": "wide"}, SHAPE, "are no settings of a network"),
    ],
)
def test_a_network_that_cannot_be_built_is_refused(change, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        networks.build(SETTINGS | change, shape)
