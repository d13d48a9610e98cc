"""The Gaussian and mixture worlds: closed forms against derivatives, identities, moments and quadrature."""

from __future__ import annotations

import pytest
import torch

from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.exact.mixture import MixtureFlow
from fewstep.flows.interpolants import INTERPOLANTS, LINEAR, STOCHASTIC

from .exact import COVARIANCES, F64, MEANS, affine, central, close, gaussian, randn, seeded, uniform, vector

COUNT = 40
S, T, U = (uniform(COUNT, low=0.02, high=0.98, seed=k) for k in (1, 2, 3))
X = 1.5 * randn(COUNT, 3, seed=4)


def moments(world: GaussianFlow, t: float):
    """The mean and covariance of I_t from their definition."""
    c = world.interpolant.coefficients(vector(t))
    covariance = c.alpha**2 * world.c0 + c.beta**2 * world.c1 + c.gamma**2 * torch.eye(3, dtype=F64)
    return c.alpha * world.m0 + c.beta * world.m1, covariance


# The Gaussian flow --------------------------------------------------------------------------------------


def test_a_jump_of_no_length_is_the_identity_with_the_velocity_as_slope(world):
    close(world.jump(S, S, X), X, 1e-12)
    close(world.velocity(S, X), central(lambda end: world.jump(S, end, X), S), 1e-8)
    close(world.average_velocity(S, S, X), world.velocity(S, X), 0)


def test_the_velocity_is_the_regression_of_the_interpolants_velocity(world):
    """b_t(x) = E[dI | I = x] = dm + Cov(dI, I) Cov(I)^-1 (x - m), from the definition of a Gaussian's
    conditional."""
    c = world.interpolant.coefficients(T)
    eye = torch.eye(3, dtype=F64)
    shape = (COUNT, 1, 1)
    a, b, g, da, db, dg = (
        k.reshape(shape) for k in (c.alpha, c.beta, c.gamma, c.d_alpha, c.d_beta, c.d_gamma)
    )
    cross = a * da * world.c0 + b * db * world.c1 + g * dg * eye
    cov = a**2 * world.c0 + b**2 * world.c1 + g**2 * eye
    mean = a[:, 0] * world.m0 + b[:, 0] * world.m1
    slope = torch.linalg.solve(cov, (X - mean)[..., None])
    close(world.velocity(T, X), da[:, 0] * world.m0 + db[:, 0] * world.m1 + (cross @ slope)[..., 0], 1e-11)


def test_lagrangian_equation(world):
    close(central(lambda t: world.jump(S, t, X), T), world.velocity(T, world.jump(S, T, X)), 1e-8)
    close(world.jump_dt(S, T, X).tangent, world.velocity(T, world.jump(S, T, X)), 1e-11)


def test_eulerian_equation(world):
    b = world.velocity(S, X)
    along = central(lambda h: world.jump(S + h, T, X + h[:, None] * b), torch.zeros_like(S))
    close(along, torch.zeros_like(X), 1e-8)
    close(world.jump_following(S, T, X, b).tangent, torch.zeros_like(X), 1e-11)
    assert world.jump_ds(S, T, X).tangent.abs().mean() > 0.1


def test_semigroup_and_inverse(world):
    close(world.jump(U, T, world.jump(S, U, X)), world.jump(S, T, X), 1e-11)
    close(world.jump(T, S, world.jump(S, T, X)), X, 1e-11)


def test_the_map_carries_the_first_law_to_the_law_of_every_time(world):
    for s, t in [(0.0, 1.0), (0.0, 0.5), (0.3, 0.8), (1.0, 0.0)]:
        matrix, shift = affine(
            lambda x: world.jump(torch.full((len(x),), s, dtype=F64), torch.full((len(x),), t, dtype=F64), x),
            3,
        )
        start, end = moments(world, s), moments(world, t)
        close(matrix @ start[0] + shift, end[0], 1e-11)
        close(matrix @ start[1] @ matrix.T, end[1], 1e-11)
    close(moments(world, 1.0)[1], world.c1, 1e-12)


def test_the_average_velocity_is_the_chord(world):
    close(X + (T - S)[:, None] * world.average_velocity(S, T, X), world.jump(S, T, X), 1e-12)


def test_samples_have_the_moments_of_both_ends(world):
    count = 100_000
    for points, mean, cov in zip(world.sample(count, seeded(1)), (world.m0, world.m1), (world.c0, world.c1)):
        deviation = cov.diagonal().sqrt()
        assert ((points.mean(0) - mean).abs() < 5 * deviation / count**0.5).all()
        assert ((points.T.cov() - cov).abs() < 5 * 2**0.5 * deviation[:, None] * deviation / count**0.5).all()


def test_a_noisy_path_needs_commuting_covariances():
    with pytest.raises(ValueError, match="only if C0 and C1 commute"):
        gaussian("stochastic", "general")
    c0, c1 = COVARIANCES["general"]
    assert (c0 @ c1 - c1 @ c0).abs().max() > 0.1
    assert (
        GaussianFlow(*[k for pair in zip(MEANS, (c0, c1)) for k in pair], LINEAR)
        .jump(S, T, X)
        .isfinite()
        .all()
    )


# The mixture --------------------------------------------------------------------------------------------

ALL = pytest.mark.parametrize("interpolant", INTERPOLANTS.values(), ids=INTERPOLANTS)
SCALE, MU = 0.8, torch.tensor([[1.0, 0.5], [-0.8, 0.2], [0.3, -1.1]], dtype=F64)
SIGMA, WEIGHTS = vector(0.3, 0.5, 0.2), vector(1.0, 2.0, 3.0)


@ALL
def test_a_mixture_of_one_is_a_gaussian(interpolant):
    eye = torch.eye(2, dtype=F64)
    one = MixtureFlow(SCALE, MU[:1], SIGMA[:1], WEIGHTS[:1], interpolant)
    same = GaussianFlow(torch.zeros(2, dtype=F64), SCALE**2 * eye, MU[0], SIGMA[0] ** 2 * eye, interpolant)
    close(one.velocity(T, X[:, :2]), same.velocity(T, X[:, :2]), 1e-12)


@ALL
def test_the_mixtures_velocity_obeys_the_continuity_equation(interpolant):
    """d rho/dt + div(rho b) = 0, with the density of I_t written out from its definition."""
    world = MixtureFlow(SCALE, MU, SIGMA, WEIGHTS, interpolant)

    def density(t, x):
        c = interpolant.coefficients(t[None])
        variance = c.alpha**2 * SCALE**2 + c.beta**2 * SIGMA**2 + c.gamma**2
        square = (x - c.beta[:, None] * MU).square().sum(1)
        return (WEIGHTS / 6 * torch.exp(-square / (2 * variance)) / (2 * torch.pi * variance)).sum()

    def flux(t, x):
        return density(t, x) * world.velocity(t[None], x[None])[0]

    change = torch.func.vmap(torch.func.grad(density))(T, X[:, :2])
    divergence = torch.func.vmap(lambda t, x: torch.func.jacfwd(flux, 1)(t, x).trace())(T, X[:, :2])
    assert change.abs().max() > 0.1
    close(change + divergence, torch.zeros_like(T), 1e-11)


@ALL
@pytest.mark.parametrize("time", [0.15, 0.5, 0.9])
def test_the_mixtures_velocity_is_the_conditional_mean(interpolant, time):
    """E[dI | I = x] in one dimension, by the trapezoidal rule over x1 and z: x0 is then (x - beta x1 - gamma
    z) / alpha."""
    world = MixtureFlow(SCALE, MU[:, :1], SIGMA, WEIGHTS, interpolant)
    c = interpolant.coefficients(vector(time))
    x1 = torch.linspace(-6, 6, 1201, dtype=F64)[:, None]
    z = torch.linspace(-7, 7, 141, dtype=F64) if interpolant.noisy else vector(0.0)
    prior = (WEIGHTS / SIGMA * torch.exp(-((x1 - MU[:, 0]) ** 2) / (2 * SIGMA**2))).sum(1)[
        :, None
    ] * torch.exp(-(z**2) / 2)
    for x in (-2.0, -0.3, 0.4, 1.7):
        x0 = (x - c.beta * x1 - c.gamma * z) / c.alpha
        weight = prior * torch.exp(-(x0**2) / (2 * SCALE**2))
        speed = c.d_alpha * x0 + c.d_beta * x1 + c.d_gamma * z
        close(
            world.velocity(vector(time), vector(x)[None])[0, 0], (weight * speed).sum() / weight.sum(), 1e-9
        )


def test_samples_of_the_mixture_have_its_moments():
    count = 100_000
    x0, x1 = MixtureFlow(SCALE, MU, SIGMA, WEIGHTS, STOCHASTIC).sample(count, seeded(2))
    assert abs(x0.std() - SCALE) < 5 * SCALE / count**0.5
    mean = (WEIGHTS[:, None] / 6 * MU).sum(0)
    second = (WEIGHTS[:, None] / 6 * (MU**2 + SIGMA[:, None] ** 2)).sum(0)
    assert ((x1.mean(0) - mean).abs() < 5 / count**0.5).all()
    assert ((x1.square().mean(0) - second).abs() < 10 / count**0.5).all()


def test_the_mixture_knows_its_diagonal_only():
    world = MixtureFlow(SCALE, MU, SIGMA, WEIGHTS, LINEAR)
    with pytest.raises(NotImplementedError):
        world.jump(S, T, X[:, :2])
