"""Flow maps, batches and captions, each twice: on the device, and as the reference on the CPU."""

from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from fewstep import networks
from fewstep.flows.conditioning import Conditions
from fewstep.flows.flow_map import FlowMap
from fewstep.flows.interpolants import Batch

F64 = torch.float64
MLP = {
    "kind": "mlp", "width": 32, "depth": 3, "activation": "silu", "frequencies": [1, 2],
    "time_frequencies": [1],
}  # fmt: skip
UNET = {
    "kind": "unet", "channels": [8, 16], "layers": 1, "attention": [False, True], "groups": 4,
    "time_scale": 10.0,
}  # fmt: skip
ADM = {"kind": "adm", "width": 32, "multipliers": [1, 1], "blocks": 1, "attention": [2], "heads": 2}
EDM2 = {"kind": "edm2", "width": 16, "multipliers": [1, 2], "blocks": 1, "attention": [2], "data_std": 0.5}
CAPTIONED = {
    "channels": [8, 16], "layers": 1, "attention": [False, True], "heads": 2, "groups": 4, "width": 16,
}  # fmt: skip
TEXT = {"kind": "text_unet", "time_scale": 10.0, "text_layers": 1, **CAPTIONED}
PUBLISHED = {"kind": "published_unet", "checkpointing": True, **CAPTIONED}
# the shape of a point, and the sizes, of a small network of every kind
SMALL: dict[str, tuple[tuple[int, ...], dict[str, Any]]] = {
    "mlp": ((2,), MLP), "unet": ((1, 8, 8), UNET), "adm": ((4, 8, 8), ADM), "text_unet": ((4, 8, 8), TEXT),
    "published_unet": ((4, 8, 8), PUBLISHED), "edm2": ((1, 8, 8), EDM2),
}  # fmt: skip


def perturb(flow_map: FlowMap, seed: int) -> FlowMap:
    """`flow_map`, wherever it is, with the same small numbers added to all its weights: none is left zero."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in flow_map.parameters():
            weight.add_(0.1 * torch.randn(weight.shape, generator=generator).to(weight.device))
    return flow_map


def twice(kind: str, device: str, seed: int = 0, dtype: torch.dtype = F64) -> tuple[FlowMap, FlowMap]:
    """The small network of a kind on `device`, and the same weights on the CPU as `dtype`."""
    shape, sizes = SMALL[kind]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        built = perturb(networks.build(sizes, shape), seed)
    return copy.deepcopy(built).to(device), built.to(dtype)


def batch(shape: tuple[int, ...], count: int = 8) -> Batch:
    """Noise, data and times s < t, apart by a fifth at least, in single precision on the CPU."""
    generator = torch.Generator().manual_seed(1)
    x0, x1 = torch.randn(2, count, *shape, generator=generator)
    s, t, g = torch.rand(3, count, generator=generator)
    return Batch(x0, x1, 0.4 * s, 0.6 + 0.4 * t, g)


def moved(drawn: Batch, to: str | torch.dtype) -> Batch:
    """The batch on another device or in another precision."""
    return replace(drawn, **{name: getattr(drawn, name).to(to) for name in ("x0", "x1", "s", "t", "g")})


def captions(count: int = 8) -> Conditions:
    """Captions of 2 to 5 tokens of 16 numbers."""
    generator = torch.Generator().manual_seed(2)
    mask = torch.arange(5) < torch.randint(2, 6, (count, 1), generator=generator)
    return Conditions(torch.randn(count, 5, 16, generator=generator), mask)


def off(found: Tensor, reference: Tensor) -> float:
    """The norm of the difference over that of the reference."""
    found, reference = found.detach().cpu().to(F64), reference.detach().to(F64)
    return float((found - reference).norm() / reference.norm())


def gradient(value: Tensor, flow_map: FlowMap) -> Tensor:
    """The gradient of a scalar in all weights, (weights,)."""
    weights = list(flow_map.parameters())
    found = torch.autograd.grad(value, weights, allow_unused=True)
    return torch.cat([(torch.zeros_like(w) if g is None else g).flatten() for w, g in zip(weights, found)])
