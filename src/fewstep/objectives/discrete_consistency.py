r"""Consistency distillation (arXiv 2303.01469), with steps that shorten as in ECT (arXiv 2406.14548).

$$ d(v_{s,t}(I_s) - \mathrm{sg}[h \phi + (1-h)\, v_{u,t}(I_s + (u-s)\phi)]) / h, \quad u = s + h(t-s) $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import EulerMap, FlowMap, HeunMap, Velocity
from ..flows.interpolants import Batch
from .common import Halvings, Solver, Step, discrete_residual, one_of, shortened


def discrete_consistency(
    student: FlowMap, batch: Batch, teacher: Velocity, stopped: FlowMap | None = None, h: Step = 0.5,
    halvings: Halvings = 7, solver: Solver = "heun", c: float = 0.0,
) -> Tensor:  # fmt: skip
    """The loss above, phi the average velocity of the teacher's one step from s to u at I_s, shape (batch,).

    It is |X_{s,t}(I_s) - sg X_{u,t}(one step from I_s)|^2 / (h (t - s)^2), and has the gradient of
    `consistency` as h -> 0. h is halved `halvings` times, at equal intervals of training. d is |.|^2, or with
    a `c` above 0 sqrt(|.|^2 + c^2) - c. `stopped` is the map under sg, the student itself when None.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((discrete_consistency(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), flow) < 1e-6).all())
    True
    """
    one_of("solver", solver, Solver)
    h, frozen = shortened(h, halvings, batch.progress), student if stopped is None else stopped
    step, start = HeunMap(teacher) if solver == "heun" else EulerMap(teacher), batch.at(batch.s).point
    with torch.no_grad():
        phi = step.average_velocity(batch.s, batch.s + h * (batch.t - batch.s), start)
    return discrete_residual(student, frozen, batch, phi, h, c)
