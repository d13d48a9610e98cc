"""A command in a process of its own: its sentence when it fails, its seconds and its peak memory."""

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PREFIX = "fewstep: "


@dataclass(frozen=True)
class Usage:
    """What a command took.

    seconds  from its start to its end
    memory   bytes, the peak resident memory of its largest process, or of the process that started it
    error    None, or what it said last on stderr
    """

    seconds: float
    memory: int
    error: str | None


def run(words: Sequence[str], folder: Path, environment: Mapping[str, str]) -> Usage:
    """Run `words` in `folder`; its stderr is passed on line by line, its stdout is dropped."""
    started, said = time.monotonic(), ["it ended without a word"]
    streams = {"stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True, "errors": "replace"}
    process = subprocess.Popen(words, cwd=folder, env=dict(environment), encoding="utf-8", **streams)
    try:
        for line in process.stderr:
            if line.strip():
                said.append(line.strip())
            print(line, end="", file=sys.stderr, flush=True)
        # of the process and of those that it waited for, where Popen.wait would not tell
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
        process.stderr.close()
    sentence = next((line for line in reversed(said) if line.startswith(PREFIX)), said[-1])
    error = sentence.removeprefix(PREFIX) if process.returncode else None
    # macOS counts in bytes
    memory = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    return Usage(time.monotonic() - started, memory, error)
