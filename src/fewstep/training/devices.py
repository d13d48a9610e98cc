"""Accelerators: asked for by name, and refused in one sentence where there is none."""

from __future__ import annotations

import torch


def require_cuda(count: int = 1) -> None:
    """Raise RuntimeError unless `count` CUDA devices can be used."""
    if not torch.cuda.is_available():
        raise RuntimeError(
            "this tier computes on CUDA (`compute.device: cuda` in params.yaml) and no CUDA device is visible: run it on a "
            "machine with a GPU and a CUDA build of torch, or choose another tier with `python -m fewstep tier laptop`"
        )
    if torch.cuda.device_count() < count:
        raise RuntimeError(
            f"this tier trains on {count} GPUs (`processes: {count}` in params.yaml) and {torch.cuda.device_count()} are visible: "
            "lower `processes`"
        )
