"""Trained flow maps on disk: what the training stages write and all later stages read."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..flows.flow_map import FlowMap
from ..networks.load import load_flow_map
from ..settings.tiers import ExperimentSettings
from ..storage.checkpoint import load_checkpoint
from .experiment import Experiment

# the phases of an experiment's training, in order
PHASES = ("teacher", "students")


def methods_of(settings: ExperimentSettings, phase: str) -> list[str]:
    """The methods that `phase` trains: "teacher", those that others distil and that have no teacher; "students", the rest."""
    named = {method.teacher for method in settings.methods.values()}
    teachers = [name for name, own in settings.methods.items() if name in named and own.teacher is None]
    return teachers if phase == "teacher" else [name for name in settings.methods if name not in teachers]


def weights_file(experiment: Experiment, method: str, seed: int) -> str:
    """Where a trained flow map lies, below a tier's artifacts."""
    phase = next(phase for phase in PHASES if method in methods_of(experiment.settings, phase))
    return f"{experiment.trained}/{phase}/{method}/seed-{seed}.safetensors"


def load_log(path: Path) -> dict[str, np.ndarray]:
    """The `loss`, the `gradient_norm` and whatever else was logged of every step of the training that wrote `path`, by name."""
    tensors, _ = load_checkpoint(Path(path))
    return {
        name.removeprefix("log."): value.numpy() for name, value in tensors.items() if name.startswith("log.")
    }


def first_flow_map(experiment: Experiment, method: str) -> FlowMap:
    """The flow map of a method's first training seed."""
    return load_flow_map(
        experiment.workspace.read(weights_file(experiment, method, experiment.settings.training.seeds[0]))
    )


def logs(
    experiment: Experiment, methods: Sequence[str] | None = None
) -> dict[str, list[dict[str, np.ndarray]]]:
    """The training logs of `methods`, or of all, by label, one for each seed."""
    settings = experiment.settings
    return {
        settings.method(name).label: [
            load_log(experiment.workspace.read(weights_file(experiment, name, seed)))
            for seed in settings.training.seeds
        ]
        for name in methods or settings.methods
    }
