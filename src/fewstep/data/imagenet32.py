"""ImageNet at 32x32: the 1,281,167 training images of the published npz batches; half of what is drawn is mirrored."""

from __future__ import annotations

import numpy as np

from .archives import folder_of, read_imagenet32
from .images import ImagesOnFirstUse


def pixels(part: str = "train") -> np.ndarray:
    """The images, (1281167, 3, 32, 32) or 50,000 for 'val', uint8, memory-mapped; raises as `read_imagenet32`."""
    return read_imagenet32(folder_of("imagenet32"), part)


SOURCE = ImagesOnFirstUse("imagenet32", (3, 32, 32), True, pixels)
