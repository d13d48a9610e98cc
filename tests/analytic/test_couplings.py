"""Couplings of noise and data, and autoguided velocities, in Gaussian worlds: exact costs and divergences."""

from __future__ import annotations

from dataclasses import fields

import pytest
import torch

from fewstep.flows.conditioning import Autoguided
from fewstep.flows.couplings import divergence, encoded, regenerated, spread
from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.interpolants import LINEAR, Batch
from fewstep.flows.samplers import euler
from fewstep.networks.noise_encoder import NoiseEncoder

from .exact import F64, batch_of, close, randn, seeded, uniform, vector

ALL = torch.arange(64)


def isotropic(scale: float, data: float) -> GaussianFlow:
    eye = torch.eye(2, dtype=F64)
    return GaussianFlow(vector(0, 0), scale**2 * eye, vector(0.4, -0.3), data * eye, LINEAR)


@pytest.mark.parametrize("share", [1.0, 0.5, 0.3, 1 / 3, 0.01])
@pytest.mark.parametrize("parts", [1, 4])
def test_a_share_is_spread_evenly_and_is_the_same_however_the_batch_is_cut(share, parts):
    count = 600
    whole = spread(0, count, share).tolist()
    assert abs(len(whole) - share * count) < 1
    size, found = count // parts, []
    for start in range(0, count, size):
        found += [start + k for k in spread(start, size, share).tolist()]
        assert abs(len(spread(start, size, share)) - share * size) < 1
    assert found == whole


def test_regenerated_data_are_what_the_map_makes_and_all_else_stays(world):
    batch, rows = batch_of(world), spread(0, 64, 0.5)
    found = regenerated(batch, rows, world)
    for name in (field.name for field in fields(batch) if field.name != "x1"):
        assert getattr(found, name) is getattr(batch, name), name
    kept = [k for k in range(64) if k not in rows.tolist()]
    assert torch.equal(found.x1[kept], batch.x1[kept])
    ends = world.jump(batch.s, torch.ones_like(batch.s), batch.at(batch.s).point)
    close(found.x1[rows], ends[rows], 1e-12)
    assert regenerated(batch, rows[:0], world) is batch


def test_regenerated_data_carry_no_gradient_and_leave_the_batch_alone(student, batch):
    before = batch.x1.clone()
    found = regenerated(batch, torch.arange(16), student)
    assert not found.x1.requires_grad and torch.equal(batch.x1, before)
    assert not torch.equal(found.x1, before)


@pytest.mark.parametrize("scale, data", [(1.0, 1.0), (0.6, 2.0)])
def test_regenerated_data_lie_nearer_to_their_noise_by_the_closed_form(scale, data):
    """x1' = X_{s,1}(I_s) has the data's law and, a dimension, covariance sqrt(r / V_s) (1 - s) scale^2 with
    x0, so the cost E|x1' - x0|^2 falls by twice that from the independent one."""
    world, count = isotropic(scale, data), 200_000
    x0, x1 = world.sample(count, seeded(3))
    for time in (0.0, 0.3, 0.8):
        s = torch.full((count,), time, dtype=F64)
        own = regenerated(Batch(x0, x1, s, s, s), torch.arange(count), world).x1
        spread_at = (1 - time) ** 2 * scale**2 + time**2 * data
        covariance = (data / spread_at) ** 0.5 * (1 - time) * scale**2
        independent = 2 * (scale**2 + data) + 0.25
        assert float((x1 - x0).square().sum(1).mean()) == pytest.approx(independent, rel=0.01)
        found = float((own - x0).square().sum(1).mean())
        assert found == pytest.approx(independent - 4 * covariance, rel=0.02, abs=0.02)
        assert found < independent - 0.1
        assert float(own.var(0).mean()) == pytest.approx(data, rel=0.01)


def test_the_divergence_is_the_closed_form_and_that_of_torch():
    mean, log_variance = randn(8, 3, seed=1), randn(8, 3, seed=2)
    own = torch.distributions.Normal(mean, torch.exp(log_variance / 2))
    base = torch.distributions.Normal(torch.zeros_like(mean), torch.ones_like(mean))
    close(divergence(mean, log_variance), torch.distributions.kl_divergence(own, base).sum(1), 1e-12)
    images = randn(2, 3, 4, 4, seed=3)
    assert divergence(images, images).shape == (2,)
    assert not divergence(0 * mean, 0 * mean).any()


def test_encoded_noise_has_the_encoders_mean_and_deviation():
    count, scale = 200_000, 1.7
    x0, mean, log_variance = scale * randn(count, 2, seed=4), vector(0.5, -1.0), vector(-1.0, 0.3)
    time = uniform(count, low=0, high=1, seed=5)
    batch = Batch(x0, 0 * x0, time, time, time)
    found = encoded(batch, mean.expand(count, 2), log_variance.expand(count, 2), scale)
    close(found.x0.mean(0), scale * mean, 0.02)
    close(found.x0.std(0), scale * torch.exp(log_variance / 2), 0.01)
    assert found.x1 is batch.x1 and found.s is batch.s and found.t is batch.t
    assert torch.equal(encoded(batch, 0 * x0, 0 * x0, scale).x0, x0), "at zero it is the independent coupling"


@pytest.mark.parametrize("shape", [(2,), (3, 8, 8)])
def test_an_untrained_encoder_is_the_independent_coupling(shape):
    torch.manual_seed(0)
    mean, log_variance = NoiseEncoder(shape)(torch.randn(4, *shape))
    assert mean.shape == log_variance.shape == (4, *shape) and not mean.any() and not log_variance.any()
    with pytest.raises(ValueError, match=r"points \(dim,\) or images \(channels, h, w\), not \(4, 4\)"):
        NoiseEncoder((4, 4))


# Autoguidance ----------------------------------------------------------------------------------------------


def test_an_autoguided_velocity_leads_away_from_the_weak_one(world):
    weak = GaussianFlow(world.m0, world.c0, world.m1 + 0.5, world.c1, world.interpolant)
    t, x = uniform(20, low=0, high=1, seed=1), randn(20, 3, seed=2)
    strong, bad = world.velocity(t, x), weak.velocity(t, x)
    close(Autoguided(world, weak, 2.5).velocity(t, x), strong + 1.5 * (strong - bad), 1e-12)
    assert torch.equal(Autoguided(world, weak, 1.0).velocity(t, x), strong)
    with pytest.raises(NotImplementedError, match="a velocity and no map: take its `velocity`"):
        Autoguided(world, weak, 2.0).jump(t, t, x)


@pytest.mark.parametrize("scale", [1.0, 2.0, 3.0])
def test_autoguidance_narrows_a_gaussian_by_the_closed_form(scale):
    """Between N(0, 1) and N(0, r) the velocity's slope is V'_t / (2 V_t): the log-variance of what flows
    along w b + (1 - w) b' ends at w log r + (1 - w) log r'. A wider weak teacher narrows it."""
    strong, weak = (
        GaussianFlow(vector(0), vector(1)[None], vector(0), vector(data)[None], LINEAR) for data in (0.5, 1.0)
    )
    x0 = vector(1.0, -2.0)[:, None]
    drawn = euler(Autoguided(strong, weak, scale), x0, 4000).points
    close(drawn / x0, torch.full_like(x0, (0.5**scale) ** 0.5), 1e-3)
