"""Writing files so that a reader, or a run after a power cut, sees the old content or the new."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

LIST = "written.json"  # what `replace_files` has written in a folder, with checksums


def lock(descriptor: int) -> bool:
    """Lock an open file or folder until it is closed; False where another has it or there are no locks."""
    try:
        import fcntl  # here, because Windows has none

        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except (ImportError, OSError):
        return False
    return True


def remove_left(paths: Iterable[Path]) -> None:
    """Remove those files and folders, whose names end in .<process>.tmp, that killed runs have left."""
    for path in paths:
        try:
            os.kill(int(path.name.split(".")[-2]), 0)
        except ProcessLookupError:
            with suppress(OSError):
                descriptor = os.open(path, os.O_RDONLY)
                # else it belongs to a process of another machine or container
                if lock(descriptor):
                    shutil.rmtree(path) if path.is_dir() else path.unlink()
                os.close(descriptor)
        except (OSError, ValueError):
            pass  # another user's, or no file of ours


def require_writable(folder: Path) -> None:
    """Raise OSError, naming it, where no file can be written in `folder`, or where it would be."""
    while not folder.exists():
        folder = folder.parent
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        problem = f"{error.strerror or error}; nothing was computed, since no result can be written to"
        raise OSError(error.errno, problem, str(folder)) from error


def write_atomically(path: Path, content: bytes) -> None:
    """Write `content` to a temporary file, flush it to the disk, and rename it; an OSError names `path`."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_left(path.parent.glob(f".{glob.escape(path.name)}.*.tmp"))
        with open(temporary, "wb") as file:
            lock(file.fileno())
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            problem = f"{error.strerror or error}; nothing was written to"
            raise OSError(error.errno, problem, str(path)) from error
        raise


def as_json(content: Any) -> bytes:
    """`content` as a JSON file."""
    return (json.dumps(content, indent=1) + "\n").encode()


def write_json(path: Path, content: Any) -> None:
    """Write `content` to `path` as JSON, atomically."""
    write_atomically(path, as_json(content))


def _checksum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _written(folder: Path) -> dict[str, str]:
    """The checksums of what `replace_files` wrote, by the paths below `folder`; empty without its list."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads((folder / LIST).read_text(encoding="utf-8")).items()
        return {name: code for name, code in found if not {"..", "/"} & {*Path(name).parts}}
    return {}


def replace_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `files`, by their paths below `folder`, all that calls of this function leave there.

    It removes only what its list, written.json, names. All is on the disk before the first file is replaced:
    an OSError until then, which names the file, leaves everything as it was.
    """
    before, now = _written(folder), {name: _checksum(content) for name, content in sorted(files.items())}
    fresh = folder / f".new.{os.getpid()}.tmp"
    try:
        remove_left(folder.glob(".new.*.tmp"))
        for name, content in files.items():
            write_atomically(fresh / name, content)
        write_json(folder / LIST, before | now)
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh / name, folder / name)
        for name in before.keys() - now.keys():
            (folder / name).unlink(missing_ok=True)
        write_json(folder / LIST, now)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def add_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `files` part of what `replace_files` left in `folder`, in the place of those of the same name."""
    known = _written(folder)
    there = {name: (folder / name).read_bytes() for name in known if (folder / name).is_file()}
    replace_files(folder, {k: own for k, own in there.items() if _checksum(own) == known[k]} | {**files})


def read_written(folder: Path) -> dict[str, bytes]:
    """All that `replace_files` wrote, by the paths below `folder`.

    Raises ValueError, naming the file, where one is missing or another by now.
    """
    known, cure = _written(folder), f"restore it, or delete {folder} and run `dvc repro`"
    if not known:
        raise ValueError(f"{folder / LIST}, the list of what belongs there, is missing or damaged: {cure}")
    found = {name: (folder / name).read_bytes() for name in known if (folder / name).is_file()}
    for name, code in known.items():
        if name not in found or _checksum(found[name]) != code:
            what = "missing" if name not in found else f"not what was written ({LIST} has another checksum)"
            raise ValueError(f"{folder / name} is {what}: {cure}")
    return found
