"""CelebA at 64x64: the 202,599 aligned and cropped images, of which the centred 140x140 square is shrunk.

That is the square of arXiv 2505.18825's code, which mirrors nothing.
"""

from .formats.archives import Archive
from .formats.pictures import ImageFolder
from .images import Images

COUNT, SIDE = 202_599, 64
ADDRESS = "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"
HOME = f"CelebA's aligned and cropped images (img_align_celeba.zip, unpacked) from {ADDRESS}"
FOLDER = ImageFolder(Archive("celeba64", HOME), COUNT, published=(178, 218), crop=140, side=SIDE)
SOURCE = Images("celeba64", (3, SIDE, SIDE), False, FOLDER.pixels)

check = FOLDER.check
