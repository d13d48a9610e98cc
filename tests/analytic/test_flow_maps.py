"""FlowMap's derivatives for a network: against central differences of the jump and against torch.func.jvp."""

from __future__ import annotations

import pytest
import torch

from fewstep.flows.flow_map import EulerMap, FlowMap, NetworkFlowMap

from .exact import Opaque, central, close, randn, random_network, uniform

COUNT = 24
S, T = (uniform(COUNT, low=0.0, high=1.0, seed=k) for k in (1, 2))
X, DX = (randn(COUNT, 2, seed=k) for k in (3, 4))
DS, DT = (randn(COUNT, seed=k) for k in (5, 6))
ZERO, ONE = torch.zeros(COUNT, dtype=S.dtype), torch.ones(COUNT, dtype=S.dtype)


@pytest.fixture(params=["own pushforward", "torch.func.jvp"])
def flow_map(request):
    network = random_network().network
    return NetworkFlowMap(network if request.param == "own pushforward" else Opaque(network))


def along(flow_map, ds, dt, dx):
    """The derivative of the jump along (ds, dt, dx) by central differences."""
    return central(lambda h: flow_map.jump(S + h * ds, T + h * dt, X + h[:, None] * dx), torch.zeros_like(S))


def test_a_jump_of_no_length_is_the_identity(flow_map):
    assert torch.equal(flow_map.jump(S, S, X), X)


def test_the_jump_is_the_point_plus_time_times_average_velocity(flow_map):
    close(flow_map.jump(S, T, X), X + (T - S)[:, None] * flow_map.network(S, T, X), 1e-15)


def test_the_velocity_is_the_diagonal_and_the_limit_of_both_time_derivatives(flow_map):
    velocity = flow_map.velocity(T, X)
    close(velocity, flow_map.average_velocity(T, T, X), 1e-15)
    close(velocity, central(lambda end: flow_map.jump(T, end, X), T), 1e-8)
    close(velocity, flow_map.jump_dt(T, T, X).tangent, 1e-14)
    close(-velocity, flow_map.jump_ds(T, T, X).tangent, 1e-14)


@pytest.mark.parametrize(
    "derivative, direction",
    [
        (lambda m: m.pushforward(S, T, X, DS, DT, DX), (DS, DT, DX)),
        (lambda m: m.jump_dt(S, T, X), (ZERO, ONE, 0 * X)),
        (lambda m: m.jump_ds(S, T, X), (ONE, ZERO, 0 * X)),
        (lambda m: m.jump_along(S, T, X, DX), (ZERO, ZERO, DX)),
        (lambda m: m.jump_following(S, T, X, DX), (ONE, ZERO, DX)),
    ],
    ids=["pushforward", "jump_dt", "jump_ds", "jump_along", "jump_following"],
)
def test_each_derivative_of_the_jump(flow_map, derivative, direction):
    found = derivative(flow_map)
    close(found.point, flow_map.jump(S, T, X), 1e-14)
    close(found.tangent, along(flow_map, *direction), 1e-8)
    close(found.tangent, torch.func.jvp(flow_map.jump, (S, T, X), direction)[1], 1e-13)


def test_images_are_points_too():
    class Image(FlowMap):
        def average_velocity(self, s, t, x):
            return torch.sin(x) * (s + 2 * t)[:, None, None, None]

    x, dx = randn(COUNT, 3, 4, 4, seed=7), randn(COUNT, 3, 4, 4, seed=8)
    found = Image().pushforward(S, T, x, DS, DT, dx)
    exact = torch.func.jvp(Image().jump, (S, T, x), (DS, DT, dx))
    close(found.point, exact[0], 1e-14)
    close(found.tangent, exact[1], 1e-13)


def test_an_euler_map_is_one_euler_step(flow_map):
    euler = EulerMap(flow_map)
    close(euler.jump(S, T, X), X + (T - S)[:, None] * flow_map.velocity(S, X), 1e-15)
    close(euler.velocity(T, X), flow_map.velocity(T, X), 1e-15)


def test_a_flow_map_must_say_its_average_velocity():
    with pytest.raises(NotImplementedError, match="FlowMap must define average_velocity"):
        FlowMap().jump(S, T, X)
