"""Faults to plant, a file a room, each with a list FAULTS; `python tests/mutants.py` plants them.

A fault is (name, file below src/fewstep, what stands there exactly once, what takes its place, the tests that
must notice: names of test files without test_ and .py, with a folder where two have one, or ::test).
"""

from importlib import import_module
from pathlib import Path

Fault = tuple[str, str, str, str, str]


def within(file: str, tests: str, *faults: tuple[str, str, str]) -> list[Fault]:
    """Faults (name, old, new) of one file that the same tests notice."""
    return [(name, file, old, new, tests) for name, old, new in faults]


def faults() -> list[Fault]:
    """All faults, room by room."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return [fault for name in names for fault in import_module(f"{__name__}.{name}").FAULTS]
