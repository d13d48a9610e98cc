"""Images as JPEG files, as SCFlow's official script stores them: quality 75, colour at half resolution."""

import io

import numpy as np
from PIL import Image

QUALITY = 75


def jpeg_bytes(image: np.ndarray, quality: int = QUALITY) -> bytes:
    """The JPEG file of one uint8 image (channels, height, width), 3 channels or 1, with levels 0..255."""
    file = io.BytesIO()
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture.save(file, format="jpeg", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def as_jpeg(images: np.ndarray, quality: int = QUALITY) -> np.ndarray:
    """uint8 `images` (count, 3 or 1, height, width), levels 0..255, as they come back from a JPEG file.

    Another build of libjpeg may round a few pixels by a level. Raises ValueError for images of another shape
    or type, and for a quality outside 1 to 95.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] not in (1, 3):
        other = f"{images.dtype} of {images.shape}"
        raise ValueError(f"JPEG takes uint8 images (count, 3 or 1, height, width), not {other}")
    if not 1 <= quality <= 95:
        raise ValueError(f"the quality of a JPEG file is 1 to 95, not {quality}")
    found = np.empty_like(images)
    for k, image in enumerate(images):
        read = np.asarray(Image.open(io.BytesIO(jpeg_bytes(image, quality))))
        found[k] = read.reshape(*image.shape[1:], image.shape[0]).transpose(2, 0, 1)
    return found
