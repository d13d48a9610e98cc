"""What conversions of published weights have in common: names and shapes that are held against a network's, and the file that is written."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...flows.flow_map import FlowMap
from ...storage.checkpoint import CheckpointError, save_checkpoint


def check_names(found: Mapping[str, Tensor], own: Mapping[str, Tensor], source: Path, cure: str) -> None:
    """Raise CheckpointError, ending in `cure`, for the first tensor of `found`, read from `source`, whose name or shape is not among `own`."""
    for name in [*own, *found]:
        if name not in found:
            raise CheckpointError(f"{source} is of another network: it lacks '{name}'; {cure}")
        if name not in own:
            raise CheckpointError(
                f"{source} is of another network: it has '{name}', which the network lacks; {cure}"
            )
        if found[name].shape != own[name].shape:
            there, here = tuple(found[name].shape), tuple(own[name].shape)
            raise CheckpointError(
                f"{source} is of another network: '{name}' is {there} there and {here} in the network; {cure}"
            )


def check_finite(found: Mapping[str, Tensor], source: Path) -> None:
    """Raise CheckpointError naming the first tensor of `found`, read from `source`, that is not finite."""
    for name, value in found.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{source} has numbers in '{name}' that are not finite: download it again")


def save(
    flow_map: FlowMap,
    path: Path,
    target: Path,
    network: Mapping[str, Any],
    shape: Sequence[int],
    data: str,
    said: Mapping[str, Any],
) -> dict[str, Any]:
    """Write `flow_map`, whose weights were published in the file `path`, to `target` as a trained one, and return its description.

    `network`, `shape` and `data` are its settings, the shape of one sample and the name of the data set; `said` is what else
    there is to say of the source. The fingerprint is of the file's bytes and of the settings, which may change the function
    and no shape.
    """
    with path.open("rb") as file:
        content = hashlib.file_digest(file, "sha256").hexdigest()
    described = {
        "fingerprint": hashlib.sha256(
            json.dumps([content, dict(network), list(shape)], sort_keys=True).encode()
        ).hexdigest()[:16],
        "network": dict(network),
        "shape": list(shape),
        "data": data,
        "seed": 0,
        "steps": 0,
        "drawn": 0,
        "source": {"file": path.name, "sha256": content, **said},
    }
    # not trained here: an empty log, for whoever reads one
    log = {"log.loss": torch.zeros(0), "log.gradient_norm": torch.zeros(0)}
    save_checkpoint(
        target, {f"weights.{name}": value for name, value in flow_map.state_dict().items()} | log, described
    )
    return described
