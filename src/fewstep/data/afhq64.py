"""Animal faces (AFHQ, version 2) at 64x64: all 15,803 images of 512x512, train and test, shrunk.

Taking both parts is the usual choice for generation at 64x64; what arXiv 2505.18825 took is not on
record here. Half of what is drawn is mirrored.
"""

from __future__ import annotations

import numpy as np

from .formats.archives import Archive, folder_of
from .formats.image_folder import check_folder, read_folder
from .images import ImagesOnFirstUse

COUNT, PUBLISHED, SIDE = 15_803, (512, 512), 64
HOME = (
    "AFHQ version 2 (afhq_v2.zip, unpacked, the folders train and test) "
    "from https://github.com/clovaai/stargan-v2"
)


def _archive() -> Archive:
    return Archive(folder_of("afhq64"), HOME)


def pixels() -> np.ndarray:
    """The images, (15803, 3, 64, 64), uint8, memory-mapped; raises as `read_folder`."""
    count = _archive().count("train", COUNT)
    return read_folder(_archive(), SIDE, PUBLISHED[0], count=count, published=PUBLISHED)


def check(checksums: bool = True) -> None:
    """Raise as `check_folder` where the images are not the published ones."""
    check_folder(_archive(), checksums, COUNT)


SOURCE = ImagesOnFirstUse("afhq64", (3, SIDE, SIDE), True, pixels)
