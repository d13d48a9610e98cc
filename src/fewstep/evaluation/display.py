"""Tables in notebooks, all through one function."""

from __future__ import annotations

import pandas as pd
from IPython.display import HTML


def show_table(frame: pd.DataFrame) -> HTML:
    """A table for a notebook: whole, floats at four significant digits, nothing where a value is missing."""
    with pd.option_context("display.max_colwidth", None):
        return HTML(frame.to_html(na_rep="", float_format="{:.4g}".format))
