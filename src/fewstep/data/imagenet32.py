"""ImageNet at 32x32: the 1,281,167 training images of the published npz batches; half of what is drawn is mirrored."""

from __future__ import annotations

import numpy as np

from ..storage import stand_in
from .formats.archives import IMAGENET32_COUNTS, check_imagenet32, folder_of, read_imagenet32
from .images import ImagesOnFirstUse

COUNT = IMAGENET32_COUNTS["train"]


def pixels(part: str = "train") -> np.ndarray:
    """The images, (1281167, 3, 32, 32) or 50,000 for 'val', uint8, memory-mapped; raises as `read_imagenet32`."""
    folder = folder_of("imagenet32")
    tiny = stand_in.read(folder)
    return read_imagenet32(folder, part, count=tiny.count(part) if tiny else None)


def check(checksums: bool = True) -> None:
    """Raise as `check_imagenet32` where the training batches are not the published ones."""
    check_imagenet32(folder_of("imagenet32"), checksums)


SOURCE = ImagesOnFirstUse("imagenet32", (3, 32, 32), True, pixels)
