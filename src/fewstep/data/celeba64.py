"""CelebA at 64x64: the 202,599 aligned and cropped images, of which the centred 148x148 square is shrunk.

The square of 148 pixels is the usual one (the face without most of the background); which one arXiv
2505.18825 took is not on record here. Half of what is drawn is mirrored.
"""

from __future__ import annotations

import numpy as np

from .formats.archives import Archive, folder_of
from .formats.image_folder import check_folder, read_folder
from .images import ImagesOnFirstUse

COUNT, PUBLISHED, CROP, SIDE = 202_599, (178, 218), 148, 64
HOME = (
    "CelebA's aligned and cropped images (img_align_celeba.zip, unpacked) "
    "from https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
)


def _archive() -> Archive:
    return Archive(folder_of("celeba64"), HOME)


def pixels() -> np.ndarray:
    """The images, (202599, 3, 64, 64), uint8, memory-mapped; raises as `read_folder`."""
    count = _archive().count("train", COUNT)
    return read_folder(_archive(), SIDE, CROP, count=count, published=PUBLISHED)


def check(checksums: bool = True) -> None:
    """Raise as `check_folder` where the images are not the published ones."""
    check_folder(_archive(), checksums, COUNT)


SOURCE = ImagesOnFirstUse("celeba64", (3, SIDE, SIDE), True, pixels)
