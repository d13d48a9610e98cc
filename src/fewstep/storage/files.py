"""Files: written so that a reader, or a run after a power cut, sees the old content or the new; and read."""

import glob
import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from math import isfinite
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


def _written(folder: Path, listed: str = LIST) -> dict[str, str]:
    """The checksums of what `replace_files` wrote, by the paths below `folder`; empty without its list."""
    with suppress(OSError, ValueError, AttributeError):
        found = json.loads((folder / listed).read_text(encoding="utf-8")).items()
        return {name: code for name, code in found if not {"..", "/"} & {*Path(name).parts}}
    return {}


def replace_files(folder: Path, files: Mapping[str, bytes], listed: str = LIST) -> None:
    """Make `files`, by their paths below `folder`, all that calls of this function leave there.

    It removes only what its list, the file `listed` there, names. All is on the disk before the first file is
    replaced: an OSError until then, which names the file, leaves everything as it was.
    """
    before, now = (
        _written(folder, listed),
        {name: _checksum(content) for name, content in sorted(files.items())},
    )
    fresh = folder / f".new.{os.getpid()}.tmp"
    try:
        remove_left(folder.glob(".new.*.tmp"))
        for name, content in files.items():
            write_atomically(fresh / name, content)
        write_json(folder / listed, before | now)
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            os.replace(fresh / name, folder / name)
        for name in before.keys() - now.keys():
            (folder / name).unlink(missing_ok=True)
        write_json(folder / listed, now)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


def add_files(folder: Path, files: Mapping[str, bytes]) -> None:
    """Make `files` part of what `replace_files` left in `folder`, in the place of those of the same name."""
    known = _written(folder)
    there = {name: (folder / name).read_bytes() for name in known if (folder / name).is_file()}
    replace_files(folder, {k: own for k, own in there.items() if _checksum(own) == known[k]} | {**files})


def read_written(folder: Path, listed: str = LIST) -> dict[str, bytes]:
    """What `replace_files` wrote, by path; ValueError, naming the file, where one is missing or another."""
    known, cure = _written(folder, listed), f"restore it, or delete {folder} and run `dvc repro`"
    if not known:
        raise ValueError(f"{folder / listed}, the list of what belongs there, is missing or damaged: {cure}")
    found = {name: (folder / name).read_bytes() for name in known if (folder / name).is_file()}
    for name, code in known.items():
        if name not in found or _checksum(found[name]) != code:
            what = "missing" if name not in found else f"not what was written ({listed} has another checksum)"
            raise ValueError(f"{folder / name} is {what}: {cure}")
    return found


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def amiss(path: Path) -> str:
    """Why `path` cannot be read as a file, in words."""
    return "is no file" if path.exists() else "is not there"


def _finite(number: str) -> float:
    if not isfinite(found := float(number)):
        raise ValueError(f"it holds {number}, which is no number of JSON")
    return found


def mapping(path: Path, cure: str, kind: type[Exception] = ValueError) -> dict[str, Any]:
    """The settings in `path`, a JSON object of finite numbers; raises `kind` where there are none.

    diffusers takes any other JSON for a name, which it looks for on the hub.
    """
    if not path.is_file():
        raise kind(f"{path} {amiss(path)}: {cure}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"), parse_float=_finite, parse_constant=_finite)
        if not isinstance(found, dict):
            raise TypeError(f"it holds a {type(found).__name__}, and no values by name")
    except (ValueError, TypeError, RecursionError) as error:
        found = " ".join(str(error).split())[:120]
        raise kind(f"{path} cannot be read as JSON ({found}): {cure}") from None
    return found


def target(path: Path, is_own: Callable[[Path], bool], by: str, way: str, kind: type[Exception]) -> Path:
    """The file that is replaced where `path` is written, links followed.

    Raises `kind`, ending in the `way` out, where that is no file, or one that `is_own` says is not `by` us.
    """
    own = Path(os.path.realpath(path))
    blocked = [parent for parent in own.parents if parent.exists() and not parent.is_dir()]
    if blocked:
        odd = f"cannot be written, since {blocked[-1]} is no folder"
    elif own.is_symlink() or (own.exists() and not own.is_file()):
        odd = "is no file"
    elif own.exists() and not is_own(own):
        odd = f"exists and was not written by {by}"
    else:
        return own
    raise kind(f"{path} {odd}: nothing was written; {way}")
