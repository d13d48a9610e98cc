"""Batches of one fixed size: a network's sums over another number of rows may be taken in another order."""

from collections.abc import Iterator

import torch
from torch import Tensor


def filled(values: Tensor, size: int) -> Iterator[tuple[Tensor, int]]:
    """`values` (count, ...), `size` at a time, the last filled up with zeros, and how many of each count."""
    for part in values.split(size):
        yield torch.cat([part, part.new_zeros(size - len(part), *part.shape[1:])]), len(part)
