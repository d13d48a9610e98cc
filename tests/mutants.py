"""Plant faults, one at a time, and see whether the tests that are named for each notice.

    python tests/mutants.py [part of a fault's name or file, or of its tests' names]

The faults stand in tests/faults, a file a room. Each is an exact replacement in a temporary copy of the tree.
The exit status is 0 only if every replacement was found exactly once and every fault was killed by a failing
test (an error on import does not count).
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

# One thread: before torch is imported, and because threads do not survive a fork.
os.environ |= {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from tests.faults import Fault, faults, selected  # noqa: E402

# What the library and its tests import from elsewhere: once here, and not in every child.
SHARED = (
    "torch.testing", "torchdiffeq", "scipy.optimize", "scipy.stats", "scipy.spatial", "pandas", "pydantic",
    "yaml", "ruamel.yaml", "safetensors.torch", "matplotlib.figure", "matplotlib.backends.backend_agg",
    "PIL.Image", "IPython.display",
)  # fmt: skip
OF_RELEASE = ("transformers", "diffusers")
# the first forward-mode pass loads a second's worth of torch
torch.func.jvp(torch.sin, (torch.ones(1),), (torch.ones(1),))


def planted(fault: Fault, copy: Path) -> str:
    """Run the tests on `copy` with the fault in it, and say what became of it."""
    _, file, old, new, named = fault
    path = copy / "src" / "fewstep" / file
    sound = path.read_text(encoding="utf-8")
    if sound.count(old) != 1:
        return f"FOUND {sound.count(old)} TIMES"
    path.write_text(sound.replace(old, new), encoding="utf-8")
    # a fault of the same length within the same second would run the bytecode before it
    for compiled in path.parent.glob(f"__pycache__/{path.stem}.*"):
        compiled.unlink()
    try:
        status = tests(copy, selected(named))
    finally:
        path.write_text(sound, encoding="utf-8")
    return {0: "SURVIVED", 1: "killed"}.get(status, f"PYTEST FAILED ({status})")


def tests(copy: Path, names: list[str], keep: bool = False) -> int:
    """The exit status of pytest on `names`, in a child that has torch in memory but not yet the library.

    `keep`: whether it leaves its bytecode behind, for those after it.
    """
    child = os.fork()
    if child == 0:
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os.chdir(copy)
        sys.path[:] = [str(copy / "src"), str(copy), *(path for path in sys.path if path != str(ROOT))]
        for name in [name for name in sys.modules if name.partition(".")[0] in ("tests", "fewstep")]:
            del sys.modules[name]
        # what a test's own processes import is the copy's too
        os.environ["PYTHONPATH"] = str(copy / "src")
        sys.dont_write_bytecode = not keep
        os.environ |= {} if keep else {"PYTHONDONTWRITEBYTECODE": "1"}
        options = ["-x", "-q", "-p", "no:cacheprovider", "--tb=no", "-o", "addopts="]
        # what is imported above brings plugins of pytest, which it warns of: and warnings are errors
        options += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]
        os._exit(int(pytest.main([*options, *names])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> int:
    wanted = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [fault for fault in faults() if any(wanted in fault[k] for k in (0, 1, 4))]
    if not chosen:
        print(f"no fault has '{wanted}' in its name, its file or its tests: leave it out for all")
        return 1
    for module in SHARED + (OF_RELEASE if any(fault[1].startswith("release/") for fault in chosen) else ()):
        import_module(module)
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "copy"
        # without data.dvc, data/ is taken as it is
        ignore = shutil.ignore_patterns("__pycache__", ".*", "artifacts", "data.dvc", "*.egg-info")
        shutil.copytree(ROOT, copy, ignore=ignore)
        if tests(copy, sorted({name for fault in chosen for name in selected(fault[4])}), keep=True) != 0:
            print("the tests fail without any fault")
            return 1
        start, bad = time.monotonic(), 0
        for fault in chosen:
            found = planted(fault, copy)
            bad += found != "killed"
            print(f"{found:<10}  {fault[1]:<32}  {fault[0]}", flush=True)
    print(f"{len(chosen) - bad} of {len(chosen)} faults killed in {time.monotonic() - start:.0f} s")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
