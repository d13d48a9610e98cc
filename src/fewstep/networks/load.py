"""A trained flow map from its file of weights."""

from pathlib import Path

from ..flows.flow_map import FlowMap
from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights
from . import build


def load_flow_map(path: str | Path, device: str = "cpu") -> FlowMap:
    """The trained flow map in `path`; raises CheckpointError when the file is absent, damaged or foreign.

    >>> flow_map = load_flow_map("seed-0.safetensors")
    >>> jumps(flow_map, torch.randn(8, 2), steps=1).points.shape
    torch.Size([8, 2])
    """
    tensors, info = load_checkpoint(Path(path))
    if "network" not in info:
        raise CheckpointError(f"{path} is no trained flow map: its header names no network")
    try:
        flow_map = build(info["network"], tuple(info["shape"]))
    except (ValueError, TypeError, KeyError) as error:
        raise CheckpointError(f"{path} is no trained flow map ({error}): write it again") from None
    named = {name: value for name, value in tensors.items() if name.startswith("weights.")}
    load_weights(flow_map, {name.removeprefix("weights."): named[name] for name in named}, Path(path))
    return flow_map.to(device).requires_grad_(False).eval()
