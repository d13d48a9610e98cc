"""Networks, one architecture a file, called as network(s, t, x) for v_{s,t}(x); never a data set.

A network of kind `mlp` is what `fewstep.networks.mlp.build(shape, **sizes)` returns.
"""

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from ..flows.flow_map import DataPredictionFlowMap, FlowMap, NetworkFlowMap
from . import torchvision_operators  # noqa: F401 - before what is here imports diffusers or transformers

if TYPE_CHECKING:
    from .autoencoder import Autoencoder

# by what a network predicts
FLOW_MAPS = {"velocity": NetworkFlowMap, "data": DataPredictionFlowMap}
# how torch and diffusers fail at sizes of a wrong type or that are absurd
ODD = (TypeError, KeyError, AttributeError, IndexError, ArithmeticError, MemoryError, RuntimeError)


def kinds() -> list[str]:
    """The networks there are: the files here that can build one."""
    files = Path(__file__).parent.glob("*.py")
    return sorted(path.stem for path in files if "\nbuild = " in path.read_text(encoding="utf-8"))


def load_decoder(folder: Path, device: torch.device) -> "Autoencoder":
    """The autoencoder in `folder` on `device`, which decodes latents; raises as `autoencoder.load`."""
    from . import autoencoder  # here, and not above: diffusers takes seconds to load

    return autoencoder.load(folder, device)


def build(settings: Mapping[str, Any], shape: tuple[int, ...]) -> FlowMap:
    """The flow map whose network `settings` describes (`kind`, its sizes, `predicts`), for points of `shape`.

    Raises ValueError for an unknown kind, sizes that are none, or a shape that the network cannot take.
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
