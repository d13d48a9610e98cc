"""The Wasserstein bounds of LMD and EMD (arXiv 2406.07507) on Gaussian flows, where both sides are exact.

The student's map is affine in x, so its law at time 1 is Gaussian (W2 in closed form), the losses are
expectations of squares of affine functions, and only the time integral is numerical (Gauss-Legendre).

    LMD   W2^2 <= exp(1 + 2 int |C_t| dt) int E|d/dt X_{0,t}(x0) - b_t(X_{0,t}(x0))|^2 dt
    EMD   W2^2 <= e int E|d/ds X_{s,1}(I_s) + grad X_{s,1}(I_s) b_s(I_s)|^2 ds

The constants are second hand. Both hold here even without their factor e: for LMD by Gronwall and
Cauchy-Schwarz, for EMD because the integral of the Eulerian derivative along a trajectory is the error of its
end.
"""

from __future__ import annotations

from math import e

import numpy as np
import pytest
import torch

from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.flow_map import FlowMap, Jump
from fewstep.flows.interpolants import LINEAR, TRIGONOMETRIC

from .exact import F64, Perturbed, affine, close, gaussian, randn, uniform, vector

NODES, WEIGHTS = np.polynomial.legendre.leggauss(24)
NODES, WEIGHTS = torch.from_numpy((NODES + 1) / 2), torch.from_numpy(WEIGHTS / 2)


def root(matrix):
    values, vectors = torch.linalg.eigh(matrix)
    return vectors @ torch.diag(values.clamp(min=0).sqrt()) @ vectors.T


def gaussian_w2(mean, cov, other_mean, other_cov) -> float:
    """Squared W2 of two Gaussians: |m - m'|^2 + tr(C + C' - 2 (C^1/2 C' C^1/2)^1/2)."""
    half = root(cov)
    return (
        (mean - other_mean).square().sum() + (cov + other_cov - 2 * root(half @ other_cov @ half)).trace()
    ).item()


def law(world, t):
    """The means (times, dim) and covariances (times, dim, dim) of I_t; no interpolant here has a gamma."""
    c = world.interpolant.coefficients(t)
    a, b = c.alpha[:, None], c.beta[:, None]
    return a * world.m0 + b * world.m1, a[..., None] ** 2 * world.c0 + b[..., None] ** 2 * world.c1


def integral(f, means, covariances) -> float:
    """int_0^1 E |f(t, x)|^2 dt for f affine in x, and x Gaussian at each of NODES.

    f(t, .) is read off its values at 0 and at the unit vectors, for all times in one call.
    """
    dim = means.shape[1]
    probes = torch.cat([torch.zeros(1, dim, dtype=F64), torch.eye(dim, dtype=F64)])
    found = f(NODES.repeat_interleave(dim + 1), probes.repeat(len(NODES), 1)).view(len(NODES), dim + 1, dim)
    shift, columns = found[:, 0], found[:, 1:] - found[:, :1]
    mean = torch.einsum("nd,nde->ne", means, columns) + shift
    return (
        (WEIGHTS * (mean.square().sum(1) + torch.einsum("nde,ndf,nfe->n", columns, covariances, columns)))
        .sum()
        .item()
    )


def lagrangian_loss(world, student) -> float:
    """int_0^1 E |d/dt X_{0,t}(x0) - b_t(X_{0,t}(x0))|^2 dt."""

    def residual(t, x):
        jump = student.jump_dt(torch.zeros_like(t), t, x)
        return jump.tangent - world.velocity(t, jump.point)

    return integral(residual, *law(world, torch.zeros_like(NODES)))


def eulerian_loss(world, student) -> float:
    """int_0^1 E |d/ds X_{s,1}(I_s) + grad X_{s,1}(I_s) b_s(I_s)|^2 ds."""
    return integral(
        lambda s, x: student.jump_following(s, torch.ones_like(s), x, world.velocity(s, x)).tangent,
        *law(world, NODES),
    )


def error(world, student) -> float:
    """W2^2 between the true law at time 1 and that of the student's single jump."""
    matrix, shift = affine(
        lambda x: student.jump(torch.zeros(len(x), dtype=F64), torch.ones(len(x), dtype=F64), x),
        len(world.m0),
    )
    return gaussian_w2(world.m1, world.c1, matrix @ world.m0 + shift, matrix @ world.c0 @ matrix.T)


def exponent(world) -> float:
    """int_0^1 |C_t| dt, C_t the largest eigenvalue of the symmetric part of grad b_t."""

    def lipschitz(t):
        matrix, _ = affine(lambda x: world.velocity(t.repeat(len(x)), x), len(world.m0))
        return torch.linalg.eigvalsh((matrix + matrix.T) / 2)[-1].abs().item()

    return sum(w.item() * lipschitz(t) for t, w in zip(NODES, WEIGHTS))


def ratios(world, student) -> tuple[float, float]:
    """W2^2 over each loss, in units of the bound without its factor e."""
    distance, power = error(world, student), exponent(world)
    return distance / (lagrangian_loss(world, student) * e ** (2 * power)), distance / eulerian_loss(
        world, student
    )


def random_student(world, seed: int) -> Perturbed:
    """An affine perturbation of the true map with random matrix, shift, size and dependence on both times."""
    matrix, shift, slope = randn(3, 3, seed=seed), randn(3, seed=seed + 1), randn(2, seed=seed + 2)
    size = 10 ** uniform(1, low=-2.0, high=0.3, seed=seed + 3).item()

    def bump(s, t, x):
        return (x @ matrix.T + shift) * (1 + s[:, None] * slope[0] + t[:, None] * slope[1])

    return Perturbed(world, bump, size).requires_grad_(False)


WORLDS = [
    ("linear", "general"),
    ("trigonometric", "general"),
    ("linear", "degenerate"),
    ("trigonometric", "isotropic"),
]


@pytest.mark.parametrize("name", WORLDS, ids="-".join)
def test_both_bounds_hold_even_without_the_factor_e(name):
    world = gaussian(*name)
    for seed in range(25):
        lagrangian, eulerian = ratios(world, random_student(world, 10 * seed))
        assert 1e-6 < lagrangian <= 1 + 1e-9
        assert 1e-4 < eulerian <= 1 + 1e-9


def translation(shift) -> tuple[GaussianFlow, torch.Tensor]:
    """A rigid flow: under the trigonometric interpolant two equal covariances stay what they are, so C_t =
    0."""
    eye = torch.eye(2, dtype=F64)
    return GaussianFlow(vector(0.0, 0.0), eye, shift, eye, TRIGONOMETRIC), torch.tensor(
        [0.3, -0.4], dtype=F64
    )


def test_no_smaller_constant_would_do():
    """A rigid flow, missed at a constant rate: both losses are the squared error itself, so both ratios are
    1."""
    world, miss = translation(vector(1.0, 2.0))
    assert exponent(world) == pytest.approx(0, abs=1e-12)
    lagrangian, eulerian = ratios(
        world, Perturbed(world, lambda s, t, x: miss.expand_as(x), 1.0).requires_grad_(False)
    )
    assert lagrangian == pytest.approx(1, abs=1e-9)
    assert eulerian == pytest.approx(1, abs=1e-9)


class Lagging(FlowMap):
    """X_{0,t}(x) = X*_{0,t}(x) + sigma_t int_0^t sigma_r^-2 dr miss: the error that grows most under the
    flow."""

    def __init__(self, world, miss):
        super().__init__()
        self.world, self.miss = world, miss

    def jump(self, s, t, x):
        # sigma_r^2 = (1 - r)^2 + (10 r)^2 = 1 - 2 r + 101 r^2, whose reciprocal integrates to an arctangent
        held = (torch.atan((101 * t - 1) / 10) + torch.atan(torch.tensor(0.1, dtype=F64))) / 10
        sigma = (1 - 2 * t + 101 * t**2).sqrt()
        return self.world.jump(s, t, x) + (sigma * held)[:, None] * self.miss

    def pushforward(self, s, t, x, ds, dt, dx):
        return Jump(*torch.func.jvp(self.jump, (s, t, x), (ds, dt, dx)))


def test_the_lagrangian_bound_needs_its_exponent():
    """On a flow that expands tenfold a small Lagrangian loss hides a large error: W2^2 > e times the loss."""
    eye = torch.eye(2, dtype=F64)
    world = GaussianFlow(vector(0.0, 0.0), eye, vector(0.0, 0.0), 100 * eye, LINEAR)
    student = Lagging(world, vector(0.3, 0.4))
    distance, loss = error(world, student), lagrangian_loss(world, student)
    assert distance > 2 * e * loss
    assert distance <= loss * e ** (2 * exponent(world))


def test_gaussian_w2_of_what_is_known():
    eye = torch.eye(2, dtype=F64)
    assert gaussian_w2(vector(0.0, 0.0), eye, vector(3.0, 4.0), eye) == pytest.approx(25)
    assert gaussian_w2(vector(0.0, 0.0), 4 * eye, vector(0.0, 0.0), 9 * eye) == pytest.approx(2)


def test_the_true_map_has_no_loss():
    world = gaussian("linear", "general")
    close(
        vector(lagrangian_loss(world, world), eulerian_loss(world, world), error(world, world)),
        vector(0, 0, 0),
        1e-12,
    )
