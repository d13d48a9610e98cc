"""Faults to plant, a file a room, each with a list FAULTS; `python tests/mutants.py` plants them.

A fault is (name, file below src/fewstep, what stands there exactly once, what takes its place, the tests that
must notice: names of test files without test_ and .py, with a folder where two have one, or ::test).
"""

from importlib import import_module
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

Fault = tuple[str, str, str, str, str]


def within(file: str, tests: str, *faults: tuple[str, str, str]) -> list[Fault]:
    """Faults (name, old, new) of one file that the same tests notice."""
    return [(name, file, old, new, tests) for name, old, new in faults]


def faults() -> list[Fault]:
    """All faults, room by room."""
    names = sorted(path.stem for path in Path(__file__).parent.glob("[!_]*.py"))
    return [fault for name in names for fault in import_module(f"{__name__}.{name}").FAULTS]


def selected(named: str) -> list[str]:
    """What pytest is given for a fault's tests; ValueError for a name that no one test file has."""
    chosen = []
    for name in named.split():
        file, _, test = name.partition("::")
        folder, _, stem = file.rpartition("/")
        found = sorted((ROOT / "tests").rglob(f"{folder or '*'}/test_{stem}.py"))
        if len(found) != 1:
            raise ValueError(f"{len(found)} test files are called {file}: a fault must name one")
        chosen.append(found[0].relative_to(ROOT).as_posix() + (f"::{test}" if test else ""))
    return chosen
