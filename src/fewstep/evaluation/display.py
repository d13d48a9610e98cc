"""What notebooks show: every table through one function, and the losses of self-corrected distillation."""

from __future__ import annotations

import inspect
from html import escape
from numbers import Integral, Real

import numpy as np
import pandas as pd
from IPython.display import HTML

from ..objectives.scflow import losses
from ..settings.self_correction import AdversarialLoss, SelfCorrection

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
    """A row of a table, whose first `index` cells belong to its index."""
    tags = ["th" if head or k < index else "td" for k in range(len(cells))]
    parts = [f'<{tag} style="{style}">{cell}</{tag}>' for tag, style, cell in zip(tags, styles, cells)]
    return f"<tr>{''.join(parts)}</tr>"


def show_table(frame: pd.DataFrame, caption: str | None = None) -> HTML:
    """A table for a notebook: whole, floats at four significant digits, NaN empty, text left, numbers right.

    The index stands in the first columns, unless it only counts the rows without a name.
    """
    counted = isinstance(frame.index, pd.RangeIndex) and frame.index.name is None
    index = 0 if counted else frame.index.nlevels
    names = [] if counted else [name or "" for name in frame.index.names]
    if caption is None and frame.columns.name is not None:
        caption = str(frame.columns.name)
    keys = [] if counted else [frame.index.get_level_values(k).dtype for k in range(index)]
    styles = [RIGHT if pd.api.types.is_numeric_dtype(dtype) else LEFT for dtype in [*keys, *frame.dtypes]]
    heads = [", ".join(map(str, c)) if isinstance(c, tuple) else str(c) for c in frame.columns]
    rows = [_line([escape(str(cell), quote=False) for cell in [*names, *heads]], styles, index, head=True)]
    body = []
    for key, values in zip(frame.index, zip(*(frame.iloc[:, k] for k in range(frame.shape[1])))):
        own = [] if counted else list(key) if isinstance(key, tuple) else [key]
        body.append(_line([_text(value) for value in [*own, *values]], styles, index, head=False))
    title = "" if caption is None else f"<caption>{escape(caption)}</caption>"
    return HTML(f"<table>{title}<thead>{''.join(rows)}</thead><tbody>{''.join(body)}</tbody></table>")


_LOSSES = {
    "consistency": losses.truncated_consistency,
    "adversarial": losses.adversarial,
    "reflow": losses.reflow,
    "bidirectional": losses.bidirectional_consistency,
}


def loss_names(settings: SelfCorrection) -> list[str]:
    """The names of the student's losses that take part in self-corrected distillation."""
    return [name for name in _LOSSES if name == "consistency" or getattr(settings, name)]


def loss_source(settings: SelfCorrection) -> str:
    """The source of the losses that take part, as Markdown."""
    shown = [losses.moves, *(_LOSSES[name] for name in loss_names(settings))]
    shown += [losses.discriminator] if settings.adversarial else []
    source = "\n\n".join(inspect.getsource(function) for function in shown)
    return f"`fewstep/objectives/scflow/losses.py`\n\n```python\n{source}```"


def _discriminator(own: AdversarialLoss) -> str:
    network = f"widths {own.channels}" if own.channels else f"a head {own.head} wide"
    falling = " that falls as the student's" if own.schedule == "student" else ""
    return f"R1 gamma = {own.r1:g}, D's rate {own.lr:g}{falling}, momentum {own.beta1:g}, {network}"


def loss_settings(settings: SelfCorrection) -> pd.DataFrame:
    """The weight and the settings of each loss that takes part, losses down."""
    own = f"delta = {settings.threshold:g}, t_trunc = {settings.truncation:g}"
    own += f", target keeps {settings.target_ema:g}"
    rows = {"consistency": (1.0, 0, own)}
    for name in loss_names(settings)[1:]:
        loss = getattr(settings, name)
        rows[name] = (loss.weight, loss.warmup, _discriminator(loss) if name == "adversarial" else "")
    columns = ["weight", "from step", "settings"]
    return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("loss")
