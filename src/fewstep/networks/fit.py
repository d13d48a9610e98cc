"""The training loop of the small networks that measure: a classifier, a probe."""

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


def fit(
    make: Callable[[], Network], loss_of: Callable[[Network, torch.Generator], Tensor], steps: int, seed: int,
    rate: float, tick: Callable[[int], None] | None,
) -> Network:  # fmt: skip
    """The network that `make()` draws from `seed`, trained for `steps`, frozen and in eval mode.

    It minimises `loss_of(network, generator)`, whose batch the generator draws, by Adam with a rate that
    falls linearly to zero. `tick(step)` is called every 20 steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
    for step in range(steps):
        loss = loss_of(network, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimiser.step()
        if tick and step % 20 == 0:
            tick(step)
    return network.requires_grad_(False).eval()
