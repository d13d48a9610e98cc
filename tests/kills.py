"""Kill the pipeline of tier smoke at random moments, finish it, and compare it with one left in peace.

    python tests/kills.py --kills 50                               # the whole pipeline
    python tests/kills.py --kills 2 teacher@smoke-fmm-checkerboard     # one stage and what it needs

Not part of the suite. Both run in clones of this repository as its working tree stands, below a temporary
folder, or below that of --folder, which is kept. What is killed (SIGKILL) is drawn anew each time: the run
with all that is under it, the run alone, one of its DVCs alone, or a stage alone. Everything under what was
killed must be gone ten seconds later; the next run goes on as `make repro` does. A pipeline that is finished
before all kills are done begins again.

In the end all files of artifacts/smoke and results/smoke must have the same bytes, but for those that hold
times, which never repeat (seconds an image in tables and notebooks, the report, the site, timings.csv), and
no temporary file or socket may be left. The exit status is 0 if all of this is so.
"""

import argparse
import json
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
from tests.pipeline.conftest import Clone, clone_of, scratch

TIMES = re.compile(r"speed|timings\.csv|report\.md|written\.json|/site/")
LITTER = re.compile(r"\.tmp(/|$)")
MADE = ("artifacts", "results/smoke", "dvc.lock", ".dvc/cache", ".dvc/tmp")
PATIENCE = 10  # seconds in which what a killed DVC has started must end


def contents(clone: Clone) -> dict[str, bytes]:
    """Every file of artifacts/smoke and results/smoke that holds no times, by its path."""
    paths = [p for name in ("artifacts/smoke", "results/smoke") for p in clone.file(name).rglob("*")]
    found = {path.relative_to(clone.path).as_posix(): path for path in paths if path.is_file()}
    return {name: without_times(path) for name, path in found.items() if not TIMES.search(name)}


def without_times(path: Path) -> bytes:
    """A file's content without the rows of a table, and the outputs of a notebook, that hold seconds."""
    content = path.read_bytes()
    if path.suffix == ".csv":
        return b"\n".join(line for line in content.split(b"\n") if b"seconds per image" not in line)
    if path.suffix == ".ipynb":
        cells = json.loads(content)["cells"]
        timed = [cell for cell in cells if "nbval-ignore-output" in cell["metadata"].get("tags", ())]
        return json.dumps([cell if cell not in timed else cell["source"] for cell in cells]).encode()
    return content


def start(clone: Clone, targets: list[str]) -> subprocess.Popen:
    """`make repro` without its environment: what a killed run has left is mended, then DVC runs."""
    clone.run("python", "-m", "fewstep", "data")
    with open(clone.path.with_suffix(".log"), "a", encoding="utf-8") as log:
        return subprocess.Popen(
            ["dvc", "repro", *targets] if targets else ["python", "-m", "fewstep", "repro"],
            cwd=clone.path,
            env=clone.environment() | {"TMPDIR": str(clone.path.with_suffix(".tmp-folder"))},
            start_new_session=True,
            stdout=log,
            stderr=log,
        )


def finish(clone: Clone, targets: list[str]) -> float:
    """The seconds until the pipeline is done; raises RuntimeError where it fails."""
    begun = time.monotonic()
    if start(clone, targets).wait():
        raise RuntimeError(f"the pipeline failed: see {clone.path.with_suffix('.log')}")
    return time.monotonic() - begun


def kill(process: subprocess.Popen, kind: str) -> tuple[str, list[str]]:
    """What was killed, and the processes that have outlived it."""
    leader = psutil.Process(process.pid)
    below = leader.children(recursive=True)
    stages = [p for p in below if p.is_running() and "run" in (words := p.cmdline()) and "-c" not in words]
    victims, name = [leader], "the run alone"
    if kind == "everything":
        victims, name = [leader, *below], kind
    elif kind == "a DVC" and (found := leader.children()):
        victims, name = [random.choice(found)], "a DVC alone"
    elif kind == "a stage" and stages:
        victims = [random.choice(stages)]
        name = " ".join(victims[0].cmdline()[3:])
    # the other of two experiments side by side is finished before the run ends
    below = below if victims[0] is leader else [p for v in victims for p in v.children(recursive=True)]
    for victim in victims:
        try:
            victim.send_signal(signal.SIGKILL)
        except psutil.NoSuchProcess:
            pass
    process.wait()
    alive = psutil.wait_procs(below, timeout=PATIENCE)[1]
    said = [f"{p.pid} {' '.join(p.cmdline())[:80]}" for p in alive if p.is_running()]
    for survivor in alive:
        survivor.kill()
    return name, said


def differences(whole: Clone, victim: Clone) -> list[str]:
    """What is wrong in `victim`, finished after its kills, beside `whole`, which nobody disturbed."""
    expected, found = contents(whole), contents(victim)
    wrong = [
        f"{name} differs" for name in sorted({*expected, *found}) if expected.get(name) != found.get(name)
    ]
    folders = [victim.path, victim.path.with_suffix(".tmp-folder")]
    names = [
        path.as_posix() for folder in folders for path in folder.rglob("*") if ".dvc/" not in path.as_posix()
    ]
    return wrong + [f"{name} is left" for name in names if LITTER.search(name)]


def main() -> int:
    """Print a line a kill, then what differs."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("targets", nargs="*", help="stages of DVC (default: all)")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="a folder for both clones, which is kept")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    folder = arguments.folder or Path(tempfile.mkdtemp())
    whole = clone_of(Path(__file__).resolve().parents[1], folder / "undisturbed")
    for name in ("results/smoke", "dvc.lock"):
        path = whole.file(name)
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    whole.run("python", "-m", "fewstep", "data")
    whole.run("python", "-m", "fewstep", "tier", "smoke")
    victim = scratch(whole, folder / "killed")
    for clone in (whole, victim):
        clone.path.with_suffix(".tmp-folder").mkdir()
    seconds = finish(whole, arguments.targets)
    print(f"undisturbed: {seconds:.0f} s", flush=True)
    wrong, done = [], 0
    while done < arguments.kills:
        # now and then longer than the longest stage, or it would never be passed
        process, moment = start(victim, arguments.targets), random.uniform(1, max(30, 0.15 * seconds))
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            name, outlived = kill(process, random.choice(["everything", "the run", "a DVC", "a stage"]))
            done += 1
            print(
                f"{done}: {name} after {moment:.1f} s" + "".join(f"; OUTLIVED BY {p}" for p in outlived),
                flush=True,
            )
            wrong += outlived
            continue
        if process.returncode:
            raise RuntimeError(f"the pipeline failed: see {victim.path.with_suffix('.log')}")
        wrong += differences(whole, victim)
        for made in MADE:
            path = victim.file(made)
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    finish(victim, arguments.targets)
    wrong += differences(whole, victim)
    print("\n".join(wrong) or f"{len(contents(whole))} files have the same bytes after {done} kills")
    if not arguments.folder:
        shutil.rmtree(folder)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
