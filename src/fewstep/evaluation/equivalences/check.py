"""One map, many names: what other papers call by another name, checked on values and gradients.

An entry holds the other paper's formula, written out from `average_velocity` alone, and this library's
function. Both are evaluated on random networks in double precision, and the largest difference is the entry's
number. The entries stand in entries.yaml.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pandas as pd
import torch
from torch import Tensor

from ...flows.flow_map import FlowMap, NetworkFlowMap
from ...flows.interpolants import LINEAR, Batch
from ...networks.mlp import MLP

F64 = torch.float64
EXACT = 1e-12


@dataclass(frozen=True)
class Case:
    """What formulas are evaluated on: a student, a teacher, an average of the student, and a batch."""

    student: NetworkFlowMap
    teacher: NetworkFlowMap
    ema: NetworkFlowMap
    batch: Batch


@dataclass(frozen=True)
class Equivalence:
    """One name for two things.

    theirs, ours  the formulas, as TeX
    sides         evaluates both: residuals of shape (batch,) of which values and gradients are compared, or
                  points, of which only values are
    beyond        the term that their side holds beside ours, as TeX, where the two are not the same
    """

    name: str
    papers: str
    theirs: str
    ours: str
    sides: Callable[[Case], tuple[Tensor, Tensor]]
    beyond: str = ""


def _network(seed: int) -> NetworkFlowMap:
    network = MLP((2,), 12, 3, "silu", frequencies=[1.0, 2.0], time_frequencies=[1.0]).double()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for value in network.parameters():
            value.copy_(0.5 * torch.randn(value.shape, generator=generator, dtype=F64))
    return NetworkFlowMap(network)


def case(seed: int = 0, count: int = 32) -> Case:
    """Random networks, none of which is near a flow map, and a batch with 0.02 < s < t < 0.98."""
    generator = torch.Generator().manual_seed(seed)
    uniform = 0.02 + 0.96 * torch.rand(3, count, generator=generator, dtype=F64)
    s, t = uniform[:2].sort(0).values
    x0, x1 = torch.randn(2, count, 2, generator=generator, dtype=F64)
    teacher, ema = (_network(3 * seed + k).requires_grad_(False) for k in (1, 2))
    return Case(_network(3 * seed), teacher, ema, Batch(x0, x1, s, t, uniform[2], LINEAR))


def _gap(one: Tensor, other: Tensor) -> float:
    """The largest difference, relative to the largest number of either, or to 1."""
    scale = max(1.0, float(one.abs().max()), float(other.abs().max()))
    return float((one - other).abs().max()) / scale


def _gradient(residual: Tensor, student: FlowMap) -> Tensor:
    parts = torch.autograd.grad(residual.mean(), list(student.parameters()), materialize_grads=True)
    return torch.cat([part.flatten() for part in parts])


def differences(entry: Equivalence, own: Case) -> tuple[float, float | None]:
    """The largest relative difference of values and of gradients; None where the two sides are points."""
    theirs, ours = entry.sides(own)
    value = _gap(theirs.detach(), ours.detach())
    if theirs.ndim > 1:
        return value, None
    return value, _gap(_gradient(theirs, own.student), _gradient(ours, own.student))


def table(entries: Sequence[Equivalence], seeds: Sequence[int] = (0, 1, 2)) -> pd.DataFrame:
    """The largest differences of every entry over the random networks of `seeds`, for readers."""
    rows = {}
    for entry in entries:
        values, gradients = zip(*(differences(entry, case(seed)) for seed in seeds))
        worst = max(values), max((own for own in gradients if own is not None), default=None)
        same = max(worst[0], worst[1] or 0.0) < EXACT
        held = "differs by the term below" if entry.beyond else "the same"
        rows[entry.name] = {
            "values": f"{worst[0]:.0e}",
            "gradients": "of points alone" if worst[1] is None else f"{worst[1]:.0e}",
            "": held if same else "NOT the same",
        }
    return pd.DataFrame(rows).T.rename_axis(index="largest relative difference")


def formulas(entries: Sequence[Equivalence]) -> str:
    """Every entry as Markdown: both formulas, and the term by which they differ."""
    parts = []
    for entry in entries:
        title = entry.name[0].upper() + entry.name[1:]
        parts += [f"**{title}** ({entry.papers})", f"$$ {entry.theirs} $$", f"$$ {entry.ours} $$"]
        if entry.beyond:
            parts.append(f"The first has in its gradient what the second has not: $$ {entry.beyond} $$")
    return "\n\n".join(parts)
