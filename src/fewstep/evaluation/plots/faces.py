"""One noise, several numbers of steps: whether a method's images stay the same, to be seen at a glance."""

from .images import BESIDE, BLOCK_GAP, GAP, PALETTE, TEXT, sheet, tiled
from .picture import Panels, Picture, steps

INDENT = 8


def rows_of_faces(panels: Panels, title: str, count: int = 8) -> Picture:
    """One block a key with its name above; in it one row an inner key "N = ...", from few steps to many.

    Arrays as for `grid`, of which the first `count` are drawn: a column is one noise down to the bottom.
    """
    panels = {label: rows for label, rows in panels.items() if rows}
    if count < 1 or not panels:
        raise ValueError("a picture of faces shows one image at least")
    blocks, texts, numbers, top = {}, [], {}, 0
    for label, rows in panels.items():
        top += TEXT + (BLOCK_GAP if blocks else 0)
        texts.append((0, top - 6, label, {"ha": "left", "va": "bottom", "fontsize": 11}))
        for column in sorted(rows, key=steps):
            name = f"{label}, {column}"
            strip, numbers[name] = tiled(rows[column][:count], name, count)
            blocks[name] = 0, top, strip
            # outside the figure, which grows to hold it when it is saved
            texts.append((-INDENT, top + strip.shape[0] / 2, column, BESIDE | {"fontsize": 9}))
            top += strip.shape[0] + GAP
    width = max(strip.shape[1] for *_, strip in blocks.values())
    alt = f"{title}: images from the same {count} noises, a row each of {'; '.join(numbers)}"
    return Picture(sheet((width, top - GAP), blocks, texts), numbers, title, alt, PALETTE)
