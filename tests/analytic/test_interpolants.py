from __future__ import annotations

from dataclasses import fields
from math import pi, sqrt

import pytest
import torch

from fewstep.flows.interpolants import INTERPOLANTS, LINEAR, STOCHASTIC, TRIGONOMETRIC, per_sample

from .exact import F64, central, close, network_batch, randn, uniform, vector

TIMES = torch.linspace(0.01, 0.99, 45, dtype=F64)
ALL = pytest.mark.parametrize("interpolant", INTERPOLANTS.values(), ids=INTERPOLANTS)


@ALL
def test_noise_at_zero_and_data_at_one(interpolant):
    c = interpolant.coefficients(vector(0.0, 1.0))
    close(c.alpha, vector(1.0, 0.0), 1e-15)
    close(c.beta, vector(0.0, 1.0), 1e-15)
    close(c.gamma, vector(0.0, 0.0), 1e-15)


@ALL
@pytest.mark.parametrize("name", ["alpha", "beta", "gamma"])
def test_the_derivative_of_each_coefficient(interpolant, name):
    slope = central(lambda t: getattr(interpolant.coefficients(t), name), TIMES)
    close(getattr(interpolant.coefficients(TIMES), f"d_{name}"), slope, 1e-9)


@ALL
def test_the_coefficients_between_the_ends(interpolant):
    c = interpolant.coefficients(vector(0.25, 0.5))
    if interpolant is TRIGONOMETRIC:
        close(c.alpha.square() + c.beta.square(), vector(1.0, 1.0), 1e-15)
        close(c.alpha[1:], vector(1 / sqrt(2)), 1e-15)
    else:
        close(c.alpha, vector(0.75, 0.5), 1e-15)
        close(c.beta, vector(0.25, 0.5), 1e-15)
    close(c.gamma, vector(0.25, 0.5) if interpolant is STOCHASTIC else vector(0.0, 0.0), 1e-15)


def test_gamma_leaves_and_arrives_smoothly():
    close(STOCHASTIC.coefficients(vector(0.0, 1.0)).d_gamma, vector(0.0, 0.0), 1e-15)
    assert not LINEAR.noisy and not TRIGONOMETRIC.noisy and STOCHASTIC.noisy


@ALL
def test_the_path_starts_at_x0_ends_at_x1_and_moves_with_its_velocity(interpolant):
    x0, x1, z = (randn(45, 3, 2, seed=k) for k in range(3))
    ends = [interpolant.at(torch.full((45,), end, dtype=F64), x0, x1, z).point for end in (0.0, 1.0)]
    close(ends[0], x0, 1e-14)
    close(ends[1], x1, 1e-14)
    slope = central(lambda t: interpolant.at(t, x0, x1, z).point, TIMES)
    close(interpolant.at(TIMES, x0, x1, z).velocity, slope, 1e-9)


def test_the_stochastic_path_adds_gamma_z():
    x0, x1, z = (randn(45, 2, seed=k) for k in range(3))
    noisy, plain = STOCHASTIC.at(TIMES, x0, x1, z), LINEAR.at(TIMES, x0, x1)
    close(noisy.point - plain.point, (torch.sin(pi * TIMES) ** 2 / 2)[:, None] * z, 1e-14)


def test_a_path_with_gamma_needs_z():
    x = randn(45, 2, seed=0)
    with pytest.raises(ValueError, match="pass z"):
        STOCHASTIC.at(TIMES, x, x)


def test_per_sample_lines_times_up_with_the_batch():
    x = torch.ones(4, 3, 2, 5, dtype=F64)
    product = per_sample(torch.arange(4, dtype=F64), x) * x
    assert product.shape == x.shape
    assert [row.unique().tolist() for row in product] == [[0.0], [1.0], [2.0], [3.0]]


@ALL
def test_a_batch_carries_its_interpolant_and_cuts_everything(interpolant):
    batch = network_batch(interpolant)
    time = uniform(16, low=0.0, high=1.0, seed=1)
    path = batch.at(time)
    direct = interpolant.at(time, batch.x0, batch.x1, batch.z)
    assert torch.equal(path.point, direct.point) and torch.equal(path.velocity, direct.velocity)
    part = batch.part(3, 9)
    assert torch.equal(part.at(time[3:9]).point, path.point[3:9])
    for field in fields(batch):
        whole, piece = getattr(batch, field.name), getattr(part, field.name)
        assert torch.equal(piece, whole[3:9]) if isinstance(whole, torch.Tensor) else piece is whole
