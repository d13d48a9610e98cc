"""CelebA at 64x64: the 202,599 aligned and cropped images, of which the centred 148x148 square is shrunk.

That square is the usual one; which arXiv 2505.18825 took is not on record. Half of what is drawn is mirrored.
"""

from .formats.archives import Archive
from .formats.pictures import ImageFolder
from .images import Images

COUNT, SIDE = 202_599, 64
ADDRESS = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
HOME = f"CelebA's aligned and cropped images (img_align_celeba.zip, unpacked) from {ADDRESS}"
FOLDER = ImageFolder(Archive("celeba64", HOME), COUNT, published=(178, 218), crop=148, side=SIDE)
SOURCE = Images("celeba64", (3, SIDE, SIDE), True, FOLDER.pixels)

check = FOLDER.check
