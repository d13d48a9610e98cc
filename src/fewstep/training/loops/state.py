"""Everything that changes while a run trains, and so everything that a checkpoint holds."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from ...flows.flow_map import FlowMap
from ...storage.checkpoint import load_weights

# the columns that every log has
LOSS, NORM = "loss", "gradient_norm"


@dataclass
class State:
    """The state of a run.

    student, average  the network that learns, and the average of its weights that is kept
    optimiser         the student's
    log               (steps, columns): what `columns` names, at every step
    others            further networks by name: the map that stands in for the teacher, a target, a discriminator
    optimisers        those of the `others` that learn
    """

    student: FlowMap
    average: FlowMap
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    log: Tensor
    columns: tuple[str, ...] = (LOSS, NORM)
    step: int = 0
    others: dict[str, nn.Module] = field(default_factory=dict)
    optimisers: dict[str, torch.optim.Optimizer] = field(default_factory=dict)

    def _networks(self) -> dict[str, nn.Module]:
        return {"student": self.student, "average": self.average, **self.others}

    def _learners(self) -> dict[str, tuple[torch.optim.Optimizer, nn.Module]]:
        own = {
            f"{name}-optimiser": (optimiser, self.others[name]) for name, optimiser in self.optimisers.items()
        }
        return {"optimiser": (self.optimiser, self.student), **own}

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors."""
        named = {
            f"{name}.{k}": v
            for name, network in self._networks().items()
            for k, v in network.state_dict().items()
        }
        for name, (optimiser, _) in self._learners().items():
            for k, buffers in optimiser.state_dict()["state"].items():
                named |= {f"{name}.{k}.{buffer}": value for buffer, value in buffers.items()}
        return named | {"generator": self.generator.get_state(), "log": self.log}

    def restore(self, tensors: dict[str, Tensor], step: int, path: Path) -> None:
        """Take everything back from `tensors`, as it was after `step` steps; `path` is for what is wrong with them."""

        def under(prefix: str) -> dict[str, Tensor]:
            return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}

        for name, network in self._networks().items():
            load_weights(network, under(f"{name}."), path)
        for name, (optimiser, network) in self._learners().items():
            own, weights = optimiser.state_dict(), list(network.parameters())
            for key, value in under(f"{name}.").items():
                index, _, buffer = key.partition(".")
                like = weights[int(index)]
                # in the weight's layout, which a file does not keep and the fused Adam takes for granted
                own["state"].setdefault(int(index), {})[buffer] = (
                    torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                )
            optimiser.load_state_dict(own)
        self.generator.set_state(tensors["generator"].cpu())
        self.log.copy_(tensors["log"])
        self.step = step
