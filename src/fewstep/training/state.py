"""Everything that changes while a network trains, and so everything that its checkpoint holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ..storage.checkpoint import load_weights, with_prefix

# the columns that every log of a flow map has
LOSS, NORM = "loss", "gradient_norm"
STUDENT, EMA = "student", "ema"


@dataclass
class State:
    """The state of a training.

    networks    by name: the one that learns, its EMA, a target, a discriminator
    optimisers  those of the networks that learn, by the network's name
    generator   draws every random number
    log         (steps, columns): `columns` at every step
    step        how many steps are done
    """

    networks: dict[str, nn.Module]
    optimisers: dict[str, torch.optim.Optimizer]
    generator: torch.Generator
    log: Tensor
    columns: tuple[str, ...] = (LOSS, NORM)
    step: int = 0

    @cached_property
    def weights(self) -> dict[str, list[nn.Parameter]]:
        """The parameters of every network, listed once."""
        return {name: list(network.parameters()) for name, network in self.networks.items()}

    def record(self, values: Mapping[str, Tensor]) -> None:
        """Log `values`, scalars by column, and count the step as done."""
        for name, value in values.items():
            self.log[self.step, self.columns.index(name)] = value.detach()
        self.step += 1

    def tensors(self) -> dict[str, Tensor]:
        """All of it as named tensors."""
        named = {"generator": self.generator.get_state(), "log": self.log}
        for name, network in self.networks.items():
            named |= {f"{name}.{key}": value for key, value in network.state_dict().items()}
        for name, optimiser in self.optimisers.items():
            for index, buffers in optimiser.state_dict()["state"].items():
                named |= {f"optimiser.{name}.{index}.{buffer}": value for buffer, value in buffers.items()}
        return named

    def restore(self, tensors: Mapping[str, Tensor], step: int, path: Path) -> None:
        """Take all of it from `tensors`, read from `path`, as it was after `step` steps."""
        for name, network in self.networks.items():
            load_weights(network, with_prefix(tensors, f"{name}."), path)
        for name, optimiser in self.optimisers.items():
            content = optimiser.state_dict()
            for key, value in with_prefix(tensors, f"optimiser.{name}.").items():
                index, _, buffer = key.partition(".")
                like = self.weights[name][int(index)]
                # in the weight's layout, which a file does not keep and the fused Adam takes for granted
                content["state"].setdefault(int(index), {})[buffer] = (
                    torch.empty_like(like).copy_(value) if value.shape == like.shape else value
                )
            optimiser.load_state_dict(content)
        self.generator.set_state(tensors["generator"].cpu())
        self.log.copy_(tensors["log"])
        self.step = step
