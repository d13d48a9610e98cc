"""CIFAR-10: the 50,000 training images of the published binary archive, 32x32 RGB; half of what is drawn is mirrored."""

from __future__ import annotations

import numpy as np

from ..storage import stand_in
from .formats.archives import CIFAR10_FILES, check_cifar10, folder_of, read_cifar10
from .images import ImagesOnFirstUse

ARCHIVE, COUNT = "cifar-10-binary.tar.gz", 50_000


def pixels(part: str = "train") -> np.ndarray:
    """The images, (50000, 3, 32, 32) or 10,000 for 'test', uint8, memory-mapped; raises as `read_cifar10`."""
    path = folder_of("cifar10") / ARCHIVE
    tiny = stand_in.read(path.parent)
    if tiny:
        return read_cifar10(path, part, tiny.count(part) // len(CIFAR10_FILES[part]), tiny.md5)
    return read_cifar10(path, part)


def check(checksums: bool = True) -> None:
    """Raise as `check_cifar10` where the archive is not the published one."""
    check_cifar10(folder_of("cifar10") / ARCHIVE, checksums)


SOURCE = ImagesOnFirstUse("cifar10", (3, 32, 32), True, pixels)
