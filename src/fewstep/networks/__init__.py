"""Networks, one architecture a file, called as network(s, t, x) for v_{s,t}(x); never a data set.

A network of kind `mlp` is what `fewstep.networks.mlp.build(shape, **sizes)` returns.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..flows.flow_map import DataPredictionFlowMap, FlowMap, NetworkFlowMap
from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights, with_prefix
from . import torchvision_operators  # noqa: F401 - before what is here imports diffusers or transformers

# by what a network predicts
FLOW_MAPS = {"velocity": NetworkFlowMap, "data": DataPredictionFlowMap}
# how torch and diffusers fail at sizes of a wrong type or that are absurd
ODD = (TypeError, KeyError, AttributeError, IndexError, ArithmeticError, MemoryError, RuntimeError)


def kinds() -> list[str]:
    """The networks there are: the files here that can build one."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(path.stem for path in files if "\nbuild = " in path.read_text(encoding="utf-8"))


def load_decoder(folder: Path, device: torch.device) -> nn.Module:
    """The Autoencoder in `folder` on `device`, which decodes latents; raises as `autoencoder.load`."""
    from . import autoencoder  # here, and not above: diffusers takes seconds to load

    return autoencoder.load(folder, device)


def build(settings: Mapping[str, Any], shape: tuple[int, ...]) -> FlowMap:
    """The flow map whose network `settings` describes (`kind`, its sizes, `predicts`), for points of `shape`.

    Raises ValueError for what makes no network on it.
    """
    kind = settings.get("kind") if isinstance(settings, Mapping) else None
    if kind not in kinds():
        raise ValueError(f"there is no network {kind!r}; there are {', '.join(kinds())}")
    sizes = {key: value for key, value in settings.items() if key not in ("kind", "predicts")}
    predicts = settings.get("predicts", "velocity")
    if predicts not in FLOW_MAPS:
        raise ValueError(f"a network predicts one of {', '.join(FLOW_MAPS)}, not {predicts!r:.80}")
    try:
        return FLOW_MAPS[predicts](import_module(f"{__name__}.{kind}").build(shape, **sizes))
    except ODD as error:
        why = f"are no settings of a network ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        raise ValueError(f"{dict(settings)} for points of shape {shape} {why}") from None


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
    load_weights(flow_map, with_prefix(tensors, "weights."), Path(path))
    return flow_map.to(device).requires_grad_(False).eval()


def filled(values: Tensor, *sizes: int) -> Iterator[tuple[Tensor, int]]:
    """`values` (count, ...), the least of `sizes` at a time, and how many of each part count.

    The last is filled up with zeros: sums over another number of rows may be taken in another order.
    """
    size = max(min(sizes), 1)
    for part in values.split(size):
        yield torch.cat([part, part.new_zeros(size - len(part), *part.shape[1:])]), len(part)


def zeroed(layer: nn.Module) -> nn.Module:
    """`layer` itself, its weights and bias set to zero."""
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)
    return layer
