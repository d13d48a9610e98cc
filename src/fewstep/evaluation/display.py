"""What notebooks show: every table through one function, and a slider where somebody can move it."""

import os
from collections.abc import Callable
from html import escape
from numbers import Integral, Real

import numpy as np
import pandas as pd
from IPython.display import HTML, display

from ..storage.workspace import PIPELINE

DIGITS = 4
# text to the left and numbers to the right, wrapped where it is wide
LEFT, RIGHT = "text-align: left; white-space: normal", "text-align: right"


def _text(value: object) -> str:
    """A cell: a float at four significant digits, nothing for what is missing."""
    if value is None or value is pd.NA or (isinstance(value, float) and np.isnan(value)):
        return ""
    if isinstance(value, Real) and not isinstance(value, Integral) and np.isfinite(value):
        value, rounded = f"{value:.{DIGITS}g}", float(f"{value:.{DIGITS}g}")
        if rounded == 0 or 1e-4 <= abs(rounded) < 1e7:
            value = np.format_float_positional(rounded, trim="-")
    return escape(str(value), quote=False)


def _line(cells: list[str], styles: list[str], index: int, head: bool) -> str:
    tags = ["th" if head or k < index else "td" for k in range(len(cells))]
    parts = [f'<{tag} style="{style}">{cell}</{tag}>' for tag, style, cell in zip(tags, styles, cells)]
    return f"<tr>{''.join(parts)}</tr>"


def show_table(frame: pd.DataFrame, caption: str | None = None) -> HTML:
    """A table for a notebook: floats at four significant digits, NaN empty, no running index."""
    counted = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    index = 0 if counted else frame.index.nlevels
    if caption is None and frame.columns.name is not None:
        caption = str(frame.columns.name)
    columns = [frame.index.get_level_values(k) for k in range(index)]
    columns += [frame.iloc[:, k] for k in range(frame.shape[1])]
    styles = [RIGHT if pd.api.types.is_numeric_dtype(column.dtype) else LEFT for column in columns]
    names = [name or "" for name in frame.index.names[:index]]
    names += [", ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
    head = _line([escape(str(name), quote=False) for name in names], styles, index, head=True)
    body = [_line([_text(v) for v in row], styles, index, head=False) for row in zip(*columns)]
    title = "" if caption is None else f"<caption>{escape(caption)}</caption>"
    return HTML(f"<table>{title}<thead>{head}</thead><tbody>{''.join(body)}</tbody></table>")


def slider(show: Callable[[int], object], low: int, high: int) -> object:
    """The picture `show(N)` under a slider over N = low..high; in the pipeline, the picture at `low`."""
    if os.environ.get(PIPELINE):
        return show(low)
    import ipywidgets  # here, and not above: one notebook alone has a slider

    chosen = ipywidgets.IntSlider(low, low, high, continuous_update=False)
    ipywidgets.interact(lambda N: display(show(N)), N=chosen)
    return None
