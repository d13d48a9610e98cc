"""At the true flow map: distillation's residuals vanish sample by sample, direct training's in conditional
mean.

The second kind is checked through the expected gradient in a parameter theta that perturbs the true map, with
the expectation taken exactly, by Gauss-Hermite quadrature over (x0, x1) and z at fixed s and t.
"""

from __future__ import annotations

import pytest
import torch

from fewstep.flows.flow_map import EulerMap
from fewstep.flows.interpolants import INTERPOLANTS
from fewstep.objectives.common import squared_norm
from fewstep.objectives.consistency import consistency
from fewstep.objectives.emd import emd
from fewstep.objectives.esd import esd
from fewstep.objectives.eulerian import eulerian
from fewstep.objectives.fmm import fmm
from fewstep.objectives.imeanflow import imeanflow
from fewstep.objectives.lmd import lmd
from fewstep.objectives.lsd import lsd
from fewstep.objectives.meanflow import meanflow
from fewstep.objectives.pfmm import pfmm
from fewstep.objectives.psd import psd
from fewstep.objectives.si import si

from .exact import BUMPS, Perturbed, batch_of, close, hermite_batch, line, vector

# Distillation and self-distillation: zero, sample by sample -----------------------------------------------

PER_SAMPLE = {
    "lmd": lambda student, batch, world: lmd(student, batch, world, "full"),
    "lmd semi": lambda student, batch, world: lmd(student, batch, world, "semi"),
    "lmd value": lambda student, batch, world: lmd(student, batch, world, "value"),
    "emd": lambda student, batch, world: emd(student, batch, world, "full"),
    "emd semi": lambda student, batch, world: emd(student, batch, world, "semi"),
    "consistency": lambda student, batch, world: consistency(student, batch, world),
    "pfmm 1": lambda student, batch, world: pfmm(student, batch, world, 1),
    "pfmm 2": lambda student, batch, world: pfmm(student, batch, world, 2),
    "pfmm 5": lambda student, batch, world: pfmm(student, batch, world, 5),
    "lsd": lambda student, batch, world: lsd(student, batch),
    "esd": lambda student, batch, world: esd(student, batch),
    "psd-m": lambda student, batch, world: psd(student, batch, split="midpoint"),
    "psd-u": lambda student, batch, world: psd(student, batch, split="uniform"),
}
EACH = pytest.mark.parametrize("residual", PER_SAMPLE.values(), ids=PER_SAMPLE)
STRIPS = pytest.mark.parametrize("strip", [None, 0.15], ids=["square", "strip"])


@EACH
@STRIPS
def test_the_residual_of_the_true_map_is_zero(world, residual, strip):
    batch = batch_of(world, strip=strip)
    assert strip is None or (batch.t - batch.s).abs().max() <= strip
    assert residual(world, batch, world).max() < 1e-16


@EACH
@STRIPS
@pytest.mark.parametrize("bump", BUMPS)
def test_the_residual_of_another_map_is_not(world, residual, strip, bump):
    batch = batch_of(world, strip=strip)
    found = residual(Perturbed(world, BUMPS[bump], 0.1), batch, world)
    assert found.shape == batch.s.shape
    assert found.mean() > (1e-7 if strip else 1e-6)


def test_euler_steps_approach_the_true_map(world):
    """PFMM's first teacher: with K Euler steps the true map's residual, a square, falls as K^-2."""
    batch = batch_of(world, strip=0.3)
    few, many = (pfmm(world, batch, EulerMap(world), jumps=k).mean() for k in (8, 16))
    assert 3.3 < few / many < 4.7


# Direct training: zero in expectation ---------------------------------------------------------------------

DIRECT = {
    "si": si,
    "fmm": fmm,
    "fmm without invertibility": lambda student, batch: fmm(student, batch, invertibility=0.0),
    "eulerian": eulerian,
    "eulerian with invertibility": lambda student, batch: eulerian(student, batch, invertibility=1.0),
    "meanflow": meanflow,
    "imeanflow": imeanflow,
}
# both directions, the whole interval, two on a strip, and the diagonal
TIMES = [(0.2, 0.7), (0.9, 0.3), (0.0, 1.0), (0.5, 0.55), (0.62, 0.52), (0.4, 0.4)]
LINES = pytest.mark.parametrize("interpolant", INTERPOLANTS)


def expected_gradient(residual, interpolant: str, bump: str, theta: float, times) -> torch.Tensor:
    """d/dtheta of the expected residual at fixed (s, t), exactly."""
    world = line(interpolant)
    student = Perturbed(world, BUMPS[bump], theta)
    batch, weight = hermite_batch(world, *times)
    return torch.autograd.grad((weight * residual(student, batch)).sum(), student.theta)[0]


@LINES
@pytest.mark.parametrize("bump", BUMPS)
@pytest.mark.parametrize("residual", DIRECT.values(), ids=DIRECT)
def test_the_expected_gradient_vanishes_at_the_true_map_and_only_there(residual, interpolant, bump):
    for times in TIMES:
        assert expected_gradient(residual, interpolant, bump, 0.0, times).abs() < 1e-8, times
        assert expected_gradient(residual, interpolant, bump, 0.3, times) > 0.02, times
        assert expected_gradient(residual, interpolant, bump, -0.3, times) < -0.02, times


@LINES
@pytest.mark.parametrize("residual", [si, fmm, eulerian, meanflow, imeanflow])
def test_the_noise_that_direct_residuals_keep_at_the_true_map(interpolant, residual):
    """The conditional variance of dI given I, the least that a velocity loss can reach; MeanFlow's is carried
    from s to t by the true map, whose slope is sqrt(c_t / c_s), and improved MeanFlow's is not."""
    world = line(interpolant)
    for s, t in TIMES:
        batch, weight = hermite_batch(world, s, t)
        c = world.interpolant.coefficients(vector(s, t))
        spread = c.d_alpha**2 * world.c0[0] + c.d_beta**2 * world.c1[0] + c.d_gamma**2
        total = c.alpha**2 * world.c0[0] + c.beta**2 * world.c1[0] + c.gamma**2
        cross = c.alpha * c.d_alpha * world.c0[0] + c.beta * c.d_beta * world.c1[0] + c.gamma * c.d_gamma
        variance = spread - cross**2 / total
        floors = {meanflow: variance[0] * total[1] / total[0], imeanflow: variance[0]}
        floor = floors.get(residual, variance[1])
        close((weight * residual(world, batch)).sum(), floor, 1e-9)


# The index order of the Eulerian estimator ------------------------------------------------------------------


def eulerian_in_the_end_time(student, batch):
    """The Eulerian estimator with its time derivative in the wrong time: the end of X_{t,s}, not its
    start."""
    path = batch.at(batch.t)
    back = student.jump_dt(batch.t, batch.s, path.point)
    there = student.jump_along(batch.s, batch.t, back.point, back.tangent)
    return squared_norm(there.tangent + path.velocity)


@LINES
def test_the_eulerian_estimator_differentiates_the_start_time(interpolant):
    wrong = [
        expected_gradient(eulerian_in_the_end_time, interpolant, "shift", 0.0, times).abs() for times in TIMES
    ]
    assert min(wrong) > 0.05
