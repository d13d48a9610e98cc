"""Networks, one architecture a file, called as network(s, t, x) for v_{s,t}(x); never a data set.

A network of kind `mlp` is what `fewstep.networks.mlp.build(shape, **sizes)` returns.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..flows.flow_map import FlowMap, NetworkFlowMap

if TYPE_CHECKING:
    from .autoencoder import Autoencoder


def kinds() -> list[str]:
    """The networks there are: the files here that can build one."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(path.stem for path in files if "\nbuild = " in path.read_text(encoding="utf-8"))


def load_decoder(folder: Path, device: torch.device) -> "Autoencoder":
    """The autoencoder in `folder` on `device`, which decodes latents; raises as `autoencoder.load`."""
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
