"""One bad input: how it is made, which entry point gets it, and what must come of it."""

import re
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# what the command line and the notebooks say as one sentence; anything else is a traceback to its reader
REFUSALS = (ValueError, RuntimeError, OSError)
# exceptions of these families that say nothing to a reader
SPEECHLESS = (UnicodeError, NotImplementedError, RecursionError)
SECONDS = 60


@dataclass(frozen=True)
class Case:
    """A bad input of an entry point.

    `prepare(folder)` writes the files that there are, into an empty folder; `run(folder)` gives the entry
    point its input. It must be refused within a minute by a sentence in which the pattern `says` is found,
    and every file must be as it was, with none beside it.
    """

    entry: str
    name: str
    run: Callable[[Path], Any]
    says: str
    prepare: Callable[[Path], Any] = field(default=lambda folder: None)


def _files(folder: Path) -> dict[str, bytes | str]:
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = path.relative_to(folder).as_posix()
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_bytes()
    return found


def _late(number: int, frame: object) -> None:
    raise TimeoutError(f"nothing was said in {SECONDS} seconds")


def outcome(case: Case, folder: Path) -> tuple[bool, str]:
    """Whether the input was refused as it must be, and what came of it in words."""
    case.prepare(folder)
    before = _files(folder)
    signal.signal(signal.SIGALRM, _late)
    signal.alarm(SECONDS)
    try:
        case.run(folder)
        good, came = False, "taken in silence"
    except SystemExit as stopped:
        good, came = False, f"exit {stopped.code}"
    except REFUSALS as error:
        text = " ".join(str(error).split())
        good = bool(re.search(case.says, text)) and not isinstance(error, SPEECHLESS)
        came = f"refused: {text}" if good else f"{type(error).__name__} without /{case.says}/: {text}"
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        good, came = False, f"traceback: {type(error).__name__}: {error} ({place.name}:{place.lineno})"
    finally:
        signal.alarm(0)
    if (after := _files(folder)) != before:
        touched = [name for name in sorted({*before, *after}) if before.get(name) != after.get(name)]
        return False, f"{came}; deleted, changed or left behind: {', '.join(touched)}"
    return good, came
