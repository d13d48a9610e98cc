"""A Gaussian carried to a Gaussian along straight lines: one Euler step is exact."""

import torch
from torch import Tensor

from ..flow_map import FlowMap
from ..interpolants import per_sample


class StraightFlow(FlowMap):
    """The flow of the deterministic coupling x1 = x0 A' + m, under the linear interpolant.

    x_t = (1 - t) x0 + t x1 = x0 M_t' + t m with M_t = (1 - t) 1 + t A, so x0 = (x - t m) M_t^-T and
    b_t(x) = v_{t,u}(x) = x1 - x0. With x0 ~ N(0, 1) the data are N(m, A A'). A is (dim, dim), without
    eigenvalues at zero or on the negative real axis, m (dim,), points (batch, dim).

    >>> flow = StraightFlow(2 * torch.eye(2), torch.ones(2))
    >>> flow.jump(torch.zeros(1), torch.ones(1), torch.ones(1, 2))
    tensor([[3., 3.]])
    """

    def __init__(self, a: Tensor, m: Tensor) -> None:
        super().__init__()
        self.a, self.m = a, m

    def start(self, t: Tensor, x: Tensor) -> Tensor:
        """The x0 of the particle that is at `x` at time `t` (batch,)."""
        time = t[:, None, None]
        through = (1 - time) * torch.eye(len(self.m), dtype=x.dtype) + time * self.a
        x0: Tensor = torch.linalg.solve(through, (x - per_sample(t, x) * self.m)[..., None])[..., 0]
        return x0

    def end(self, x0: Tensor) -> Tensor:
        """x1 = x0 A' + m."""
        return x0 @ self.a.T + self.m

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        x0 = self.start(s, x)
        return self.end(x0) - x0
