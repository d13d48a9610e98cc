"""What a training may trade for speed on an accelerator: the precision of products, the layout of images, compilation.

Each is a setting of `training` in params.yaml that nobody has to name; unnamed, nothing here changes a bit:

    precision      "fp32": IEEE single precision throughout; "tf32": products and convolutions on the tensor cores of a
                   GPU, with ten bits of mantissa; "bf16": the network evaluated under autocast, while its weights, its
                   gradients, the optimiser, the average and all losses stay in single precision. Unnamed, torch's own
                   choice: single precision, but for cuDNN's convolutions, which may use TF32
    channels_last  the weights and inputs of a network for images with their channels innermost in memory
    compile        a network's evaluation compiled by torch.compile. The pass of dual numbers (fewstep.networks.forward_mode.dual) is
                   not, since torch.compile does not trace it, so it is flow matching and teachers that may gain
    cuda_graphs    compiled evaluations replayed as CUDA graphs

TF32, compilation and CUDA graphs have not been measured: they want a GPU, and none was at hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap

if TYPE_CHECKING:
    from ..settings.training import Training


def prepared(flow_map: FlowMap, training: Training) -> FlowMap:
    """`flow_map` itself, its weights laid out and its network compiled in place; the names of its weights stay."""
    if training.channels_last:
        flow_map.to(memory_format=torch.channels_last)
    if training.compile:
        flow_map.network.compile(mode="reduce-overhead" if training.cuda_graphs else "default")
    return flow_map


def laid_out(images: Tensor, training: Training) -> Tensor:
    """`images` (batch, channels, height, width) as the network wants them in memory; anything else as it is."""
    return images.contiguous(memory_format=torch.channels_last) if training.channels_last else images


def evaluating(training: Training, device: str) -> AbstractContextManager:
    """The context for one step's residuals on `device`; their backward pass belongs outside, in the types that it finds."""
    if training.cuda_graphs:
        torch.compiler.cudagraph_mark_step_begin()
    if training.precision == "bf16":
        # no cache of rounded weights: what is first read under no_grad must not be found there without its gradient
        return torch.autocast(device, torch.bfloat16, cache_enabled=False)
    return nullcontext()


@contextmanager
def products(training: Training) -> Iterator[None]:
    """Round products and convolutions on a GPU as `training` says inside the block; the switches are put back after it."""
    if training.precision not in ("fp32", "tf32"):
        yield
        return
    # the older of torch's two sets of switches: torch.compile stops where the newer was used (pytorch#166387)
    switches = (torch.backends.cuda.matmul, torch.backends.cudnn)
    before = [switch.allow_tf32 for switch in switches]
    try:
        for switch in switches:
            switch.allow_tf32 = training.precision == "tf32"
        yield
    finally:
        for switch, value in zip(switches, before):
            switch.allow_tf32 = value
