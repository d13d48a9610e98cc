"""A command in a process of its own: its sentence when it fails, its seconds, and the most memory that it took."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

PREFIX = "fewstep: "


@dataclass(frozen=True)
class Spent:
    """What a command took.

    seconds       from its start to its end
    bytes         the peak resident memory of its largest process; a system may count that of the process that started it
    device_bytes  what it added to the memory in use on the GPU, at most, by all processes together; None without a GPU
    failed        None, or what it said last on stderr
    """

    seconds: float
    bytes: int
    device_bytes: int | None
    failed: str | None

    def and_then(self, later: Spent) -> Spent:
        """This and what was spent after it: the seconds of both, the larger peaks, the later failure."""
        peak = None if self.device_bytes is None else max(self.device_bytes, later.device_bytes)
        return Spent(self.seconds + later.seconds, max(self.bytes, later.bytes), peak, later.failed)


class _DevicePeak(threading.Thread):
    """Looks at the memory in use on the first GPU twice a second. torch keeps what it has taken until it ends, so a peak stays in sight."""

    def __init__(self):
        super().__init__(daemon=True)
        self.before, self.peak, self.stopped = self._used(), 0, threading.Event()

    @staticmethod
    def _used() -> int:
        import torch

        free, total = torch.cuda.mem_get_info()
        return total - free

    def run(self) -> None:
        while not self.stopped.wait(0.5):
            self.peak = max(self.peak, self._used() - self.before)

    def stop(self) -> int:
        self.stopped.set()
        self.join()
        return self.peak


def supervise(words: Sequence[str], folder: Path, environment: Mapping[str, str], device: str) -> Spent:
    """Run `words` in `folder`; its stderr is passed on line by line, its stdout is dropped."""
    watch = _DevicePeak() if device == "cuda" else None
    if watch:
        watch.start()
    started, said = time.monotonic(), ["it ended without a word"]
    process = subprocess.Popen(
        words,
        cwd=folder,
        env=dict(environment),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    try:
        for line in process.stderr:
            if line.strip():
                said.append(line.strip())
            sys.stderr.write(line)
            sys.stderr.flush()
        # of the process and of those that it waited for, where Popen.wait would not tell
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()
        process.stderr.close()
        peak = watch.stop() if watch else None
    sentence = next((line for line in reversed(said) if line.startswith(PREFIX)), said[-1]).removeprefix(
        PREFIX
    )
    failed = sentence if process.returncode else None
    # macOS counts in bytes
    return Spent(
        time.monotonic() - started, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024), peak, failed
    )
