"""Animal faces (AFHQ, version 2) at 64x64: all 15,803 images of 512x512, train and test, shrunk.

So many does arXiv 2505.18825's code read; it mirrors nothing.
"""

from .formats.archives import Archive
from .formats.pictures import ImageFolder
from .images import Images

COUNT, SIDE = 15_803, 64
HOME = "AFHQ version 2 (afhq_v2.zip, unpacked, train and test) from https://github.com/clovaai/stargan-v2"
FOLDER = ImageFolder(Archive("afhq64", HOME), COUNT, published=(512, 512), crop=512, side=SIDE)
SOURCE = Images("afhq64", (3, SIDE, SIDE), False, FOLDER.pixels)

check = FOLDER.check
