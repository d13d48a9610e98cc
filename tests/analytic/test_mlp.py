"""The network's own forward-mode pass: against torch.func.jvp, central differences and gradcheck."""

from __future__ import annotations

from math import pi, sqrt

import pytest
import torch

from fewstep.flows.flow_map import FlowMap
from fewstep.networks import build
from fewstep.networks.forward_mode.perceptron import ACTIVATIONS, pair, value
from fewstep.networks.mlp import MLP

from .exact import F64, central, close, gradient, randn, random_network, uniform

S, T = (uniform(9, low=0.0, high=1.0, seed=k) for k in (1, 2))
X, DX = (randn(9, 2, seed=k) for k in (3, 4))
DS, DT = (randn(9, seed=k) for k in (5, 6))
EACH = pytest.mark.parametrize("activation", ACTIVATIONS)
PLAIN = {
    "kind": "mlp",
    "width": 8,
    "depth": 2,
    "activation": "gelu",
    "frequencies": [],
    "time_frequencies": [],
}
# x Phi(x) by its definition, and x sigmoid(x)
EXACT = {"gelu": lambda h: h * (1 + torch.erf(h / sqrt(2))) / 2, "silu": lambda h: h / (1 + torch.exp(-h))}


def own(flow_map, *at):
    return flow_map.average_velocity_pushforward(*at)


def general(flow_map, *at):
    """The same from torch.func.jvp, which is FlowMap's default."""
    return FlowMap.average_velocity_pushforward(flow_map, *at)


@EACH
def test_forward_is_a_perceptron_on_waves(activation):
    network = random_network(activation=activation).network
    time = torch.stack([S, T], 1)
    # the waves' columns: k = 1, 2 on each coordinate of x, then k = 1 on s and on t
    angle = pi * torch.cat([X, 2 * X, time], 1)
    h = torch.cat([sqrt(3) * X, 2 * time - 1, angle.sin(), angle.cos()], 1)
    for layer in network.layers:
        h = EXACT[activation](h @ layer.weight.T + layer.bias)
    # the waves are stored in float32 before they are widened
    close(network(S, T, X), h @ network.out.weight.T + network.out.bias, 1e-5)


@EACH
def test_the_derivatives_of_the_activation(activation):
    h, own = torch.linspace(-6, 6, 101, dtype=F64), ACTIVATIONS[activation]
    slope = torch.func.vmap(torch.func.grad(EXACT[activation]))
    y, first, again = own.with_slope(h)
    close(y, EXACT[activation](h), 1e-14)
    close(first, slope(h), 1e-14)
    close(own.bend(h, y, first, again), central(slope, h), 1e-8)
    g = randn(101, seed=1)
    close(own.backward(g, h, grad_input=torch.empty_like(g)), slope(h) * g, 1e-14)


@EACH
def test_the_pushforward_is_the_jvp(activation):
    flow_map = random_network(activation=activation)
    found, exact = (how(flow_map, S, T, X, DS, DT, DX) for how in (own, general))
    close(found[0], exact[0], 1e-13)
    close(found[1], exact[1], 1e-13)
    assert exact[1].abs().max() > 0.1


@EACH
@pytest.mark.parametrize("value, tangent", [(1.0, 0.0), (0.0, 1.0), (1.0, 1.0)])
def test_the_pushforward_has_the_jvps_gradients(value, tangent, activation):
    """In the parameters and in (s, t, x) and their directions, through v, through dv and through both."""
    weight = randn(9, 2, seed=8), randn(9, 2, seed=9)
    found = []
    for how in (own, general):
        flow_map = random_network(activation=activation)
        inputs = [k.clone().requires_grad_() for k in (S, T, X, DS, DT, DX)]
        v, dv = how(flow_map, *inputs)
        # the square makes the gradient that arrives depend on the output
        loss = value * (v * weight[0]).sum(1) ** 2 + tangent * (dv * weight[1]).sum(1) ** 2
        to_inputs = torch.autograd.grad(
            loss.sum(), inputs, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        found.append((gradient(loss, flow_map), torch.cat([k.flatten() for k in to_inputs])))
    close(found[0][0], found[1][0], 1e-12)
    close(found[0][1], found[1][1], 1e-12)
    assert found[1][0].abs().max() > 1e-2


@EACH
def test_gradcheck_of_the_whole_pushforward(activation):
    network = random_network(activation=activation).network
    inputs = [k[:3].clone().requires_grad_() for k in (S, T, X, DS, DT, DX)]
    assert torch.autograd.gradcheck(lambda *at: network.pushforward(*at), inputs)


def perceptron_of(*sizes: int, dtype=F64) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """Random layers, all of different widths: a transposed product cannot pass."""
    parts = zip(sizes, sizes[1:])
    return [
        (randn(b, a, seed=a).to(dtype).requires_grad_(), randn(b, seed=b).to(dtype).requires_grad_())
        for a, b in parts
    ]


def plain(x, layers, activation):
    """The perceptron as its formula."""
    for weight, bias in layers[:-1]:
        x = EXACT[activation](x @ weight.T + bias)
    return x @ layers[-1][0].T + layers[-1][1]


@EACH
def test_gradcheck_of_the_layers(activation):
    layers, x, dx = (
        perceptron_of(4, 3, 5, 2),
        randn(6, 4, seed=1).requires_grad_(),
        randn(6, 4, seed=2).requires_grad_(),
    )
    flat = [k for layer in layers for k in layer]

    def group(ws):
        return list(zip(ws[::2], ws[1::2]))

    assert torch.autograd.gradcheck(lambda x, *ws: value(x, group(ws), ACTIVATIONS[activation]), (x, *flat))
    assert torch.autograd.gradcheck(
        lambda x, dx, *ws: pair(x, dx, group(ws), ACTIVATIONS[activation]), (x, dx, *flat)
    )


@EACH
def test_single_precision_products_agree_with_the_formula(activation):
    """In float32 the products take another road."""
    layers, x, dx = (
        perceptron_of(7, 33, 20, 2, dtype=torch.float32),
        randn(50, 7, seed=1).float(),
        randn(50, 7, seed=2).float(),
    )
    v, dv = pair(x, dx, layers, ACTIVATIONS[activation])
    close(value(x, layers, ACTIVATIONS[activation]), v, 1e-5)
    exact = [(w.double(), b.double()) for w, b in layers]
    truth, along = torch.func.jvp(lambda x: plain(x, exact, activation), (x.double(),), (dx.double(),))
    flat = [k for layer in layers for k in layer]
    # in float32 sums of hundreds of terms of either sign agree relative to their largest
    for ours, theirs in ((v, truth), (dv, along)):
        found = torch.autograd.grad(
            (ours * ours.detach()).sum(), flat, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        known = torch.autograd.grad(
            (theirs * theirs.detach()).sum(),
            flat,
            retain_graph=True,
            allow_unused=True,
            materialize_grads=True,
        )
        for one, other in zip([ours, *found], [theirs, *known]):
            assert (one - other).abs().max() <= 2e-5 * other.abs().max() + 1e-30


def test_values_without_gradients_are_the_same_numbers():
    layers, x = perceptron_of(4, 8, 2, dtype=torch.float32), randn(6, 4, seed=1).float()
    with torch.no_grad():
        found = value(x, layers, ACTIVATIONS["silu"])
    assert not found.requires_grad and torch.equal(found, value(x, layers, ACTIVATIONS["silu"]))


def test_a_second_derivative_is_refused_not_wrong():
    layers, x = perceptron_of(4, 8, 2), randn(6, 4, seed=1).requires_grad_()
    first = torch.autograd.grad(value(x, layers, ACTIVATIONS["silu"]).sum(), x, create_graph=True)[0]
    with pytest.raises(RuntimeError, match="differentiate twice|does not require grad"):
        first.sum().backward()
    # torch.func goes another way, and may differentiate as often as it likes
    twice = torch.func.hessian(lambda x: value(x[None], layers, ACTIVATIONS["silu"]).sum())(x[0].detach())
    assert twice.shape == (4, 4) and twice.abs().max() > 0


def test_an_untrained_network_is_the_identity_map_and_learns():
    flow_map = build(PLAIN, (2,)).double()
    assert torch.equal(flow_map.jump(S, T, X), X)
    v, _ = flow_map.average_velocity_pushforward(S, T, X, DS, DT, DX)
    assert gradient((v - X).square().sum(1), flow_map).abs().max() > 0


def test_features_have_unit_size_on_data_of_unit_size():
    """The scales are chosen for x uniform on [-1, 1] and times uniform on [0, 1].

    Means 0, deviations of about 1.
    """
    network = MLP((1,), 4, 1, "silu", [], []).double()
    grid = torch.linspace(0, 1, 2001, dtype=F64)
    features = network._features(torch.stack([2 * grid - 1, grid, grid], 1))
    close(features.mean(0), torch.zeros(3, dtype=F64), 1e-6)
    close(features.std(0), torch.tensor([1.0, 2 / sqrt(12), 2 / sqrt(12)], dtype=F64), 2e-3)


def test_build_refuses_what_it_cannot_make():
    with pytest.raises(ValueError, match="there is no network 'unet3'"):
        build({"kind": "unet3"}, (2,))
    with pytest.raises(ValueError, match=r"points of shape \(dim,\)"):
        build(PLAIN, (3, 8, 8))
