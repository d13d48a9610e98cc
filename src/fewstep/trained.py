"""Trained flow maps on disk: what the training stages write and all later stages read."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from . import networks
from .checkpoint import CheckpointError, load_checkpoint, load_weights
from .flow_map import FlowMap
from .study import Study


def weights_file(experiment: str, method: str, seed: int) -> str:
    """Where a trained flow map lies, below a tier's artifacts."""
    return f"{experiment}/{method}/seed-{seed}.safetensors"


def load_flow_map(path: Path, device: str = "cpu") -> FlowMap:
    """The trained flow map stored in `path`; raises CheckpointError when the file is absent, damaged or foreign."""
    tensors, info = load_checkpoint(Path(path))
    if "network" not in info:
        raise CheckpointError(f"{path} is no trained flow map: its header names no network")
    flow_map = networks.build(info["network"], tuple(info["shape"]))
    load_weights(flow_map, {k.removeprefix("weights."): v for k, v in tensors.items() if k.startswith("weights.")}, Path(path))
    return flow_map.to(device).requires_grad_(False).eval()


def load_log(path: Path) -> dict[str, np.ndarray]:
    """The `loss`, the `gradient_norm` and whatever else was logged of every step of the training that wrote `path`, by name."""
    tensors, _ = load_checkpoint(Path(path))
    return {name.removeprefix("log."): value.numpy() for name, value in tensors.items() if name.startswith("log.")}


def of(study: Study, method: str) -> FlowMap:
    """The flow map of a method's first training seed."""
    return load_flow_map(study.workspace.read(weights_file(study.trained, method, study.experiment.training.seeds[0])))


def logs(study: Study) -> dict[str, list[dict[str, np.ndarray]]]:
    """The training logs of every method, by label, one for each seed."""
    seeds = study.experiment.training.seeds
    return {
        method.label: [load_log(study.workspace.read(weights_file(study.trained, name, seed))) for seed in seeds]
        for name, method in study.experiment.methods.items()
    }
