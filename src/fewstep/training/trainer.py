"""The training of one network by itself, resumed from its state on disk: the autoencoder's and the CLIP's."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..storage.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from ..storage.progress import Progress
from . import optimisers
from .precision import enough_memory, one_thread
from .state import State

NETWORK = "network"
# how often the state is stored; the part over which the learning rate rises; the norm of clipped gradients
STORED, WARMUP, CLIP = 6, 0.05, 1.0


class Trainer:
    """Adam on the weights of `network`; its learning rate rises, then falls to zero along a straight line.

    It begins from the state in `path`, or from nothing. `settings` have steps, lr and seed; `columns` are
    those of the log. Raises CheckpointError for a damaged state, and for that of another training.
    """

    def __init__(self, path: Path, network: nn.Module, settings: Any, device: str, columns: tuple):
        # the name of a state is that of its training, with its fingerprint
        self.path, self.settings, self.info = path, settings, {"training": path.stem}
        self.optimiser = optimisers.build("adam", network.parameters(), settings.lr)
        self.generator = torch.Generator(device).manual_seed(settings.seed)
        log = torch.zeros(settings.steps, len(columns))
        self.state = State({NETWORK: network}, {NETWORK: self.optimiser}, self.generator, log, columns)
        if path.exists():
            tensors, info = load_checkpoint(path)
            if info.get("training") != path.stem:
                raise CheckpointError(
                    f"{path} belongs to another training, {info.get('training')}: delete it"
                )
            self.state.restore(tensors, info.get("step"), path)

    def descend(self, loss: Tensor) -> None:
        """One step of Adam down the gradient of `loss`, a scalar."""
        step, steps = self.state.step, self.settings.steps
        rising = min((step + 1) / max(WARMUP * steps, 1), 1)
        self.optimiser.param_groups[0]["lr"] = self.settings.lr * rising * (1 - step / steps)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.state.weights[NETWORK], CLIP)
        self.optimiser.step()

    def advance(self, until: int, one_step: Callable[[], Mapping[str, Tensor]], label: str) -> Tensor:
        """Call `one_step`, which descends and returns what is logged, up to step `until`; returns the log.

        The state is stored every sixth of the training and at the end. Raises DivergedError for a loss or
        weights that are not finite, and torch.OutOfMemoryError.
        """
        state, steps = self.state, self.settings.steps
        every, enough = -(-steps // STORED), enough_memory(f"a step of the {label}", "lower its `batch`")
        with Progress(steps, f"training the {label}") as bar, one_thread(), enough:
            while state.step < until:
                state.record(one_step())
                bar.update(state.step)
                if state.step % every == 0 or state.step == until:
                    state.require_finite(f"the {label}", "lower its `lr`")
                    save_checkpoint(self.path, state.tensors(), self.info | {"step": state.step})
        return state.log
