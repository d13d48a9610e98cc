"""A stage that ends with the process that started it: a killed `dvc repro` leaves none behind."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

CHILD = """
import os, time
from fewstep.training.lifetime import exit_with_parent
exit_with_parent(os.getppid())
print(os.getpid(), flush=True)
time.sleep(120)
"""
PARENT = f"""
import subprocess, sys, time
child = subprocess.Popen([sys.executable, '-c', {CHILD!r}], stdout=subprocess.PIPE, text=True)
print(child.stdout.readline(), end='', flush=True)
time.sleep(120)
"""


def test_a_stage_ends_when_whoever_started_it_is_killed():
    with subprocess.Popen([sys.executable, "-c", PARENT], stdout=subprocess.PIPE, text=True) as parent:
        child = int(parent.stdout.readline())
        time.sleep(1)
        os.kill(child, 0)  # it runs while its parent does
        parent.kill()
        parent.wait()
        waiting = time.monotonic()
        while time.monotonic() - waiting < 30:
            try:
                # an orphan is reaped by others; a zombie has ended
                if (
                    Path(f"/proc/{child}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                    == "Z"
                ):
                    return
                os.kill(child, 0)
            except (ProcessLookupError, FileNotFoundError):
                return
            time.sleep(0.2)
        os.kill(child, 9)
    raise AssertionError("the stage went on without its parent")
