"""A clean clone with the pipeline run in it once, at tier smoke, for all tests of this folder."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

IDENTITY = ["-c", "user.name=test", "-c", "user.email=test@example.org"]


def started(done: subprocess.CompletedProcess) -> set[str]:
    """The names of the stages that DVC says it runs, without their tier."""
    said = (line for line in done.stdout.splitlines() if line.startswith("Running stage"))
    return {line.split("'")[1].partition("@")[0] for line in said}


@dataclass(frozen=True)
class Clone:
    """A clone of the repository and the commands to run in it; `origin` is where its pipeline ran."""

    path: Path
    origin: Path

    def environment(self) -> dict[str, str]:
        # The clone's own source before an installed one, and the test's interpreter as `python`.
        bin_folder = Path(sys.executable).parent
        clean = {k: v for k, v in os.environ.items() if not k.startswith("FEWSTEP_")}
        return clean | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(self.path / "src"),
            "OMP_NUM_THREADS": "1",
            "OPENBLAS_NUM_THREADS": "1",
            "GIT_CONFIG_GLOBAL": os.devnull,
        }

    def run(self, *words: str, check: bool = True) -> subprocess.CompletedProcess:
        done = subprocess.run(words, cwd=self.path, env=self.environment(), capture_output=True, text=True)
        assert not check or done.returncode == 0, (
            f"{' '.join(words)}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
        )
        return done

    def repro(self, *targets: str) -> set[str]:
        """`dvc repro`; returns the names of the stages that ran, without their tier."""
        return started(self.run("dvc", "repro", *targets))

    def file(self, name: str) -> Path:
        return self.path / name


def clone_of(source: Path, target: Path) -> Clone:
    """A clone of `source` as its working tree stands, committed, so that uncommitted work is tested too."""
    subprocess.run(["git", "clone", "--quiet", str(source), str(target)], check=True)
    listed = subprocess.run(
        ["git", "ls-files", "-z", "-m", "-o", "--exclude-standard"],
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (source / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source / name, target / name)
        else:
            (target / name).unlink(missing_ok=True)
    clone = Clone(target, target)
    clone.run("git", "add", "-A")
    clone.run("git", *IDENTITY, "commit", "--quiet", "--allow-empty", "-m", "the working tree")
    return clone


def scratch(clone: Clone, target: Path) -> Clone:
    """A copy of a clone with everything that was made in it, to be changed at will."""
    shutil.copytree(clone.path, target, symlinks=True)
    return Clone(target, clone.origin)


def fresh(root: Path, target: Path) -> Clone:
    """A clean clone with its data exported and the tier set to smoke, and nothing run."""
    clone = clone_of(root, target)
    shutil.rmtree(clone.file("results/smoke"), ignore_errors=True)
    clone.file("dvc.lock").unlink(missing_ok=True)
    # the tests change sources on purpose and run what depends on them, which is another revision
    params = clone.file("params.yaml")
    text = params.read_text(encoding="utf-8")
    params.write_text(text.replace("mixed: false", "mixed: true"), encoding="utf-8")
    clone.run("git", *IDENTITY, "commit", "--quiet", "-m", "mixed", "params.yaml")
    clone.run("python", "-m", "fewstep", "data")
    clone.run("python", "-m", "fewstep", "tier", "smoke")
    return clone


@pytest.fixture(scope="session")
def pristine(root, tmp_path_factory) -> Clone:
    """The clone after what `make repro` runs, made once for all processes that test; nobody changes it."""
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder, done = folder / "pipeline", folder / "pipeline" / "done"
    with FileLock(f"{folder}.lock"):
        if not done.is_file():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            # two groups of experiments side by side
            stages = started(fresh(root, folder / "fewstep").run("python", "-m", "fewstep", "repro"))
            assert {"check", "tour", "figures", "publish"} <= stages
            done.touch()
    return Clone(folder / "fewstep", folder / "fewstep")


@pytest.fixture(scope="module")
def built(pristine, tmp_path_factory) -> Clone:
    """A copy of that clone, which the tests of a module may change."""
    return scratch(pristine, tmp_path_factory.mktemp("built") / "fewstep")
