"""Captions and what methods draw for them: a row a caption, a block of columns a method."""

from collections.abc import Sequence
from textwrap import fill

from .images import ABOVE, BLOCK_GAP, GAP, PALETTE, TEXT, sheet, tiled
from .picture import Panels, Picture

# the width of the captions, in pixels and in letters
CAPTION, LETTERS = 250, 38


def rows_of_captions(panels: Panels, captions: Sequence[str], title: str) -> Picture:
    """One row a caption; of each key of `panels` one block of columns, an inner key "N = ..." a column.

    Arrays as for `grid`, image k of the k-th caption. Raises ValueError for fewer images than captions.
    """
    panels = {label: own for label, own in panels.items() if own}
    if not captions or not panels:
        raise ValueError("a picture of captions shows one caption and one method at least")
    blocks, texts, numbers, left = {}, [], {}, CAPTION
    for label, own in panels.items():
        texts.append((left, TEXT - 8, label, {"ha": "left", "va": "bottom", "fontsize": 10}))
        for column, images in own.items():
            name = f"{label}, {column}"
            if len(images) < len(captions):
                raise ValueError(f"{name}: there are {len(images)} images for {len(captions)} captions")
            strip, numbers[name] = tiled(images[: len(captions)], name, across=1)
            blocks[name] = left, 2 * TEXT, strip
            texts.append((left + strip.shape[1] / 2, 2 * TEXT - 6, column, ABOVE | {"fontsize": 8}))
            left += strip.shape[1] + GAP
        left += BLOCK_GAP - GAP
    high = strip.shape[0] + GAP
    for k, caption in enumerate(captions):
        middle = 2 * TEXT + (k + 0.5) * high / len(captions) - GAP / 2
        texts.append((0, middle, fill(caption, LETTERS), {"ha": "left", "va": "center", "fontsize": 8}))
    alt = f"{title}: images of {len(captions)} captions, a column each of {'; '.join(numbers)}"
    size = left - BLOCK_GAP, 2 * TEXT + high - GAP
    return Picture(sheet(size, blocks, texts), numbers, title, alt, PALETTE)
