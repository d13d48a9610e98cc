"""Images side by side as a PNG, pixel for pixel, which is written over nothing but an older one."""

import io
from math import ceil, sqrt
from pathlib import Path

from PIL import Image, PngImagePlugin

from ..storage.files import target, write_atomically

# pixels between images, and the smallest side that an image is shown at
GAP, SMALLEST = 2, 64
# the text in a PNG that tells a picture written here from any other
KEY = "fewstep"


def sheet(images: list[Image.Image]) -> Image.Image:
    """Equally large images row by row on white, as many across as down; pixels of small ones are squares."""
    across, by = ceil(sqrt(len(images))), ceil(SMALLEST / max(images[0].size))
    width, height = (by * side + GAP for side in images[0].size)
    rows = ceil(len(images) / across)
    whole = Image.new(images[0].mode, (across * width - GAP, rows * height - GAP), "white")
    for k, image in enumerate(images):
        square = image.resize((width - GAP, height - GAP), Image.Resampling.NEAREST)
        whole.paste(square, (k % across * width, k // across * height))
    return whole


def _is_own(path: Path) -> bool:
    try:
        with Image.open(path) as found:
            return KEY in found.info
    except Exception:  # Pillow has many ways to fail at a foreign file
        return False


def check_free(path: Path) -> Path:
    """Where a picture for `path` is written, links followed.

    Raises ValueError unless it is a .png, and no file of somebody else's.
    """
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} does not end with .png, and a picture is a PNG: name it so")
    return target(path, _is_own, "`python -m fewstep sample`", "name another file with --to", ValueError)


def write(path: Path, images: list[Image.Image], words: str) -> None:
    """Write `images` as one picture, atomically, with `words` in its header; raises as `check_free`."""
    place = check_free(path)
    said, file = PngImagePlugin.PngInfo(), io.BytesIO()
    said.add_text(KEY, words)
    sheet(images).save(file, format="png", optimize=True, pnginfo=said)
    write_atomically(place, file.getvalue())
