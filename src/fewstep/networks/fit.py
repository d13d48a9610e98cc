"""The training loop of the small networks that measure: a classifier, a probe."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


def fit(
    network: nn.Module,
    loss_of: Callable[[torch.Generator], Tensor],
    steps: int,
    seed: int,
    rate: float,
    tick: Callable[[int], None] | None,
) -> None:
    """Minimise `loss_of(generator)`, a scalar of a batch that the generator draws, for `steps`; leaves the network frozen, in eval mode.

    Adam with a rate that falls to zero along a straight line. `tick(step)` is called now and then.
    """
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
    for step in range(steps):
        loss = loss_of(generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimiser.step()
        if tick and step % 20 == 0:
            tick(step)
    network.requires_grad_(False).eval()
