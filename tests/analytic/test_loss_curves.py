"""The short trainings of docs/losses.md, from their seeds: a small MLP on the page's Gaussian world.

float64, so that 200 steps end where the page says on another machine too.
"""

from __future__ import annotations

import pytest
import torch

from fewstep.flows.flow_map import NetworkFlowMap
from fewstep.flows.interpolants import Batch
from fewstep.flows.times import Times
from fewstep.networks.mlp import MLP
from fewstep.objectives import bind

from .exact import F64, seeded
from .floors import GAUSSIAN, REGIONS, at_zero_and_one, euler_end
from .test_loss_floors import table

STEPS, EARLY, COUNT = 200, 50, 128
# objective, its options, and whether the velocity loss trains the diagonal beside it
RUNS = {
    "si": ("si", {}, False),
    "lmd": ("lmd", {}, False),
    "emd, full": ("emd", {"gradient": "full"}, False),
    "emd, semi": ("emd", {"gradient": "semi"}, False),
    "fmm": ("fmm", {}, False),
    "eulerian": ("eulerian", {"invertibility": 1.0}, False),
    "pfmm": ("pfmm", {}, False),
    "lsd": ("lsd", {}, True),
    "esd, full": ("esd", {"gradient": "full"}, True),
    "esd, semi": ("esd", {"gradient": "semi"}, True),
    "psd": ("psd", {}, True),
    "consistency": ("consistency", {}, False),
    "meanflow": ("meanflow", {}, False),
    "reflow": ("reflow", {}, False),
    "lmd, value": ("lmd", {"gradient": "value"}, False),
    "consistency, normalised": ("consistency", {"normalise": 0.1, "warmup": 0.25}, False),
    "imeanflow": ("imeanflow", {}, False),
    "contrastive": ("contrastive", {}, False),
    "velocity_consistency": ("velocity_consistency", {"delta": 0.05}, False),
    "discrete_consistency": ("discrete_consistency", {}, False),
    "consistency_training": ("consistency_training", {}, False),
    "ctm": ("ctm", {}, False),
    "imm": ("imm", {}, False),
}


# the Euler steps after which a velocity is compared with the exact map
EULER = {"si": 32, "contrastive": 32, "velocity_consistency": 2}


def draw(region: str, generator: torch.Generator, progress: float, count: int = COUNT) -> Batch:
    x0, x1 = GAUSSIAN.sample(count, generator)
    uniform = torch.rand(4, count, generator=generator, dtype=F64)
    return Batch(x0, x1, *Times(region).draw(uniform[:3]), uniform[3], progress=progress)


def map_error(name: str, student: NetworkFlowMap) -> float:
    """E|X_{0,1}(x0) - exact|^2; of a velocity that of its Euler solution, of `reflow` in one step to the
    solution it learns from."""
    x0, _ = GAUSSIAN.sample(1000, seeded(9))
    zero, one = at_zero_and_one(len(x0))
    with torch.no_grad():
        if name in EULER:
            found, exact = euler_end(student, x0, EULER[name]), GAUSSIAN.jump(zero, one, x0)
        elif name == "reflow":
            found, exact = euler_end(student, x0, 1), euler_end(GAUSSIAN, x0, 8)
        else:
            found, exact = student.jump(zero, one, x0), GAUSSIAN.jump(zero, one, x0)
        return (found - exact).square().sum(1).mean().item()


def train(run: str) -> list[float]:
    """The objective's mean over step 0, steps 40..59 and the last 50; the map's error after 50 and all."""
    name, options, beside = RUNS[run]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        student = NetworkFlowMap(MLP((2,), 32, 2, "silu", frequencies=[], time_frequencies=[1.0]).double())
    residual, velocity = bind(name, options, GAUSSIAN), bind("si", {}, None)
    optimiser, generator = torch.optim.Adam(student.parameters(), lr=5e-3), seeded(1)
    values, errors = [], []
    for step in range(STEPS):
        own = residual(student, draw(REGIONS.get(name, "forward"), generator, step / STEPS)).mean()
        loss = own + velocity(student, draw("diagonal", generator, step / STEPS)).mean() if beside else own
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        values.append(own.item())
        if step + 1 in (EARLY, STEPS):
            errors.append(map_error(name, student))
    parts = (values[:1], values[EARLY - 10 : EARLY + 10], values[-50:])
    return [sum(part) / len(part) for part in parts] + errors


@pytest.mark.parametrize("run", RUNS)
def test_the_page_states_the_short_training(run):
    stated = [float(cell) for cell in table("training")[run]]
    assert train(run) == pytest.approx(stated, rel=0.03, abs=2e-4)


def test_every_training_has_a_row():
    assert set(table("training")) == set(RUNS)
