"""What DVC leaves to its user: stages that outlive it, a dvc.lock that a kill has cut, a tree without git."""

import json
import os
import re
import select
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

from ..storage.files import write_atomically
from ..training.lifetime import exit_with_parent

STAGE = "DVC_STAGE"  # what DVC sets in the environment of a stage, and of the shell in which it starts it
LOCKS = ("dvc.lock", "paper/dvc.lock", "zoo/dvc.lock")
STAGES = re.compile(rb"^  (\S+):$", re.MULTILINE)  # their names in a dvc.lock
CONFIG = b"# `python -m fewstep data` found this tree under no git\n[core]\n    no_scm = true\n"


class LockError(RuntimeError):
    """A dvc.lock is cut, and there is no whole copy."""


def exit_with_dvc() -> None:
    """End this process, a stage, at once when the DVC that runs it has ended, or a shell between them."""
    if not (hasattr(os, "pidfd_open") and os.path.isdir("/proc/self")):
        return exit_with_parent(os.getppid())
    mark, process, watched = f"{STAGE}={os.environ[STAGE]}".encode(), os.getppid(), []
    try:
        while True:
            watched.append(os.pidfd_open(process))
            # in another session is whoever adopts orphans
            if os.getsid(process) != os.getsid(0):
                os._exit(1)
            if mark not in Path(f"/proc/{process}/environ").read_bytes().split(b"\0"):
                break
            process = int(Path(f"/proc/{process}/stat").read_bytes().rpartition(b")")[2].split()[1])
    except (ProcessLookupError, FileNotFoundError):
        os._exit(1)
    except PermissionError:
        pass  # it is watched, and no further ancestor can be

    def watch() -> None:
        # outliving a killed DVC, it would compete for the cores and write beside its successor
        select.select(watched, [], [])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def keep_locks(root: Path, patience: float = 0.0) -> None:
    """Keep a copy of each dvc.lock, below artifacts/, and put it back where a killed DVC has left a part.

    DVC rewrites dvc.lock in place after every stage, and goes on from what it finds; another DVC may be about
    it now, and has `patience` seconds to end. Raises LockError for one that is cut and has no copy.
    """
    for name in LOCKS:
        path, kept = root / name, root / "artifacts" / "locks" / name.replace("/", "-")
        if not path.is_file():
            kept.unlink(missing_ok=True)  # it was deleted on purpose
            continue
        copy = kept.read_bytes() if kept.is_file() else b""
        waited = time.monotonic()
        while not _is_whole(found := path.read_bytes(), copy) and time.monotonic() < waited + patience:
            time.sleep(0.1)
        if _is_whole(found, copy) or _git(root, "show", f"HEAD:{name}") == found:
            if found != copy:
                write_atomically(kept, found)
        elif not copy:
            cure = f"restore it with `git checkout {name}`, or delete it: finished trainings are found again"
            raise LockError(f"{path} is cut: a run was killed while DVC wrote it; {cure}")
        else:
            write_atomically(path, copy)
            print(f"{path} was cut by a killed run: a copy from before it is in its place", file=sys.stderr)


def write_locks_quickly() -> None:
    """Have the DVC in this process write a dvc.lock as it would, byte for byte, but whole or not at all.

    After every stage DVC parses and writes the stages of all tiers in Python, two seconds of it; here the
    text of those that are as they were stays. What is not a dvc.lock of DVC's layout is left to DVC.
    """
    from dvc import dvcfile
    from dvc.utils.serialize import dumps_yaml, loads_yaml

    by_dvc = getattr(dvcfile, "modify_yaml", None)
    if by_dvc is None:
        return  # another DVC, which writes as it does

    @contextmanager
    def modify(path: str | os.PathLike, fs: Any = None) -> Iterator[dict]:
        file = Path(path)
        text = file.read_bytes() if file.name == "dvc.lock" and file.is_file() else b""
        starts = [match.start() for match in STAGES.finditer(text)]
        blocks = [text[i:j] for i, j in pairwise([*starts, len(text)])]
        lock = loads_yaml(text) if blocks else {}
        stages = lock.get("stages") or {}
        if list(lock) != ["schema", "stages"] or list(stages) != [n.decode() for n in STAGES.findall(text)]:
            with by_dvc(path, fs=fs) as lock:
                yield lock
            return
        before = {json.dumps([name, stage]): own for (name, stage), own in zip(stages.items(), blocks)}
        yield lock
        written = [text[: starts[0]]]
        for name, stage in lock["stages"].items():
            own = before.get(json.dumps([name, stage]))
            fresh = "" if own else dumps_yaml({"stages": {name: stage}}).removeprefix("stages:\n")
            written.append(own or fresh.encode())
        write_atomically(file, b"".join(written))

    dvcfile.modify_yaml = modify


def remove_cut_rwlock(root: Path, patience: float = 1.0) -> None:
    """Remove DVC's list of what running DVCs read and write, where a killed one has left a part of it.

    DVC rewrites it in place and stops at a part. One that is about it now has `patience` seconds to end.
    """
    path, waited = root / ".dvc" / "tmp" / "rwlock", time.monotonic()
    while path.is_file():
        with suppress(ValueError, FileNotFoundError):
            json.loads(path.read_bytes())
            return
        if time.monotonic() > waited + patience:
            path.unlink(missing_ok=True)
            print(f"{path} was cut by a killed run and is removed: DVC begins it again", file=sys.stderr)
        time.sleep(0.05)


def _is_whole(found: bytes, copy: bytes) -> bool:
    """Whether a dvc.lock is all that DVC wrote: it ends with a whole line, and new stages come last."""
    names, before = STAGES.findall(found), STAGES.findall(copy)
    lost = len(names) < len(before) and before[: len(names)] == names
    return found.endswith(b"\n") and (found == copy or not (lost or copy.startswith(found)))


def _git(root: Path, *words: str) -> bytes | None:
    """What git says in `root`; None where it is not installed, or refuses."""
    try:
        return subprocess.run(["git", "-C", str(root), *words], capture_output=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return None


def allow_no_git(root: Path) -> None:
    """Tell DVC to do without git where `root` is under none, as an unpacked source archive is."""
    own = root / ".dvc" / "config.local"
    if own.parent.is_dir() and not own.exists() and _git(root, "rev-parse") is None:
        write_atomically(own, CONFIG)
