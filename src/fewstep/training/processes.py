"""One training run on several processes, each with a GPU or a core of its own.

Every process draws the same whole batch from the same generator and computes its share of every term; the
gradients are summed before the step. The result is that of one process up to the order of a batch's sum,
except for what the samples of a batch share (reflow's `times`, the minibatch statistic of a discriminator of
latents), which is shared within a process. The main process writes all files, and all resume from its state.

The network stays bare: DistributedDataParallel's wrapper breaks forward-mode derivatives (pytorch#182661).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, distributed


def require_cuda(count: int = 1) -> None:
    """Raise RuntimeError unless `count` CUDA devices can be used."""
    if not torch.cuda.is_available():
        problem = (
            "this tier computes on CUDA (`compute.device: cuda` in params.yaml) and no CUDA device is visible"
        )
        cure = "run it on a machine with a GPU and a CUDA build of torch, or choose another tier"
        raise RuntimeError(f"{problem}: {cure} with `python -m fewstep tier laptop`")
    if (visible := torch.cuda.device_count()) < count:
        wanted = f"this tier trains on {count} GPUs (`processes: {count}` in params.yaml)"
        raise RuntimeError(f"{wanted} and {visible} are visible: lower `processes`")


@dataclass(frozen=True)
class Processes:
    """This process, `rank`, among the `count` that train one network; process 0 is the main one."""

    rank: int = 0
    count: int = 1

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def share(self, start: int, size: int) -> tuple[int, int]:
        """This process's part, first..stop-1, of the samples start..start+size-1, as even as can be."""
        return start + size * self.rank // self.count, start + size * (self.rank + 1) // self.count

    def sum(self, loss: Tensor, parameters: Sequence[Tensor]) -> Tensor:
        """The sum of all processes' `loss`, a scalar; the gradients of `parameters` are summed in place.

        Every process must call it, with parameters of the same shapes and one type; all get the same bits.
        """
        if self.count == 1:
            return loss
        for p in parameters:
            if p.grad is None:
                p.grad = torch.zeros_like(p)
        # in one bucket: a message has its cost, however small
        bucket = torch.cat([loss.detach().reshape(1), *(p.grad.reshape(-1) for p in parameters)])
        distributed.all_reduce(bucket)
        total, *sums = bucket.split([1, *(p.numel() for p in parameters)])
        for p, summed in zip(parameters, sums):
            p.grad.copy_(summed.view_as(p))
        return total[0]

    def wait(self) -> None:
        if self.count > 1:
            from accelerate import PartialState

            PartialState().wait_for_everyone()


def join(device: str) -> Processes:
    """The place that the environment gives this process: gloo on "cpu", nccl and a GPU of its own on "cuda".

    The environment is set by torchrun, `accelerate launch` or `pool.spread`; without it the process is alone.
    """
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu")
    return Processes(state.process_index, state.num_processes)
