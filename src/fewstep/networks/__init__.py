"""Networks that compute v_{s,t}(x), called as network(s, t, x)."""

from __future__ import annotations

from typing import Any, Mapping

from ..flow_map import FlowMap, NetworkFlowMap
from .mlp import MLP


def build(settings: Mapping[str, Any], shape: tuple[int, ...]) -> FlowMap:
    """The flow map whose network `settings` describes (`kind` and its sizes), for points of `shape`.

    Raises ValueError for an unknown kind or points of a shape that the network cannot take.
    """
    sizes = {key: value for key, value in settings.items() if key != "kind"}
    if settings["kind"] != "mlp":
        raise ValueError(f"there is no network '{settings['kind']}'; there is mlp")
    if len(shape) != 1:
        raise ValueError(f"an mlp takes points of shape (dim,), not {tuple(shape)}")
    return NetworkFlowMap(MLP(shape[0], **sizes))
