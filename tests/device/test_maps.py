"""On a device as on the CPU: every network with its derivative, every objective, every sampler."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from fewstep import networks, objectives
from fewstep.flows import sampler_names, samplers
from fewstep.flows.conditioning import Conditions, conditioned
from fewstep.flows.flow_map import FlowMap
from fewstep.training import precision

from ..tolerances import DIFFERENCES, OF_DIFFERENCES, ON_DEVICE
from .maps import F64, SMALL, batch, captions, gradient, moved, off, twice

pytestmark = pytest.mark.cuda
EXACT = ON_DEVICE["fp32"]
# one with a number for each kind that takes one
SAMPLERS = [*sampler_names.CALLS, *(f"{kind}0.5" for kind in sampler_names.MOST)]


@pytest.fixture(autouse=True)
def single(smoke) -> Iterator[None]:
    """Products in single precision: torch's own default lets a GPU's convolutions have less."""
    training = smoke.experiment("fmm-checkerboard").training.model_copy(update={"precision": "fp32"})
    with precision.products(training):
        yield


def with_captions(kind: str, flow_map: FlowMap, to: str | torch.dtype) -> FlowMap:
    """`flow_map`, conditioned on captions if its network takes some, of which the first counts as empty."""
    if "width" not in SMALL[kind][1] or not kind.endswith("_unet"):
        return flow_map
    texts = captions()
    texts = texts.to(to) if isinstance(to, str) else Conditions(texts.hidden.to(to), texts.mask)
    return conditioned(flow_map, texts, texts.part(0, 1))


@pytest.mark.parametrize("kind", networks.kinds())
def test_a_network_and_its_derivative_in_time(device, kind):
    found = []
    for flow_map, to in zip(twice(kind, device), (device, F64)):
        given, drawn = with_captions(kind, flow_map, to), moved(batch(SMALL[kind][0]), to)
        one = torch.ones_like(drawn.s)
        v, dv = given.average_velocity_pushforward(drawn.s, drawn.t, drawn.x0, 0 * one, one, 0 * drawn.x0)
        assert v.device.type == (device if to == device else "cpu")
        found.append((v, dv, gradient(v.square().mean() + dv.square().mean(), flow_map)))
    (v, dv, slope), (exact_v, exact_dv, exact_slope) = found
    assert exact_dv.norm() > 0.01 * exact_v.norm(), "a derivative of nothing would compare with nothing"
    assert off(v, exact_v) < EXACT.value and off(dv, exact_dv) < EXACT.value
    assert off(slope, exact_slope) < EXACT.gradient


@pytest.mark.parametrize("name", objectives.names())
def test_an_objective_and_its_gradient(device, name):
    found = []
    for student, teacher, to in zip(twice("mlp", device, 0), twice("mlp", device, 1), (device, F64)):
        residual = objectives.bind(name, {}, teacher if objectives.needs_teacher(name) else None)
        values = residual(student, moved(batch((2,), 32), to))
        found.append((values, gradient(values.mean(), student)))
    (values, slope), (exact, exact_slope) = found
    assert values.shape == (32,) and exact.norm() > 0 and exact_slope.norm() > 0
    within = OF_DIFFERENCES if name in DIFFERENCES else EXACT
    assert off(values, exact) < within.value and off(slope, exact_slope) < within.gradient


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_sampler(device, name):
    kind = "text_unet" if name.startswith(sampler_names.GUIDED) else "mlp"
    # fresh noise is drawn on the CPU, other numbers in double precision; step control may step otherwise
    fresh = name == "adaptive" or name.startswith(
        (sampler_names.STOCHASTIC, sampler_names.RENOISED, sampler_names.SDE)
    )
    dtype, found = torch.float32 if fresh else F64, []
    x0 = batch(SMALL[kind][0]).x0
    for flow_map, to in zip(twice(kind, device, dtype=dtype), (device, dtype)):
        move = samplers.named(name, torch.Generator().manual_seed(5), 1.0)
        found.append(move(with_captions(kind, flow_map, to), x0.to(to), 3))
    assert found[0].points.device.type == device and found[0].nfe == found[1].nfe
    assert off(found[1].points, x0) > 0.01, "nothing moved"
    assert off(found[0].points, found[1].points) < EXACT.value
