"""What the analytic tests measure with: exact worlds, finite differences, quadrature, perturbed maps."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.flow_map import FlowMap, Jump, NetworkFlowMap
from fewstep.flows.interpolants import INTERPOLANTS, LINEAR, Batch, Interpolant, per_sample
from fewstep.networks.mlp import MLP

F64 = torch.float64


def vector(*values: float) -> Tensor:
    return torch.tensor(values, dtype=F64)


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=seeded(seed), dtype=F64)


def uniform(*shape: int, low: float, high: float, seed: int) -> Tensor:
    return low + (high - low) * torch.rand(*shape, generator=seeded(seed), dtype=F64)


def central(f, at: Tensor, h: float = 1e-5) -> Tensor:
    """The derivative of f at `at` by central differences: error O(h^2) + O(1e-16 / h), 1e-9 or so."""
    return (f(at + h) - f(at - h)) / (2 * h)


def close(a: Tensor, b: Tensor, tolerance: float) -> None:
    torch.testing.assert_close(a, b, rtol=tolerance, atol=tolerance)


# Gaussian worlds ----------------------------------------------------------------------------------------

ROTATION, OTHER = (torch.linalg.qr(randn(3, 3, seed=k)).Q for k in (1, 2))
MEANS = vector(0.3, -0.2, 0.1), vector(-0.7, 0.9, 0.4)


def _rotated(*eigenvalues: float) -> Tensor:
    return ROTATION @ torch.diag(vector(*eigenvalues)) @ ROTATION.T


COVARIANCES = {
    # no common eigenvectors: the general case of the linear and trigonometric interpolants
    "general": (OTHER @ torch.diag(vector(1.0, 0.5, 2.0)) @ OTHER.T, _rotated(0.3, 1.5, 0.8)),
    # each alone is degenerate, the pair is not: the common basis cannot be read off one of them
    "degenerate": (_rotated(1.0, 1.0, 0.5), _rotated(0.4, 2.0, 2.0)),
    # a whole eigenspace in common
    "isotropic": (torch.eye(3, dtype=F64) * 0.7, torch.eye(3, dtype=F64) * 1.9),
}

WORLDS = [
    ("linear", "general"),
    ("trigonometric", "general"),
    ("linear", "degenerate"),
    ("stochastic", "degenerate"),
    ("stochastic", "isotropic"),
]


def gaussian(interpolant: str, covariances: str) -> GaussianFlow:
    c0, c1 = COVARIANCES[covariances]
    return GaussianFlow(MEANS[0], c0, MEANS[1], c1, INTERPOLANTS[interpolant])


def line(interpolant: str) -> GaussianFlow:
    """A one-dimensional world, for Gauss-Hermite quadrature."""
    return GaussianFlow(
        vector(0.2), vector(0.8)[None], vector(-0.6), vector(0.35)[None], INTERPOLANTS[interpolant]
    )


def affine(f, dim: int) -> tuple[Tensor, Tensor]:
    """The matrix F and the shift g of an affine map f(x) = F x + g, f taking (batch, dim)."""
    shift = f(torch.zeros(1, dim, dtype=F64))[0]
    return (f(torch.eye(dim, dtype=F64)) - shift).T, shift


# Batches ------------------------------------------------------------------------------------------------


def batch_of(world: GaussianFlow, count: int = 64, seed: int = 3, strip: float | None = None) -> Batch:
    """A batch of the world's couples on the square; |t - s| > 0.05 (short chords lose digits), < `strip` if
    given."""
    s = uniform(count, low=0.0, high=1.0, seed=seed)
    gap = uniform(count, low=0.05, high=strip or 0.9, seed=seed + 1)
    up = s + gap
    t = torch.where(up <= 1, up, s - gap).clamp(0, 1)
    s = torch.where((t - s).abs() < 0.05, 1 - t, s)
    x0, x1 = world.sample(count, seeded(seed + 2))
    z = randn(*x0.shape, seed=seed + 3) if world.interpolant.noisy else None
    return Batch(x0, x1, s, t, uniform(count, low=0.1, high=0.9, seed=seed + 4), world.interpolant, z)


def network_batch(interpolant: Interpolant = LINEAR, count: int = 16, seed: int = 11) -> Batch:
    """A batch of 2-D points for tests on networks, s and t on the whole square."""
    s, t, g = (uniform(count, low=0.02, high=0.98, seed=seed + k) for k in range(3))
    x0, x1, z = (randn(count, 2, seed=seed + 3 + k) for k in range(3))
    return Batch(x0, x1, s, t, g, interpolant, z if interpolant.noisy else None)


def hermite_batch(world: GaussianFlow, s: float, t: float) -> tuple[Batch, Tensor]:
    """Nodes and weights whose weighted sum is the expectation over (x0, x1) (and z) at fixed s and t."""
    noisy = world.interpolant.noisy
    node, weight = (torch.from_numpy(k) for k in np.polynomial.hermite_e.hermegauss(16 if noisy else 28))
    weight = weight / weight.sum()
    axes = 3 if noisy else 2
    grid = torch.cartesian_prod(*[node] * axes)
    total = torch.cartesian_prod(*[weight] * axes).prod(1)
    x0 = world.m0 + world.c0.sqrt() * grid[:, :1]
    x1 = world.m1 + world.c1.sqrt() * grid[:, 1:2]
    times = (torch.full((len(grid),), k, dtype=F64) for k in (s, t, 0.5))
    return Batch(x0, x1, *times, world.interpolant, grid[:, 2:] if noisy else None), total


# Maps ---------------------------------------------------------------------------------------------------


class Perturbed(FlowMap):
    """v = v_exact + theta h(s, t, x): a one-parameter family of flow maps that passes the true one at theta =
    0."""

    def __init__(self, exact: FlowMap, bump, theta: float):
        super().__init__()
        self.exact, self.bump = exact, bump
        self.theta = nn.Parameter(torch.tensor(theta, dtype=F64))

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.exact.average_velocity(s, t, x) + self.theta * self.bump(s, t, x)

    def _shift(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return per_sample(t - s, x) * self.theta * self.bump(s, t, x)

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.exact.jump(s, t, x) + self._shift(s, t, x)

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> Jump:
        exact = self.exact.pushforward(s, t, x, ds, dt, dx)
        point, tangent = torch.func.jvp(self._shift, (s, t, x), (ds, dt, dx))
        return Jump(exact.point + point, exact.tangent + tangent)


BUMPS = {
    "shift": lambda s, t, x: torch.ones_like(x) * per_sample(1 + 0.3 * s - 0.2 * t, x),
    "scale": lambda s, t, x: x * per_sample(1 + 0.5 * s * t, x),
    "wave": lambda s, t, x: torch.sin(x + per_sample(0.4 * t - 0.7 * s, x)),
}


class Opaque(nn.Module):
    """A network without a `pushforward` of its own: its flow map must fall back on torch.func.jvp."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.network(s, t, x)


def random_network(seed: int = 5, activation: str = "silu") -> NetworkFlowMap:
    """A small float64 MLP flow map whose parameters, output layer and biases included, are not zero."""
    network = MLP((2,), 12, 3, activation, frequencies=[1.0, 2.0], time_frequencies=[1.0]).double()
    generator = seeded(seed)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator, dtype=F64))
    return NetworkFlowMap(network)


def gradient(residual: Tensor, student: nn.Module) -> Tensor:
    """The gradient of the batch's mean residual in all parameters of `student`, as one vector."""
    parts = torch.autograd.grad(
        residual.mean(),
        list(student.parameters()),
        retain_graph=True,
        allow_unused=True,
        materialize_grads=True,
    )
    return torch.cat([p.flatten() for p in parts])
