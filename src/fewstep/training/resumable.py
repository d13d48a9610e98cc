"""The training of one network that goes on from its state on disk: for the autoencoder and the CLIP, which no other network takes part in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from ..storage.progress import Progress

# a state is stored every sixth of the training
SLICES = 6


@dataclass(frozen=True, eq=False)
class Progressing:
    """What changes while it trains: weights, optimiser, generator, and a log with a row a step, (steps, columns)."""

    network: nn.Module
    optimiser: torch.optim.Optimizer
    generator: torch.Generator
    log: Tensor

    def store(self, path: Path, step: int) -> None:
        """Write all of it, as it is after `step` steps."""
        named = {f"weights.{name}": value for name, value in self.network.state_dict().items()}
        for index, buffers in self.optimiser.state_dict()["state"].items():
            named |= {f"optimiser.{index}.{buffer}": value for buffer, value in buffers.items()}
        save_checkpoint(
            path, named | {"generator": self.generator.get_state(), "log": self.log}, {"step": step}
        )

    def restore(self, path: Path) -> int:
        """Take all of it from `path`; returns its step, 0 where nothing is stored yet. Raises CheckpointError for damage."""
        if not path.exists():
            return 0
        tensors, info = load_checkpoint(path)
        load_weights(self.network, under(tensors, "weights."), path)
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in under(tensors, "optimiser.").items():
            index, _, buffer = name.partition(".")
            moments.setdefault(int(index), {})[buffer] = value
        self.optimiser.load_state_dict(self.optimiser.state_dict() | {"state": moments})
        self.generator.set_state(tensors["generator"].cpu())
        self.log.copy_(tensors["log"])
        return info["step"]


def under(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by what follows."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}


def to_the_end(
    path: Path, steps: int, advance: Callable[[int, Callable[[int], None]], Any], label: str
) -> dict[str, Tensor]:
    """Bring the training whose state is kept in `path` to its end, slice after slice; returns the tensors of its last state.

    `advance(until, tick)` brings the state to step `until` and calls `tick(step)` now and then. Raises CheckpointError for
    a state that is past the end.
    """
    done = load_checkpoint(path)[1]["step"] if path.exists() else 0
    size = -(-steps // SLICES)
    with Progress(steps, label) as bar:
        for until in (*range(size, steps, size), steps):
            if until > done:
                advance(until, bar.update)
            bar.update(until)
    tensors, info = load_checkpoint(path)
    if info["step"] != steps:
        raise CheckpointError(f"{path} stands at step {info['step']} of {steps}: delete it")
    return tensors
