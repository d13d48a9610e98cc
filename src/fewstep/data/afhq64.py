"""Animal faces (AFHQ, version 2) at 64x64: all 15,803 images of 512x512, train and test, shrunk.

Which part arXiv 2505.18825 took is not on record here. Half of what is drawn is mirrored.
"""

import numpy as np

from .formats.archives import Archive, folder_of
from .formats.image_folder import check_folder, read_folder
from .images import Images

COUNT, PUBLISHED, SIDE = 15_803, (512, 512), 64
HOME = "AFHQ version 2 (afhq_v2.zip, unpacked, train and test) from https://github.com/clovaai/stargan-v2"


def pixels() -> np.ndarray:
    """The images, (15803, 3, 64, 64), uint8, memory-mapped; raises as `read_folder`."""
    archive = Archive(folder_of("afhq64"), HOME)
    return read_folder(archive, SIDE, PUBLISHED[0], count=COUNT, published=PUBLISHED)


def check(checksums: bool = True) -> None:
    """Raise as `check_folder` where the images are not the published ones."""
    check_folder(Archive(folder_of("afhq64"), HOME), checksums, COUNT)


SOURCE = Images("afhq64", (3, SIDE, SIDE), True, pixels)
