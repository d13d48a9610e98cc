"""`python -m tests.bad_inputs [part of an entry's or a case's name]` prints what comes of each bad input."""

import sys
import tempfile
from pathlib import Path

from . import cases
from .case import outcome


def main() -> int:
    """Print a line a case, and a count; the exit status is 0 if each is refused as it must be."""
    part = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [case for case in cases() if part in f"{case.entry}: {case.name}"]
    bad = 0
    for case in chosen:
        with tempfile.TemporaryDirectory() as folder:
            good, came = outcome(case, Path(folder))
        bad += not good
        print(f"{'  ' if good else '! '}{case.entry}: {case.name}\n      {came}")
    print(f"{len(chosen)} bad inputs, {bad} of them not refused as they must be")
    return 1 if bad or not chosen else 0


if __name__ == "__main__":
    sys.exit(main())
