"""Images as PNG files, which keep every level."""

import io

import numpy as np
from PIL import Image


def as_png(images: np.ndarray) -> np.ndarray:
    """uint8 `images` (count, 3 or 1, height, width), levels 0..255, as they come back from a PNG file.

    Raises ValueError for images of another shape or type.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] not in (1, 3):
        other = f"{images.dtype} of {images.shape}"
        raise ValueError(f"PNG takes uint8 images (count, 3 or 1, height, width), not {other}")
    found = np.empty_like(images)
    for k, image in enumerate(images):
        file = io.BytesIO()
        picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
        # the least compression: the levels are the same, and the file is not kept
        picture.save(file, format="png", compress_level=1)
        read = np.asarray(Image.open(io.BytesIO(file.getvalue())))
        found[k] = read.reshape(*image.shape[1:], image.shape[0]).transpose(2, 0, 1)
    return found
