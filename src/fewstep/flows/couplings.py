"""Couplings: which noise x0 goes with which data x1, in the place of independent draws."""

from dataclasses import replace

import torch
from torch import Tensor

from .flow_map import FlowMap
from .interpolants import Batch


def spread(first: int, count: int, share: float) -> Tensor:
    """Which of the samples first..first+count-1 of a batch are in a `share` of it, evenly spread, as indices.

    >>> spread(0, 8, 0.5)
    tensor([1, 3, 5, 7])
    """
    ends = torch.floor(torch.arange(first, first + count + 1, dtype=torch.float64) * share)
    return (ends[1:] > ends[:-1]).nonzero()[:, 0]


@torch.no_grad()
def regenerated(batch: Batch, rows: Tensor, flow_map: FlowMap) -> Batch:
    """The batch with x1 = sg[X_{s,1}(I_s)] in `rows`; noise and times stay (arXiv 2406.09570).

    A data point that the map itself makes of I_s lies closer to x0 than an independent one. `flow_map` takes
    the samples of `rows` alone.
    """
    if not len(rows):
        return batch
    s, start = batch.s[rows], batch.at(batch.s).point[rows]
    x1 = batch.x1.clone()
    x1[rows] = flow_map.jump(s, torch.ones_like(s), start).to(x1.dtype)
    return replace(batch, x1=x1)


def encoded(batch: Batch, mean: Tensor, log_variance: Tensor, scale: float) -> Batch:
    """The batch with x0 ~ N(scale mean, scale^2 e^log_variance), drawn from its own x0 (arXiv 2301.12003).

    `mean` and `log_variance` are an encoder's at x1, in units of the noise, whose deviation is `scale`: at
    zero the coupling is independent. Gradients pass to both.
    """
    return replace(batch, x0=scale * mean + torch.exp(log_variance / 2) * batch.x0)


def divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, diag e^log_variance) || N(0, 1)) = sum (mean^2 + e^l - 1 - l) / 2, (batch,).

    >>> divergence(torch.ones(1, 2), torch.zeros(1, 2))
    tensor([1.])
    """
    return (mean.square() + torch.expm1(log_variance) - log_variance).flatten(1).sum(1) / 2
