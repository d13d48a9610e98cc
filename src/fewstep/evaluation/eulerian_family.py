"""MeanFlow, improved MeanFlow and ESD as one loss with three choices, and what each choice costs.

With x = I_s, the loss |v_{s,t}(x) - target - (t - s) (d/ds + direction . grad) v_{s,t}(x)|^2 is at rest at
the flow map whether `target` and `direction` are the velocity b_s or dI_s, of which it is the conditional
mean, and whether all but the leading v_{s,t} is stopped or d/ds v_{s,t} learns too. Variances tell them
apart.
"""

from itertools import product
from typing import Literal, get_args

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..flows.exact.gaussian import GaussianFlow
from ..flows.flow_map import FlowMap
from ..flows.interpolants import LINEAR, Batch, per_sample
from ..objectives.common import one_of, squared_norm
from . import tables
from .provenance import Provenance

Field, Stop = Literal["dI", "v_ss"], Literal["all", "transport"]
(DRAWN, OWN), (ALL, TRANSPORT) = get_args(Field), get_args(Stop)
NAMES = {
    (DRAWN, DRAWN, ALL): "MeanFlow",
    (DRAWN, OWN, ALL): "improved MeanFlow",
    (OWN, OWN, TRANSPORT): "ESD",
    (OWN, OWN, ALL): "self-distilled consistency",
}
RESIDUAL, GRADIENT = "variance of the residual", "variance of the gradient"
# the variance of the data, that of the noise being 1: maps that contract, and maps that expand
RATIOS = {"data N(0, 1/4)": 0.25, "data N(0, 4)": 4.0}
NAME = "eulerian-family"


def label(member: tuple[str, str, str]) -> str:
    """What a row of the table is called."""
    target, direction, stop = member
    said = f"target {target}, direction {direction}, stops {stop}"
    return f"{NAMES[member]}: {said}" if member in NAMES else said


def residual(student: FlowMap, batch: Batch, target: str, direction: str, stop: str) -> Tensor:
    """v_{s,t}(x) - target - (t - s) (d/ds + direction . grad) v_{s,t}(x) at x = I_s, (batch, ...).

    `target` and `direction` are "dI", or "v_ss", the student's own diagonal, stopped. `stop` is "all" but the
    leading v_{s,t}, or "transport": target and direction . grad v_{s,t}.
    """
    one_of("target", target, Field)
    one_of("direction", direction, Field)
    one_of("stop", stop, Stop)
    path, s, t = batch.at(batch.s), batch.s, batch.t
    x, span = path.point, per_sample(t - s, path.point)
    with torch.no_grad():
        own = student.velocity(s, x)
    chosen = {DRAWN: path.velocity, OWN: own}
    one, zero, still = torch.ones_like(s), torch.zeros_like(s), torch.zeros_like(x)
    v, in_time = student.average_velocity_pushforward(s, t, x, one, zero, still)
    _, carried = student.average_velocity_pushforward(s, t, x, zero, zero, chosen[direction])
    in_time = in_time.detach() if stop == ALL else in_time
    return v - chosen[target] - span * (in_time + carried.detach())


def loss(student: FlowMap, batch: Batch, target: str, direction: str, stop: str) -> Tensor:
    """The squared norm of `residual`, shape (batch,)."""
    return squared_norm(residual(student, batch, target, direction, stop))


class Scaled(FlowMap):
    """An exact flow map with v_{s,t}(x) + theta x in the place of its own: what is learned is `theta` = 0."""

    def __init__(self, exact: FlowMap, theta: float = 0.0):
        super().__init__()
        self.exact = exact
        self.theta = torch.nn.Parameter(torch.tensor(theta, dtype=torch.float64))

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.exact.average_velocity(s, t, x) + self.theta * per_sample(1 + s * t, x) * x


def world(ratio: float) -> GaussianFlow:
    """N(0, 1) to N(0, `ratio`) in one dimension."""
    one, zero = torch.eye(1, dtype=torch.float64), torch.zeros(1, dtype=torch.float64)
    return GaussianFlow(zero, one, zero, ratio * one, LINEAR)


def draw(flow: GaussianFlow, count: int, seed: int) -> Batch:
    """A batch with s and t on the triangle s < t, gaps above 0.02: shorter chords lose digits."""
    generator = torch.Generator().manual_seed(seed)
    x0, x1 = flow.sample(count, generator)
    uniform = torch.rand(3, count, generator=generator, dtype=torch.float64)
    s, t = (0.98 * uniform[:2]).sort(0).values
    return Batch(x0, x1, s, t + 0.02, uniform[2], LINEAR)


def variances(
    member: tuple[str, str, str], flow: GaussianFlow, batch: Batch
) -> dict[str, tuple[float, float]]:
    """The variances of the residual and of a sample's gradient at the exact map, with standard errors."""
    student = Scaled(flow)
    found = residual(student, batch, *member)[:, 0]
    # d r / d theta of every sample: the gradient of a weighted sum in its weights, which sees what is stopped
    weights = torch.zeros_like(found, requires_grad=True)
    (pulled,) = torch.autograd.grad((weights * found).sum(), student.theta, create_graph=True)
    (slopes,) = torch.autograd.grad(pulled, weights)
    r, gradient = found.detach().numpy(), (2 * found * slopes).detach().numpy()
    count = np.sqrt(len(r))

    def spread(values: np.ndarray) -> tuple[float, float]:
        squares = (values - values.mean()) ** 2
        # exact zeros are rounding errors of each machine's own
        return round(float(squares.mean()), 12), round(float(squares.std() / count), 12)

    return {RESIDUAL: spread(r), GRADIENT: spread(gradient)}


def table(count: int, seed: int, tier: str, origin: Provenance, trained: pd.DataFrame) -> pd.DataFrame:
    """The table of the family in the tables' columns, from `count` draws of the Gaussian world.

    Of the table `trained` the rows of each member that it has, by its name, stand beside them.
    """
    cells, parts = [], []
    worlds = {name: world(ratio) for name, ratio in RATIOS.items()}
    drawn = {name: (flow, draw(flow, count, seed)) for name, flow in worlds.items()}
    how = f"{count:,} draws in one dimension from noise N(0, 1), at the exact map, v + theta (1 + s t) x"
    shared = {"nfe": 0, "seeds": "1 sampling", "samples": count, "protocol": how}
    for member in product((DRAWN, OWN), (DRAWN, OWN), (ALL, TRANSPORT)):
        own = shared | {"method": label(member)}
        for data, given in drawn.items():
            for metric, (value, error) in variances(member, *given).items():
                cells.append(own | {"metric": f"{metric}, {data}", "value": value, "sd_sampling": error})
        parts.append(trained[trained.method == NAMES.get(member)].assign(method=label(member)))
    return tables.with_cost(tables.computed(cells, NAME, tier, origin), parts)
