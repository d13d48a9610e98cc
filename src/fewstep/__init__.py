"""fewstep: few-step generative models, from formula to table. This is the library's public page.

A flow map X_{s,t}(x) = x + (t - s) v_{s,t}(x) carries points from time s to time t, noise at 0, data at 1;
its diagonal v_{t,t} is the velocity of the flow. The examples of this page assume

    >>> import torch
    >>> from fewstep import *

Each name is loaded when it is first used, from where __init__.pyi says, to type checkers too.
"""

import re
from importlib import import_module
from pathlib import Path

__version__ = "0.1.0"

_STUB = Path(__file__).with_suffix(".pyi").read_text(encoding="utf-8")
_WHERE = {name: module for module, name in re.findall(r"^from \.(\S+) import (\w+)", _STUB, re.M)}
__all__ = sorted(_WHERE)


def __getattr__(name: str) -> object:
    if name not in _WHERE:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{_WHERE[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
