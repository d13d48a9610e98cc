"""Everything that changes while a network trains, and so everything that its checkpoint holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from ..storage.checkpoint import CheckpointError, with_prefix

# the columns that every log of a flow map has
LOSS, NORM = "loss", "gradient_norm"
STUDENT, EMA = "student", "ema"


class DivergedError(RuntimeError, FloatingPointError):
    """A training has come to numbers that are not finite."""


def _not_finite(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first of the `tensors` of a state that is not finite; of the log, its loss counts."""
    counted = {name: value[..., :1] if name == "log" else value for name, value in tensors.items()}
    return next((name for name, value in counted.items() if not torch.isfinite(value).all()), None)


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

    def require_finite(self, run: str, cure: str) -> None:
        """Raise DivergedError, with the `cure`, where numbers of the training `run` are not finite."""
        lost = torch.isfinite(self.log[: self.step, 0]).logical_not().nonzero().flatten().tolist()
        if lost and lost[0] == 0:
            problem = f"the loss of {run} is not finite at its first step, before anything is learned"
            raise DivergedError(
                f"{problem}: its data or its teacher are at fault; prepare or train them anew"
            )
        if lost or _not_finite(self.tensors()):
            when = f"its loss is not finite at step {lost[0] + 1}" if lost else "its weights are not finite"
            raise DivergedError(f"the training of {run} diverged: {when}; {cure}")

    def _misfit(self, tensors: Mapping[str, Tensor], step: object) -> str | None:
        """How `tensors` differ from what `tensors()` returns after `step` steps, or None."""
        own, steps = self.tensors(), len(self.log)
        if type(step) is not int or not 0 <= step <= steps:
            return f"it stands at step {step} of {steps}"
        for name in self.optimisers:
            for index, weight in enumerate(self.weights[name]):
                prefix = f"optimiser.{name}.{index}."
                # which moments there are is known to an optimiser that has made a step; squares are SOAP's
                kept = {key for key in tensors if key.startswith(prefix)}
                own |= {key: tensors[key] for key in kept if set(tensors[key].shape) <= {*weight.shape}}
                if wrong := [key for key in kept if tensors[key].dtype != weight.dtype]:
                    return f"'{wrong[0]}' is {tensors[wrong[0]].dtype} and not {weight.dtype}"
        for name in sorted({*own, *tensors}):
            if name not in own or name not in tensors:
                return f"'{name}' is {'missing' if name in own else 'foreign or of another shape'}"
            ours, theirs = ((value.dtype, tuple(value.shape)) for value in (own[name], tensors[name]))
            if ours != theirs:
                return f"'{name}' is {theirs[0]} of shape {theirs[1]} and not {ours[0]} of {ours[1]}"
        lost = _not_finite(tensors)
        return lost and f"'{lost}' holds numbers that are not finite"

    def restore(self, tensors: Mapping[str, Tensor], step: int, path: Path) -> None:
        """Take all of it from `tensors`, read from `path`, as it was after `step` steps.

        Raises CheckpointError for what this training has not written.
        """
        if problem := self._misfit(tensors, step):
            raise CheckpointError(f"{path} is no state of this training: {problem}; delete it")
        for name, network in self.networks.items():
            network.load_state_dict(with_prefix(tensors, f"{name}."))
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
