"""Conditioning on captions: states for cross-attention, flow maps given them, classifier-free guidance.

A conditional network is called as network(s, t, x, conditions) and gives v_{s,t}(x | c). Objectives and
samplers take `conditioned(flow_map, conditions)`, which is a flow map like any other.
"""

from dataclasses import dataclass
from typing import Protocol, TypeGuard, TypeVar, cast

import torch
from torch import Tensor

from .flow_map import FlowMap, NetworkFlowMap

Map = TypeVar("Map")


@dataclass(frozen=True)
class Conditions:
    """Captions as a flow's cross-attention reads them.

    hidden  (batch, tokens, width), float32: the text encoder's states after its final norm
    mask    (batch, tokens), bool: the caption's tokens, start and end included, without the padding, whose
            states mean nothing in a text encoder trained here (Stable Diffusion itself attends to all)
    """

    hidden: Tensor
    mask: Tensor

    def __len__(self) -> int:
        return len(self.hidden)

    def part(self, start: int, stop: int) -> "Conditions":
        """The captions start..stop-1."""
        return Conditions(self.hidden[start:stop], self.mask[start:stop])

    def to(self, device: torch.device | str) -> "Conditions":
        """The same on `device`."""
        return Conditions(self.hidden.to(device), self.mask.to(device))

    def times(self, count: int) -> "Conditions":
        """All captions, repeated `count` times as a whole."""
        return Conditions(self.hidden.repeat(count, 1, 1), self.mask.repeat(count, 1))

    def where(self, dropped: Tensor, empty: "Conditions") -> "Conditions":
        """These, with the empty caption `empty` (a batch of one) where `dropped` (batch,), bool."""
        return Conditions(
            torch.where(dropped[:, None, None], empty.hidden, self.hidden),
            torch.where(dropped[:, None], empty.mask, self.mask),
        )


class Source(Protocol):
    """A source of data points."""

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` points, (count, *shape), float32."""


class ConditionalSource(Source, Protocol):
    """A source of data points with captions; `empty` is the empty caption, a batch of one."""

    conditional: bool
    empty: Conditions

    def sample_with_conditions(self, count: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """`count` points, (count, *shape), float32, and their captions."""


class Conditioned(FlowMap):
    """The flow map of a conditional network given captions: v_{s,t}(x | c).

    `x` holds a sample for each caption, or a multiple of that: the captions are then repeated as a whole.
    Raises ValueError for any other number of samples.
    """

    def __init__(self, flow_map: NetworkFlowMap, conditions: Conditions, empty: Conditions | None = None):
        super().__init__()
        self.flow_map, self.conditions, self.empty = flow_map, conditions, empty

    def captions_of(self, count: int) -> Conditions:
        """The captions of `count` samples."""
        if not len(self.conditions) or count % len(self.conditions):
            captions = f"{len(self.conditions)} captions"
            raise ValueError(f"{count} samples do not go with {captions}: give one each, or more")
        return self.conditions.times(count // len(self.conditions))

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        v: Tensor = self.flow_map.network(s, t, x, self.captions_of(len(x)))
        return v


class Guided(FlowMap):
    """Classifier-free guidance (arXiv 2207.12598): v_{s,t}(x | 0) + w (v_{s,t}(x | c) - v_{s,t}(x | 0)).

    0 is the empty caption. w = 1 is the conditional flow, w = 0 the unconditional one; one call for both.
    """

    def __init__(self, conditioned: Conditioned, scale: float) -> None:
        super().__init__()
        if conditioned.empty is None:
            raise ValueError("guidance compares with the empty caption, and this flow map was given none")
        self.conditioned, self.empty, self.scale = conditioned, conditioned.empty, scale

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        captions, empty = self.conditioned.captions_of(len(x)), self.empty.times(len(x))
        both = Conditions(torch.cat([empty.hidden, captions.hidden]), torch.cat([empty.mask, captions.mask]))
        s, t, x = (torch.cat([end, end]) for end in (s, t, x))
        without, given = self.conditioned.flow_map.network(s, t, x, both).chunk(2)
        v: Tensor = without + self.scale * (given - without)
        return v


class Autoguided(FlowMap):
    """A velocity away from a weaker one (arXiv 2406.02507): w b_t(x) + (1 - w) b'_t(x), b' the weak one.

    w = 1 is the flow itself. Only the velocity is defined: two maps do not combine to a map.
    """

    def __init__(self, flow_map: FlowMap, weak: FlowMap, scale: float) -> None:
        super().__init__()
        self.flow_map, self.weak, self.scale = flow_map, weak, scale

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        return self.scale * self.flow_map.velocity(t, x) + (1 - self.scale) * self.weak.velocity(t, x)

    def average_velocity(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError("an autoguided flow has a velocity and no map: take its `velocity`")


def first(flow_map: Map, count: int) -> Map | Conditioned | Guided:
    """The flow map given the first `count` of its captions; itself where it takes none."""
    if not isinstance(flow_map, (Conditioned, Guided)):
        return flow_map
    own = flow_map.conditioned if isinstance(flow_map, Guided) else flow_map
    part = Conditioned(own.flow_map, own.conditions.part(0, count), own.empty)
    return Guided(part, flow_map.scale) if isinstance(flow_map, Guided) else part


def conditioned(flow_map: FlowMap, conditions: Conditions | None, empty: Conditions | None = None) -> FlowMap:
    """`flow_map`, a network's, given `conditions`, if any; `empty` is the empty caption, a batch of one."""
    if conditions is None:
        return flow_map
    if isinstance(flow_map, Autoguided):
        own, weak = (conditioned(part, conditions, empty) for part in (flow_map.flow_map, flow_map.weak))
        return Autoguided(own, weak, flow_map.scale)
    # sources keep it on the CPU
    empty = None if empty is None else empty.to(conditions.hidden.device)
    return Conditioned(cast(NetworkFlowMap, flow_map), conditions, empty)


def guided(flow_map: FlowMap, scale: float | None) -> FlowMap:
    """`flow_map` under guidance of `scale`; itself at None or 1.

    Raises ValueError for a flow map without captions, and for one without an empty caption.
    """
    if scale is None:
        return flow_map
    if not isinstance(flow_map, Conditioned):
        raise ValueError("guidance needs captions, and this flow map takes none: remove the guidance")
    return flow_map if scale == 1 else Guided(flow_map, scale)


def is_conditional(source: object) -> TypeGuard[ConditionalSource]:
    """Whether the points of a source come with captions."""
    return getattr(source, "conditional", False)


def draw(
    source: Source | ConditionalSource, count: int, dropped: float, generator: torch.Generator
) -> tuple[Tensor, Conditions | None]:
    """`count` points of a source, and their captions if they come with some.

    The share `dropped` of the captions is replaced by the empty one, which guidance compares with.
    """
    if not is_conditional(source):
        return source.sample(count, generator), None
    points, conditions = source.sample_with_conditions(count, generator)
    lost = torch.rand(count, generator=generator, device=generator.device) < dropped
    return points, conditions.where(lost, source.empty.to(generator.device))
