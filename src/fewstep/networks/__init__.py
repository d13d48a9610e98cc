"""Networks that compute v_{s,t}(x), called as network(s, t, x), one file each.

A network of kind `mlp` is what `fewstep.networks.mlp.build(shape, **sizes)` returns.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

from ..flows.flow_map import FlowMap, NetworkFlowMap


def kinds() -> list[str]:
    """The networks there are: the files here that can build one."""
    return sorted(
        path.stem
        for path in Path(__file__).parent.glob("*.py")
        if "\ndef build(" in path.read_text() and path.stem != "__init__"
    )


def load_decoder(folder: Path, device: torch.device):
    """The autoencoder in `folder` on `device`, for latents to be decoded by; raises as `fewstep.networks.autoencoder.load`."""
    from . import autoencoder  # here, and not above: diffusers takes seconds to load

    return autoencoder.load(folder, device)


def build(settings: Mapping[str, Any], shape: tuple[int, ...]) -> FlowMap:
    """The flow map whose network `settings` describes (`kind` and its sizes), for points of `shape`.

    Raises ValueError for an unknown kind or points of a shape that the network cannot take.
    """
    sizes = {key: value for key, value in settings.items() if key != "kind"}
    if settings["kind"] not in kinds():
        raise ValueError(f"there is no network '{settings['kind']}'; there are {', '.join(kinds())}")
    return NetworkFlowMap(import_module(f"{__name__}.{settings['kind']}").build(shape, **sizes))
