"""CelebA at 64x64: the 202,599 aligned and cropped images, of which the centred 148x148 square is shrunk.

That square is the usual one; which arXiv 2505.18825 took is not on record here. Half of what is drawn is
mirrored.
"""

import numpy as np

from .formats.archives import Archive, folder_of
from .formats.image_folder import check_folder, read_folder
from .images import Images

COUNT, PUBLISHED, CROP, SIDE = 202_599, (178, 218), 148, 64
HOME = (
    "CelebA's aligned and cropped images (img_align_celeba.zip, unpacked) "
    "from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
)


def pixels() -> np.ndarray:
    """The images, (202599, 3, 64, 64), uint8, memory-mapped; raises as `read_folder`."""
    archive = Archive(folder_of("celeba64"), HOME)
    return read_folder(archive, SIDE, CROP, count=COUNT, published=PUBLISHED)


def check(checksums: bool = True) -> None:
    """Raise as `check_folder` where the images are not the published ones."""
    check_folder(Archive(folder_of("celeba64"), HOME), checksums, COUNT)


SOURCE = Images("celeba64", (3, SIDE, SIDE), True, pixels)
