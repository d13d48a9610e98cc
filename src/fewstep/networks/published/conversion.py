"""What conversions of published weights share: checks of names and shapes, and the file that is written."""

import hashlib
import json
import re
import warnings
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ...flows.flow_map import FlowMap
from ...storage.checkpoint import ENTRY, CheckpointError, save_checkpoint
from ...storage.files import checksum, target
from .. import build

FLOATS = (torch.float32, torch.float16, torch.bfloat16)  # rounded weights are widened, exactly


def unpickled(path: Path, kind: str, cure: str) -> Any:
    """What torch saved in `path`, a `kind` of file; CheckpointError for damage or, with `cure`, for code."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # torch remarks on foreign pickles before it refuses them
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        found, again = f"is no whole {kind} of torch ({type(error).__name__})", "download it again"
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            found, again = f"carries pickled code ({code[1]}), which is never run here", cure
        raise CheckpointError(f"{path} {found}: {again}") from None


def state_dict(content: Any, path: Path, cure: str) -> dict[str, Tensor]:
    """`content` of `path` as tensors by name; raises CheckpointError, ending in `cure`, for anything else."""
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(f"{path} holds a {type(content).__name__} and no state dict: {cure}")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise CheckpointError(f"{path} holds '{name}', which is no tensor: {cure}")
    return dict(content)


def _is_own(path: Path) -> bool:
    with suppress(SafetensorError, OSError), safe_open(str(path), framework="pt") as file:
        return ENTRY in (file.metadata() or {})
    return False


def target_of(path: Path) -> Path:
    """Where a flow map for `path` is written, links followed; raises CheckpointError over a foreign file."""
    return target(path, _is_own, "fewstep", "name another file", CheckpointError)


def new_flow_map(network: Mapping[str, Any], shape: Sequence[int]) -> FlowMap:
    """The flow map of these settings; what it has beside the published network starts from seed 0."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return build(network, tuple(shape))


def check(
    found: Mapping[str, Tensor], shapes: Mapping[str, Sequence[int]], source: Path, cure: str
) -> list[str]:
    """The types of the numbers in `found`; CheckpointError unless finite floats of these names and shapes."""
    for name in [*shapes, *found]:
        if name not in found:
            odd = f"it lacks '{name}'"
        elif name not in shapes:
            odd = f"it has '{name}', which the network lacks"
        elif (there := tuple(found[name].shape)) != (here := tuple(shapes[name])):
            odd = f"'{name}' is {there} there and {here} in the network"
        else:
            continue
        raise CheckpointError(f"{source} is of another network: {odd}; {cure}")
    types = {name: str(value.dtype).removeprefix("torch.") for name, value in found.items()}
    for name, value in found.items():
        is_weight = value.dtype in FLOATS
        if not is_weight or not value.isfinite().all():
            odd = f"'{name}' in {types[name]}, which is no weight"
            odd = f"numbers in '{name}' that are not finite" if is_weight else odd
            raise CheckpointError(f"{source} has {odd}: download it again")
    return sorted(set(types.values()))


def save(
    flow_map: FlowMap, path: Path, target: Path, network: Mapping[str, Any], shape: Sequence[int], data: str,
    origin: Mapping[str, Any],
) -> dict[str, Any]:  # fmt: skip
    """Write `flow_map`, whose weights were published in `path`, to `target`, and return its description.

    `network`, `shape` and `data` are its settings, the shape of one sample and the name of the data set;
    `origin` is what else is known of the source. The fingerprint is of the file's bytes and the settings.
    """
    content, sizes = checksum(path), {"network": dict(network), "shape": list(shape)}
    fingerprinted = json.dumps([content, *sizes.values()], sort_keys=True).encode()
    described = {"fingerprint": hashlib.sha256(fingerprinted).hexdigest()[:16], **sizes, "data": data}
    described |= {"seed": 0, "steps": 0, "drawn": 0}
    described["source"] = {"file": path.name, "sha256": content, **origin}
    # not trained here: an empty log, for whoever reads one
    log = {"log.loss": torch.zeros(0), "log.gradient_norm": torch.zeros(0)}
    save_checkpoint(target, flow_map.state_dict(prefix="weights.") | log, described)
    return described
