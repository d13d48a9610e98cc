"""What a flow is told: texts for its cross-attention, flow maps of a text, and classifier-free guidance.

A conditional network is called as network(s, t, x, conditions) and gives v_{s,t}(x | c). Objectives and samplers know
nothing of it: they are handed `conditioned(flow_map, conditions)`, which is a flow map like any other.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from .flow_map import FlowMap, NetworkFlowMap

if TYPE_CHECKING:
    from ..data import DataSource


@dataclass(frozen=True)
class Conditions:
    """Texts as a flow's cross-attention takes them.

    hidden  (batch, tokens, width), float32: the last layer's states after the final norm, as Stable Diffusion uses them
    mask    (batch, tokens), bool: which are the text's own, start and end included; behind them is filling. A text's own
            states do not depend on the filling, and in a tower that is trained here the filling's mean nothing: attend under
            the mask. Stable Diffusion itself attends to all.
    """

    hidden: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.hidden)

    def part(self, start: int, stop: int) -> Conditions:
        """The texts start..stop-1."""
        return Conditions(self.hidden[start:stop], self.mask[start:stop])

    def to(self, device: torch.device | str) -> Conditions:
        """The same on `device`."""
        return Conditions(self.hidden.to(device), self.mask.to(device))

    def times(self, count: int) -> Conditions:
        """All texts `count` times over, one round after the other."""
        return Conditions(self.hidden.repeat(count, 1, 1), self.mask.repeat(count, 1))

    def where(self, dropped: Tensor, empty: Conditions) -> Conditions:
        """The text `empty` (a batch of one) in the place of those that `dropped` (batch,), bool, says."""
        return Conditions(
            torch.where(dropped[:, None, None], empty.hidden, self.hidden),
            torch.where(dropped[:, None], empty.mask, self.mask),
        )


class ConditionalSource(Protocol):
    """A source of data points that come with texts; `empty` is the empty text, a batch of one."""

    conditional: bool
    empty: Conditions

    def sample_with_conditions(self, count: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """`count` points, (count, *shape), float32, and their texts."""
        ...


class Conditioned(FlowMap):
    """The flow map of a conditional network at given texts: v_{s,t}(x | c).

    `x` holds a sample a text, or several rounds of that, one after the other, as a loop puts them together for one call.
    Raises ValueError for any other number of samples.
    """

    def __init__(self, flow_map: NetworkFlowMap, conditions: Conditions, empty: Conditions | None = None):
        super().__init__()
        self.flow_map, self.conditions, self.empty = flow_map, conditions, empty

    def fitted(self, count: int) -> Conditions:
        """The texts of `count` samples."""
        if not len(self.conditions) or count % len(self.conditions):
            raise ValueError(
                f"{count} samples do not go with {len(self.conditions)} texts: give a sample a text, or several rounds of them"
            )
        rounds = count // len(self.conditions)
        return self.conditions if rounds == 1 else self.conditions.times(rounds)

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return self.flow_map.network(s, t, x, self.fitted(len(x)))

    def first(self, count: int) -> Conditioned:
        """The flow map at the first `count` texts."""
        return Conditioned(self.flow_map, self.conditions.part(0, count), self.empty)

    def guided(self, scale: float) -> FlowMap:
        """The flow map under guidance of `scale`; itself at 1. Raises ValueError where it was not told what the empty text is."""
        if scale == 1:
            return self
        if self.empty is None:
            raise ValueError("guidance compares with the empty text, and this flow map was given none")
        return Guided(self, scale)


class Guided(FlowMap):
    """Classifier-free guidance (arXiv 2207.12598): v_{s,t}(x | nothing) + w (v_{s,t}(x | c) - v_{s,t}(x | nothing)).

    With w = 1 that is the conditional flow, with w = 0 the unconditional one. Both come from one call of the network.
    """

    def __init__(self, conditioned: Conditioned, scale: float):
        super().__init__()
        self.conditioned, self.scale = conditioned, scale

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        own, empty = self.conditioned.fitted(len(x)), self.conditioned.empty.times(len(x))
        both = Conditions(torch.cat([empty.hidden, own.hidden]), torch.cat([empty.mask, own.mask]))
        s, t, x = (torch.cat([end, end]) for end in (s, t, x))
        without, with_text = self.conditioned.flow_map.network(s, t, x, both).chunk(2)
        return without + self.scale * (with_text - without)


def first(flow_map: FlowMap, count: int) -> FlowMap:
    """The flow map at the first `count` of its texts; itself where it takes none."""
    if isinstance(flow_map, Guided):
        return Guided(flow_map.conditioned.first(count), flow_map.scale)
    return flow_map.first(count) if isinstance(flow_map, Conditioned) else flow_map


def conditioned(flow_map: FlowMap, conditions: Conditions | None, empty: Conditions | None = None) -> FlowMap:
    """`flow_map` at the texts `conditions`, or itself where there are none; `empty` is the empty text, a batch of one, wherever it is."""
    if conditions is None:
        return flow_map
    # sources keep it on the CPU, and guidance puts both into one batch
    return Conditioned(flow_map, conditions, None if empty is None else empty.to(conditions.hidden.device))


def guided(flow_map: FlowMap, scale: float | None) -> FlowMap:
    """`flow_map` under guidance of `scale`, or itself without one; raises ValueError for a flow map that was given no texts."""
    if scale is None:
        return flow_map
    if not isinstance(flow_map, Conditioned):
        raise ValueError("guidance needs a flow map of texts, and this one takes none: remove the guidance")
    return flow_map.guided(scale)


def is_conditional(source: object) -> bool:
    """Whether the points of a source come with texts."""
    return getattr(source, "conditional", False)


def draw(
    source: DataSource | ConditionalSource, count: int, dropped: float, generator: torch.Generator
) -> tuple[Tensor, Conditions | None]:
    """`count` points of a source, and their texts if they come with some.

    The share `dropped` of the texts is replaced by the empty one: so a teacher learns what guidance compares with.
    """
    if not is_conditional(source):
        return source.sample(count, generator), None
    points, conditions = source.sample_with_conditions(count, generator)
    lost = torch.rand(count, generator=generator, device=generator.device) < dropped
    return points, conditions.where(lost, source.empty.to(generator.device))
