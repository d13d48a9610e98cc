"""Writing files so that a reader, or a run after a power cut, sees the old content or the new."""

import json
import os
from pathlib import Path
from typing import Any


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file, flush it to the disk, and rename it; an OSError names `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            problem = f"{error.strerror or error}; nothing was written to"
            raise OSError(error.errno, problem, str(path)) from error
        raise


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as JSON, atomically."""
    write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
