"""A Gaussian carried to a Gaussian: velocity and flow map in closed form."""

import torch
from torch import Tensor

from ..flow_map import FlowMap, Jump
from ..interpolants import Coefficients, Interpolant


class GaussianFlow(FlowMap):
    """The flow from N(m0, C0) to N(m1, C1), independent coupling, under any interpolant.

    I_t is Gaussian with mean m_t = alpha m0 + beta m1 and covariance
    C_t = alpha^2 C0 + beta^2 C1 + gamma^2 1, so b_t(x) = dm_t + (dC_t / 2) C_t^-1 (x - m_t). In the basis W
    that makes W' C0 W = 1 and W' C1 W diagonal, C_t is diagonal, with entries c_t, and the flow map is

        X_{s,t}(x) = m_t + W^-T diag(sqrt(c_t / c_s)) W^T (x - m_s).

    m0, m1 have shape (dim,), C0, C1 (dim, dim), points (batch, dim). With a gamma_t the three covariances
    need one basis: ValueError unless C0 and C1 commute.

    >>> flow = GaussianFlow(torch.zeros(1), torch.eye(1), torch.ones(1), 4 * torch.eye(1), LINEAR)
    >>> flow.jump(torch.zeros(1), torch.ones(1), torch.ones(1, 1))  # a deviation from the mean, twice as wide
    tensor([[3.]])
    """

    def __init__(self, m0: Tensor, c0: Tensor, m1: Tensor, c1: Tensor, interpolant: Interpolant):
        super().__init__()
        self.m0, self.m1, self.c0, self.c1, self.interpolant = m0, m1, c0, c1, interpolant
        commute = torch.allclose(c0 @ c1, c1 @ c0, atol=1e-10)
        if interpolant.noisy and not commute:
            raise ValueError("there is a closed form with a gamma_t only if C0 and C1 commute: take others")
        if commute:
            # A generic combination separates the eigenvectors that C0 and C1 have in common.
            basis = torch.linalg.eigh(c0 + 0.7320508 * c1).eigenvectors
            scale = torch.einsum("ji,jk,ki->i", basis, c0, basis).rsqrt()
            self.w: Tensor = basis * scale
            self.noise = scale.square()
        else:
            root = torch.linalg.inv(torch.linalg.cholesky(c0))
            self.w = root.T @ torch.linalg.eigh(root @ c1 @ root.T).eigenvectors
            self.noise = torch.zeros_like(m0)
        self.ratio = torch.einsum("ji,jk,ki->i", self.w, c1, self.w)
        self.w_inverse: Tensor = torch.linalg.inv(self.w)

    def _mean(self, c: Coefficients) -> Tensor:
        return c.alpha[:, None] * self.m0 + c.beta[:, None] * self.m1

    def _spectrum(self, c: Coefficients) -> Tensor:
        """The entries c_t, (batch, dim)."""
        a, b, g = c.alpha[:, None], c.beta[:, None], c.gamma[:, None]
        return a**2 + b**2 * self.ratio + g**2 * self.noise

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        c = self.interpolant.coefficients(t)
        a, b, g = c.alpha[:, None], c.beta[:, None], c.gamma[:, None]
        da, db, dg = c.d_alpha[:, None], c.d_beta[:, None], c.d_gamma[:, None]
        half = a * da + b * db * self.ratio + g * dg * self.noise
        drift = da * self.m0 + db * self.m1
        return drift + ((x - self._mean(c)) @ self.w * (half / self._spectrum(c))) @ self.w_inverse

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        start, end = self.interpolant.coefficients(s), self.interpolant.coefficients(t)
        stretch = (self._spectrum(end) / self._spectrum(start)).sqrt()
        return self._mean(end) + ((x - self._mean(start)) @ self.w * stretch) @ self.w_inverse

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """(X_{s,t}(x) - x) / (t - s), and b_t(x) where s = t."""
        span = (t - s)[:, None]
        same = span == 0
        chord = (self.jump(s, t, x) - x) / torch.where(same, torch.ones_like(span), span)
        return torch.where(same, self.velocity(t, x), chord)

    def pushforward(self, s: Tensor, t: Tensor, x: Tensor, ds: Tensor, dt: Tensor, dx: Tensor) -> Jump:
        # Differentiate the closed form itself: the chord of average_velocity loses digits for short jumps.
        return Jump(*torch.func.jvp(self.jump, (s, t, x), (ds, dt, dx)))

    def sample(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """(x0, x1): `count` independent draws of each end, (count, dim)."""
        noise = torch.randn(2, count, len(self.m0), generator=generator, dtype=self.m0.dtype)
        x0 = self.m0 + noise[0] @ torch.linalg.cholesky(self.c0).T
        return x0, self.m1 + noise[1] @ torch.linalg.cholesky(self.c1).T
