"""A slider in JupyterLab; a still picture where nobody can move it."""

import os
from collections.abc import Callable

import ipywidgets
from IPython.display import display

from ...storage.workspace import PIPELINE
from .picture import Picture


def slider(show: Callable[[int], Picture], low: int, high: int) -> Picture | None:
    """`show(N)` under a slider over N = low..high; in the pipeline, the picture at `low`."""
    if os.environ.get(PIPELINE):
        return show(low)
    ipywidgets.interact(
        lambda N: display(show(N)), N=ipywidgets.IntSlider(low, low, high, continuous_update=False)
    )
    return None
