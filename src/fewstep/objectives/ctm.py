r"""Consistency trajectory models: jumps compared in data space (arXiv 2310.02279, without its GAN).

$$ |X^-_{t,1}(X_{s,t}(I_s)) - \mathrm{sg}\, X^-_{t,1}(X^-_{u,t}(\Phi_{s,u}(I_s)))|^2, \quad u = s + g(t-s) $$
"""

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap, HeunMap, Velocity
from ..flows.interpolants import Batch
from .common import Count, squared_norm, stopped_jump, within


def ctm(
    student: FlowMap, batch: Batch, teacher: Velocity, stopped: FlowMap | None = None, steps: Count = 4
) -> Tensor:
    """The loss above, g = `batch.g`, Phi in `steps` Heun steps of the teacher, shape (batch,).

    X^-, the map whose weights are stopped, is `stopped`, the student itself when None. It carries both jumps
    on to data, and the first one's gradient back.

    >>> flow, x0 = StraightFlow(torch.eye(2), torch.ones(2)), torch.randn(8, 2)
    >>> bool((ctm(flow, Batch(x0, flow.end(x0), *torch.rand(3, 8)), teacher=flow) < 1e-6).all())
    True
    """
    within("steps", steps, Count)
    frozen, one = student if stopped is None else stopped, torch.ones_like(batch.t)
    start = y = batch.at(batch.s).point
    step = batch.g * (batch.t - batch.s) / steps
    with torch.no_grad():
        for k in range(steps):
            y = HeunMap(teacher).jump(batch.s + k * step, batch.s + (k + 1) * step, y)
        y = frozen.jump(batch.t, one, frozen.jump(batch.s + steps * step, batch.t, y))
    return squared_norm(stopped_jump(frozen, batch.t, one, student.jump(batch.s, batch.t, start)) - y)
