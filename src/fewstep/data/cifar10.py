"""CIFAR-10: the 50,000 training images of the published binary archive, 32x32 RGB; half of what is drawn is mirrored."""

from __future__ import annotations

import numpy as np

from .archives import folder_of, read_cifar10
from .images import ImagesOnFirstUse


def pixels(part: str = "train") -> np.ndarray:
    """The images, (50000, 3, 32, 32) or 10,000 for 'test', uint8, memory-mapped; raises as `read_cifar10`."""
    return read_cifar10(folder_of("cifar10") / "cifar-10-binary.tar.gz", part)


SOURCE = ImagesOnFirstUse("cifar10", (3, 32, 32), True, pixels)
