"""SCFlow's time (arXiv 2412.16906) becomes this library's here, and nowhere else.

There data are at 0: z_t = (1 - t) z_0 + t z_1, v approximates z_1 - z_0. With x0 = z_1 and x1 = z_0 the same
path is I_{1-t}, and v(z, t) = -b_{1-t}(z), so f(z, t) = z + t b_{1-t}(z) is one Euler step to the data.
"""

from dataclasses import dataclass

from torch import Tensor

from ...flows.flow_map import Velocity
from ...flows.interpolants import per_sample


@dataclass(frozen=True)
class Reversed:
    """A velocity as SCFlow writes it; times (batch,), latents (batch, ...)."""

    flow: Velocity

    def v(self, z: Tensor, t: Tensor) -> Tensor:
        """v(z, t), which approximates z_1 - z_0 = noise - data."""
        return -self.flow.velocity(1 - t, z)

    def f(self, z: Tensor, t: Tensor) -> Tensor:
        """f(z, t) = z - t v(z, t), the prediction of z_0."""
        return z - per_sample(t, z) * self.v(z, t)


def between(z0: Tensor, z1: Tensor, t: Tensor) -> Tensor:
    """z_t = (1 - t) z_0 + t z_1."""
    return per_sample(1 - t, z0) * z0 + per_sample(t, z1) * z1
