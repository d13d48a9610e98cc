"""A slider in JupyterLab; a still picture where nobody can move it."""

from __future__ import annotations

import os
from collections.abc import Callable

import ipywidgets
from IPython.display import display

from ...storage.workspace import PIPELINE
from .picture import Picture


def slider(show: Callable[[int], Picture], low: int, high: int) -> Picture | None:
    """`show(N)` under a slider over N = low..high; the picture at `low` when the pipeline runs the notebook.

    A live widget in an executed notebook is a random identifier that shows nothing without its kernel.
    """
    if os.environ.get(PIPELINE):
        return show(low)
    ipywidgets.interact(
        lambda N: display(show(N)), N=ipywidgets.IntSlider(low, low, high, continuous_update=False)
    )
    return None
