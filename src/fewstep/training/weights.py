"""Trained flow maps on disk: what the training stages write and all later stages read."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from ..flows.flow_map import FlowMap
from ..networks import load_flow_map
from ..settings.tiers import ExperimentSettings
from ..storage.checkpoint import load_checkpoint, with_prefix
from .experiment import Experiment

PHASES = ("teacher", "students")


def methods_of(settings: ExperimentSettings, phase: str) -> list[str]:
    """The methods that `phase` trains: as "teacher" those that others learn from, as "students" the rest."""
    named = {name for method in settings.methods.values() for name in method.teachers}
    teachers = [name for name, own in settings.methods.items() if name in named and own.teacher is None]
    return teachers if phase == "teacher" else [name for name in settings.methods if name not in teachers]


def weights_file(experiment: Experiment, method: str, seed: int) -> str:
    """Where a trained flow map lies, below a tier's artifacts."""
    phase = next(phase for phase in PHASES if method in methods_of(experiment.settings, phase))
    return f"{experiment.trained}/{phase}/{method}/seed-{seed}.safetensors"


def without_ema_file(experiment: Experiment, method: str, seed: int) -> str:
    """Where the same flow map with the weights of its last step lies, if `metrics.sensitivity` asks."""
    folder, _, name = weights_file(experiment, method, seed).rpartition("/")
    return f"{folder}/without-ema-{name}"


def load_log(path: Path) -> dict[str, np.ndarray]:
    """What the training that wrote `path` logged at every step, by name: `loss`, `gradient_norm`, others."""
    columns = with_prefix(load_checkpoint(Path(path))[0], "log.")
    return {name: column.numpy() for name, column in columns.items()}


def first_flow_map(experiment: Experiment, method: str) -> FlowMap:
    """The flow map of a method's first training seed."""
    seed = experiment.settings.training.seeds[0]
    return load_flow_map(experiment.workspace.read(weights_file(experiment, method, seed)))


def logs(experiment: Experiment, methods: Sequence[str] | None = None) -> dict[str, list[dict]]:
    """What `load_log` reads of `methods`, or of all, by label, one for each seed."""
    settings, read = experiment.settings, experiment.workspace.read
    seeds = settings.training.seeds
    return {
        settings.method(name).label: [load_log(read(weights_file(experiment, name, seed))) for seed in seeds]
        for name in methods or settings.methods
    }
