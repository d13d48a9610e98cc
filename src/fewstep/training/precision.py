"""How a training computes: on one thread, and what it may trade for speed on an accelerator.

The latter are settings, each optional in `training` of params.yaml:

precision      "fp32" throughout; "tf32": products and convolutions on a GPU's tensor cores; "bf16": the
               network under autocast, its weights, gradients, optimiser, EMA and losses in single precision
channels_last  the weights and inputs of a network for images with their channels innermost in memory
compile        a network's evaluation by torch.compile; not the pass of dual numbers, which it cannot trace
cuda_graphs    compiled evaluations replayed as CUDA graphs

The speed of TF32, compilation and CUDA graphs has not been measured.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import Tensor

from ..flows.flow_map import FlowMap
from ..settings.training import Training

MORE_MEMORY = "end other programs, or take a machine with more"


@contextmanager
def one_thread() -> Iterator[None]:
    """Run torch on one thread inside the block, so that sums are taken in one order on any machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


@contextmanager
def enough_memory(work: str, cure: str) -> Iterator[None]:
    """Raise torch.OutOfMemoryError, which says that `work` does not fit and the `cure`, where memory ends."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        # on a CPU torch raises a plain RuntimeError, which says so
        if isinstance(error, MemoryError | torch.OutOfMemoryError) or "can't allocate memory" in str(error):
            raise torch.OutOfMemoryError(f"{work} does not fit into memory: {cure}") from error
        raise


def prepared(flow_map: FlowMap, training: Training) -> FlowMap:
    """`flow_map`, its weights laid out and its network compiled in place; their names stay."""
    if training.channels_last:
        flow_map.to(memory_format=torch.channels_last)
    if training.compile:
        flow_map.network.compile(mode="reduce-overhead" if training.cuda_graphs else "default")
    return flow_map


def laid_out(images: Tensor, training: Training) -> Tensor:
    """`images` (batch, channels, height, width) in the network's memory layout; anything else as it is."""
    return images.contiguous(memory_format=torch.channels_last) if training.channels_last else images


def evaluating(training: Training, device: str) -> AbstractContextManager:
    """The context for one step's residuals on `device`; their backward pass belongs outside."""
    if training.cuda_graphs:
        torch.compiler.cudagraph_mark_step_begin()
    if training.precision == "bf16":
        # no cache of rounded weights: one rounded under no_grad would be found there without its gradient
        return torch.autocast(device, torch.bfloat16, cache_enabled=False)
    return nullcontext()


@contextmanager
def products(training: Training) -> Iterator[None]:
    """Set the precision of products and convolutions on a GPU inside the block, and restore it after."""
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
