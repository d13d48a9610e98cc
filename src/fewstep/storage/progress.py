"""Progress of long work, never stored in an executed notebook.

Under the pipeline a notebook's kernel writes it to the file named by FEWSTEP_PROGRESS, and the process that
runs the notebook prints it on the terminal. Elsewhere tqdm shows a bar.
"""

import json
import os
import time
from pathlib import Path
from typing import Self

from tqdm.auto import tqdm

from .files import write_atomically

CHANNEL = "FEWSTEP_PROGRESS"
# set where others write to the same terminal: a line now and then, and none that changes
LINES = "FEWSTEP_LINES"


class Progress:
    """A bar of `total` units called `label`; use it as a context and call `update(done)`."""

    def __init__(self, total: int, label: str):
        self.total, self.label, self.written = total, label, float("-inf")
        self.channel = os.environ.get(CHANNEL)
        self.bar = None if self.channel else tqdm(total=total, desc=label, leave=False)

    def __enter__(self) -> Self:
        self.update(0)
        return self

    def __exit__(self, *problem: object) -> None:
        if self.bar is not None:
            self.bar.close()

    def update(self, done: int) -> None:
        """Show that `done` of `total` units are finished."""
        if self.bar is not None:
            self.bar.update(done - self.bar.n)
            return
        # once a second and at the end: the file is flushed to the disk
        if (now := time.monotonic()) > self.written + 1 or done >= self.total:
            self.written = now
            message = {"label": self.label, "done": done, "total": self.total}
            write_atomically(Path(self.channel), json.dumps(message).encode())


def read(channel: Path) -> dict | None:
    """The latest message in `channel`, or None before the first."""
    try:
        return json.loads(channel.read_text(encoding="utf-8"))
    except (FileNotFoundError, json.JSONDecodeError):
        return None
