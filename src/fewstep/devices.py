"""Accelerators: asked for by name, and refused in one sentence where there is none."""

from __future__ import annotations

import torch


def require_cuda() -> None:
    """Raise RuntimeError unless a CUDA device can be used."""
    if not torch.cuda.is_available():
        raise RuntimeError(
            "this tier computes on CUDA (`compute.device: cuda` in params.yaml) and no CUDA device is visible: run it on a "
            "machine with a GPU and a CUDA build of torch, or choose another tier with `python -m fewstep tier laptop`"
        )
