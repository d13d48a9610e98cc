"""SiD's loss in a Gaussian world in one dimension, where the velocity of the student's samples is known."""

from math import pi

import numpy as np
import pytest
import torch

from fewstep.flows.exact.gaussian import GaussianFlow
from fewstep.flows.interpolants import INTERPOLANTS
from fewstep.objectives.sid.losses import denoised, score_identity

C, G, T = 0.6, 1.4, 0.35  # deviations of the data and of the samples, and the time


def law(deviation: float) -> GaussianFlow:
    """The flow to N(0, deviation^2) in one dimension."""
    one, zero = torch.eye(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return GaussianFlow(zero, one, zero, deviation**2 * one, INTERPOLANTS["linear"])


@pytest.fixture(scope="module")
def nodes() -> tuple[torch.Tensor, ...]:
    """Points x0 and noise (400, 1) and weights (400,), exact for polynomials up to degree 39 in each."""
    points, weights = np.polynomial.hermite_e.hermegauss(20)
    x0, noise = (torch.as_tensor(grid.reshape(-1, 1)) for grid in np.meshgrid(points, points))
    return x0, noise, torch.as_tensor(np.outer(weights, weights).reshape(-1) / (2 * pi))


def gain(deviation: float, t: float = T) -> float:
    """k of D(x) = k x for data of that deviation."""
    return t * deviation**2 / ((1 - t) ** 2 + t**2 * deviation**2)


def mean(nodes, g, alpha: float, fake: float = G):
    """The mean of the loss for samples g x0, without its scale, whose stop-gradient is seen elsewhere."""
    x0, noise, weights = nodes
    x, t = g * x0, torch.full((len(x0),), T, dtype=torch.float64)
    loss = score_identity(law(C), law(fake), x, noise, t, alpha)
    point = (1 - T) * noise + T * x
    scale = (x - denoised(law(C), t, point)).detach().abs().flatten(1).mean(1).clamp(min=1e-3)
    return (weights * loss * scale).sum()


def test_a_denoiser_is_the_mean_of_the_data_given_the_point(nodes):
    point = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    t = torch.full((7,), T, dtype=torch.float64)
    torch.testing.assert_close(denoised(law(C), t, point), gain(C) * point, rtol=1e-12, atol=1e-12)


def test_the_identity_of_the_scores(nodes):
    """E[(D_b - D_f) . (D_b - x)] = E|D_b - D_f|^2 for the exact f."""
    apart = gain(C) - gain(G)
    distance = apart**2 * ((1 - T) ** 2 + T**2 * G**2)
    assert float(mean(nodes, G, 0.0)) == pytest.approx(distance, rel=1e-12)
    assert float(mean(nodes, G, 1.2)) == pytest.approx(-0.2 * distance, rel=1e-12)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.2])
@pytest.mark.parametrize("deviation", [0.3, 0.6, 1.4])
def test_its_gradient_leads_to_the_data(nodes, deviation, alpha):
    """d/dg = 2 g (k_b - k_f) t [t (k_b - alpha (k_b - k_f)) - 1], by hand; zero at the data's deviation."""
    g = torch.tensor(deviation, dtype=torch.float64, requires_grad=True)
    (found,) = torch.autograd.grad(mean(nodes, g, alpha, deviation), g)
    apart = gain(C) - gain(deviation)
    expected = 2 * deviation * apart * T * (T * (gain(C) - alpha * apart) - 1)
    assert float(found) == pytest.approx(expected, rel=1e-10, abs=1e-12)
    assert np.sign(float(found)) == np.sign(deviation - C) or deviation == C


def test_it_is_zero_where_both_velocities_agree(nodes):
    x0, noise, _ = nodes
    x = (G * x0).requires_grad_(True)
    loss = score_identity(law(C), law(C), x, noise, torch.full((len(x),), T, dtype=torch.float64))
    (gradient,) = torch.autograd.grad(loss.sum(), x)
    assert (loss == 0).all() and gradient.abs().max() < 1e-12


def test_the_gradient_goes_through_both_denoisers_and_not_through_the_scale():
    x, noise = torch.tensor([[0.7]], dtype=torch.float64), torch.tensor([[-0.4]], dtype=torch.float64)
    t, alpha, h = torch.tensor([T], dtype=torch.float64), 1.2, 1e-6
    point = (1 - T) * noise + T * x
    scale = float((x - denoised(law(C), t, point)).abs())

    def by_hand(x: float) -> float:
        y = (1 - T) * float(noise) + T * x
        apart = (gain(C) - gain(G)) * y
        return apart * ((gain(C) * y - x) - alpha * apart) / scale

    x.requires_grad_(True)
    loss = score_identity(law(C), law(G), x, noise, t, alpha)
    (found,) = torch.autograd.grad(loss.sum(), x)
    assert float(loss.detach()) == pytest.approx(by_hand(0.7), rel=1e-12)
    assert float(found) == pytest.approx((by_hand(0.7 + h) - by_hand(0.7 - h)) / (2 * h), rel=1e-6)


def test_a_sample_is_divided_by_its_own_mean_distance():
    x = torch.tensor([[1.0, -2.0], [4.0, 0.5]], dtype=torch.float64)
    noise, t = torch.full_like(x, 0.3), torch.tensor([0.2, 0.8], dtype=torch.float64)
    eye, zero = torch.eye(2, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    b, f = (GaussianFlow(zero, eye, zero, d**2 * eye, INTERPOLANTS["linear"]) for d in (C, G))
    point = (1 - t)[:, None] * noise + t[:, None] * x
    real, drawn = denoised(b, t, point), denoised(f, t, point)
    parts = ((real - drawn) * ((real - x) - 1.2 * (real - drawn))).sum(1)
    expected = parts / (x - real).abs().mean(1)
    torch.testing.assert_close(score_identity(b, f, x, noise, t), expected, rtol=1e-12, atol=1e-12)
    at_the_end = score_identity(b, f, x, noise, torch.ones(2, dtype=torch.float64))
    assert (at_the_end == 0).all()
