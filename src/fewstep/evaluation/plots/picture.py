"""A figure that carries the numbers drawn in it, so that a test can compare pictures; its lines and axes."""

import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zlib import crc32

import matplotlib
import numpy as np
import pandas as pd
import yaml
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import LinearSegmentedColormap, hsv_to_rgb, to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, NullLocator
from PIL import Image

# a vendor type: JupyterLab shows plain application/json as a tree, in the place of the picture
NUMBERS = "application/vnd.fewstep.numbers+json"
DPI = 100
# arrays of samples by row of a picture and by column, "N = ..."
Panels = Mapping[str, Mapping[str, np.ndarray]]
INK = LinearSegmentedColormap.from_list("ink", ["#ffffff", "#c7d7ea", "#4a7fb5", "#163a5f"])
COLOURS = yaml.safe_load(Path(__file__).with_name("colours.yaml").read_text(encoding="utf-8"))
METHODS, VARIANTS = COLOURS["methods"], COLOURS["variants"]
DASHES = ("--", "-.", ":", (0, (8, 2)))
STYLE: dict[Any, Any] = {"axes.spines.top": False, "axes.spines.right": False}
STYLE |= {"axes.grid": True, "grid.color": "#e6e6e6", "axes.axisbelow": True}


def stroke(label: str) -> dict[str, Any]:
    """Colour and line style of a method, by its label alone: a variant "SI, heun" is a dashed shade of "SI".

    A method or a variant that is not listed above takes its hue or its shade from the checksum of its name.
    """
    method, _, variant = label.partition(", ")
    turn = 0.618034  # by the golden ratio, steps of any number spread evenly
    known = {name.lower(): colour for name, colour in METHODS.items()}.get(method.lower())
    colour = to_rgb(known) if known else hsv_to_rgb((crc32(method.encode()) * turn % 1, 0.9, 0.65))
    if not variant:
        return {"color": to_hex(colour), "ls": "-"}
    k = VARIANTS.index(variant) if variant in VARIANTS else crc32(variant.encode()) % 997
    light = 0.15 + 0.5 * (k * turn % 1)
    return {"color": to_hex((1 - light) * np.array(colour) + light), "ls": DASHES[k % len(DASHES)]}


def line_panels(
    width: float, height: float, rows: int = 1, columns: int = 1, **options: Any
) -> tuple[Figure, Any]:
    """A figure of that size in inches and its axes (rows, columns), in the style of the line plots."""
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(width, height))
        return figure, figure.subplots(rows, columns, squeeze=False, **options)


def cell_line(axis: Axes, line: pd.DataFrame, x: str, label: str, **look: Any) -> list[list[float]]:
    """Draw `value` with its deviation `sd` against the column `x`; returns [nfe, value] of every cell."""
    look = stroke(label) | {"marker": "o", "lw": 1.5, "capsize": 2} | look
    axis.errorbar(line[x], line.value, yerr=line.sd.fillna(0), label=label, **look)
    return [[int(n), round(float(v), 4)] for n, v in zip(line.nfe, line.value)]


def log_ticks(axis: Axis, most: int = 8) -> None:
    """Three to `most` numbers on a logarithmic axis, however many decades it spans, and no minor ticks."""
    low, high = axis.get_view_interval()
    decades = 10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high) + 1)
    choices = [np.outer(decades, digits).ravel() for digits in ((1,), (1, 3), (1, 2, 5))]
    for ticks in (*choices, np.asarray(MaxNLocator(5).tick_values(low, high))):
        ticks = ticks[(low <= ticks) & (ticks <= high)]
        if len(ticks) >= 3:
            break
    ticks = ticks[:: -(-len(ticks) // most)]
    powers = high > 1e5 * low
    axis.set_ticks(ticks, labels=[f"$10^{{{np.log10(t):.0f}}}$" if powers else f"{t:g}" for t in ticks])
    axis.set_minor_locator(NullLocator())


def legend_beside(axes: Axes, handles: Iterable[Any] | None = None, title: str | None = None) -> None:
    """A legend at the right of the axes, over no line."""
    handles = axes.get_legend_handles_labels()[0] if handles is None else list(handles)
    look: dict[str, Any] = {"frameon": False, "handlelength": 3, "markerscale": 0.8, "fontsize": 8}
    look |= {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "borderaxespad": 0, "title_fontsize": 8}
    axes.legend(handles=handles, title=title, **look)


def steps(column: str) -> int:
    """The number in the name of a column, "N = 4"."""
    return int(column.split()[-1])


@dataclass(frozen=True)
class Picture:
    """A figure and the numbers drawn in it (JSON-able); Jupyter shows the first and keeps the second.

    `alt` says in words what is drawn. `palette` is the number of colours in the file of a sheet of images;
    0 keeps them all, as a picture must whose colours name methods.
    """

    figure: Figure
    numbers: Mapping[str, Any]
    title: str
    alt: str = ""
    palette: int = 0

    def png(self) -> bytes:
        raw, file = io.BytesIO(), io.BytesIO()
        # no Software entry: the file must not change with matplotlib's version alone
        self.figure.savefig(raw, format="png", dpi=DPI, bbox_inches="tight", metadata={"Software": None})
        image = Image.open(raw).convert("RGB")
        if self.palette:
            image = image.quantize(self.palette, kmeans=1)
        image.save(file, format="png", optimize=True)
        return file.getvalue()

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict, dict]:
        data = {"image/png": self.png(), "text/plain": f"Picture: {self.title}"}
        data[NUMBERS] = json.loads(json.dumps(self.numbers), parse_constant=str)  # "NaN" is no JSON
        return data, {"image/png": {"alt": self.alt or self.title}}
