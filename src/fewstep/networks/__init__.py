"""Networks that compute v_{s,t}(x), called as network(s, t, x), one file each.

A network of kind `mlp` is what `fewstep.networks.mlp.build(shape, **sizes)` returns.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Mapping

from ..flow_map import FlowMap, NetworkFlowMap

KINDS = ("mlp",)


def build(settings: Mapping[str, Any], shape: tuple[int, ...]) -> FlowMap:
    """The flow map whose network `settings` describes (`kind` and its sizes), for points of `shape`.

    Raises ValueError for an unknown kind or points of a shape that the network cannot take.
    """
    sizes = {key: value for key, value in settings.items() if key != "kind"}
    if settings["kind"] not in KINDS:
        raise ValueError(f"there is no network '{settings['kind']}'; there are {', '.join(KINDS)}")
    return NetworkFlowMap(import_module(f"{__name__}.{settings['kind']}").build(shape, **sizes))
