"""Bad inputs of every entry point: `python -m tests.bad_inputs` prints what comes of each.

A file here is an entry point, or several that are alike; it offers `cases()`. The suite runs all of them.
"""

from importlib import import_module
from pathlib import Path

from .case import Case

OWN = ("__init__", "__main__", "case")


def cases() -> list[Case]:
    """All bad inputs, by the file that they stand in."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("*.py") if path.stem not in OWN)
    return [case for name in names for case in import_module(f"{__name__}.{name}").cases()]
