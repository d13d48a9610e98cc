"""What conversions of published weights share: checks of names and shapes, and the file that is written."""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...flows.flow_map import FlowMap
from ...storage.checkpoint import ENTRY, CheckpointError, save_checkpoint
from .. import build
from .repository import checksum, target


def unpickled(path: Path, kind: str, cure: str) -> Any:
    """What torch has saved in `path`, a `kind` of file; nothing in it is run.

    Raises CheckpointError for a damaged file and, ending in `cure`, for one that carries pickled code.
    """
    try:
        with warnings.catch_warnings():
            # torch remarks on foreign pickles before it refuses them
            warnings.simplefilter("ignore")
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            found = f"carries pickled code ({code[1]}), which is never run here"
            raise CheckpointError(f"{path} {found}: {cure}") from None
        found = f"is no whole {kind} of torch ({type(error).__name__})"
        raise CheckpointError(f"{path} {found}: download it again") from None


def _is_own(path: Path) -> bool:
    try:
        with safe_open(str(path), framework="pt") as file:
            return ENTRY in (file.metadata() or {})
    except (SafetensorError, OSError):
        return False


def target_of(path: Path) -> Path:
    """Where a flow map for `path` is written, links followed; raises CheckpointError over a foreign file."""
    return target(path, _is_own, "fewstep", "name another file", CheckpointError)


def new_flow_map(network: Mapping[str, Any], shape: Sequence[int]) -> FlowMap:
    """The flow map of these settings; what it has beside the published network starts from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(network, tuple(shape))


def check(found: Mapping[str, Tensor], own: Mapping[str, Tensor], source: Path, cure: str) -> None:
    """Raise CheckpointError for the first tensor of `found`, read from `source`, that does not fit.

    Its name or shape is not among `own`, or a number in it is not finite.
    """
    for name in [*own, *found]:
        if name not in found:
            odd = f"it lacks '{name}'"
        elif name not in own:
            odd = f"it has '{name}', which the network lacks"
        elif found[name].shape != own[name].shape:
            there, here = tuple(found[name].shape), tuple(own[name].shape)
            odd = f"'{name}' is {there} there and {here} in the network"
        else:
            continue
        raise CheckpointError(f"{source} is of another network: {odd}; {cure}")
    for name, value in found.items():
        if not value.isfinite().all():
            raise CheckpointError(f"{source} has numbers in '{name}' that are not finite: download it again")


def save(
    flow_map: FlowMap, path: Path, target: Path, network: Mapping[str, Any], shape: Sequence[int], data: str,
    origin: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write `flow_map`, whose weights were published in `path`, to `target`, and return its description.

    `network`, `shape` and `data` are its settings, the shape of one sample and the name of the data set;
    `origin` is what else is known of the source. The fingerprint is of the file's bytes and the settings.
    """
    content = checksum(path)
    fingerprinted = json.dumps([content, dict(network), list(shape)], sort_keys=True)
    described = {
        "fingerprint": hashlib.sha256(fingerprinted.encode()).hexdigest()[:16],
        "network": dict(network), "shape": list(shape), "data": data, "seed": 0, "steps": 0, "drawn": 0,
        "source": {"file": path.name, "sha256": content, **origin},
    }  # fmt: skip
    # not trained here: an empty log, for whoever reads one
    log = {"log.loss": torch.zeros(0), "log.gradient_norm": torch.zeros(0)}
    weights = {f"weights.{name}": value for name, value in flow_map.state_dict().items()}
    save_checkpoint(target, weights | log, described)
    return described
