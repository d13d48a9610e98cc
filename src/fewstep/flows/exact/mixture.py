"""A Gaussian carried to a mixture of Gaussians: velocity in closed form."""

import torch
from torch import Tensor

from ..flow_map import FlowMap
from ..interpolants import Interpolant


class MixtureFlow(FlowMap):
    """The flow from N(0, scale^2 1) to sum_k w_k N(mu_k, sigma_k^2 1), independent coupling.

    Conditioned component k, (I_t, dI_t) is jointly Gaussian; b_t(x) averages the conditional velocities
    d_beta mu_k + (dc_k / 2 c_k) (x - beta mu_k), c_k = alpha^2 scale^2 + beta^2 sigma_k^2 + gamma^2, with the
    posterior weights of the components. mu has shape (parts, dim), sigma and weights (parts,).
    Only the diagonal is known: `average_velocity` off the diagonal raises NotImplementedError.

    >>> centres, width, weights = torch.tensor([[-1.0], [1.0]]), torch.tensor([0.1, 0.1]), torch.ones(2)
    >>> flow = MixtureFlow(1.0, centres, width, weights, LINEAR)
    >>> flow.velocity(torch.tensor([0.5]), torch.zeros(1, 1))  # halfway between both
    tensor([[0.]])
    """

    def __init__(self, scale: float, mu: Tensor, sigma: Tensor, weights: Tensor, interpolant: Interpolant):
        super().__init__()
        self.scale, self.mu, self.sigma, self.interpolant = scale, mu, sigma, interpolant
        self.weights = weights / weights.sum()

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        c = self.interpolant.coefficients(t)
        a, b, g = c.alpha[:, None], c.beta[:, None], c.gamma[:, None]
        variance = a**2 * self.scale**2 + b**2 * self.sigma**2 + g**2
        da, db, dg = c.d_alpha[:, None], c.d_beta[:, None], c.d_gamma[:, None]
        half = a * da * self.scale**2 + b * db * self.sigma**2 + g * dg
        centred = x[:, None, :] - b[..., None] * self.mu
        log = self.weights.log() - centred.square().sum(-1) / (2 * variance) - x.shape[1] / 2 * variance.log()
        conditional = db[..., None] * self.mu + (half / variance)[..., None] * centred
        return (log.softmax(1)[..., None] * conditional).sum(1)

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(x0, x1): `count` independent draws of noise and data, (count, dim)."""
        part = torch.multinomial(self.weights, count, replacement=True, generator=generator)
        noise = torch.randn(2, count, self.mu.shape[1], generator=generator, dtype=self.mu.dtype)
        return self.scale * noise[0], self.mu[part] + self.sigma[part, None] * noise[1]
