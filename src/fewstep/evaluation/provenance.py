"""Where a number comes from: notebook, git revision, parameters, hardware and software."""

import hashlib
import json
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
import torch

from ..storage import stand_in
from ..training.experiment import Experiment


class ProvenanceError(ValueError):
    """A number does not say where it comes from."""


class Provenance(NamedTuple):
    """The five columns that every row of every table carries."""

    notebook: str
    revision: str
    parameters: str
    hardware: str
    software: str


COLUMNS = Provenance._fields


def revision(root: Path) -> str:
    """The commit that last changed code, notebooks or settings, with a + when the tree differs from it.

    A later commit of results, tests or text is no other revision: it computes the same numbers.
    In a source archive, which is under no git, it is the commit that it was made of and "(archive)", for
    nobody knows what was changed since; "unversioned" where that does not stand in .git_archival.txt either.
    It is "rehearsal" in a tree marked as a rehearsal's: none of its numbers may pass for a commit's.
    """
    if stand_in.is_marked(root):
        return "rehearsal"

    def git(*words: str) -> list[str]:
        command = ["git", "-C", str(root), *words]
        return subprocess.run(command, capture_output=True, encoding="utf-8", check=True).stdout.splitlines()

    try:
        git("ls-files", "--error-unmatch", "params.yaml")  # or it merely lies inside another's repository
        # results and locks are what a run writes, not what it runs
        sources = ("src", "notebooks", "params.yaml", "dvc.yaml", "data.dvc", "pyproject.toml")
        (commit,) = git("log", "-1", "--format=%H", "--", *sources)
        changed = git("status", "--porcelain", "--", *sources)
        diff = git("diff", "HEAD", "-U0", "--", "params.yaml")
    except (OSError, subprocess.CalledProcessError, ValueError):
        stamp = root / ".git_archival.txt"
        text = stamp.read_text(encoding="utf-8") if stamp.is_file() else ""
        found = re.match(r"node: ([0-9a-f]{12})", text)
        return f"{found[1]} (archive)" if found else "unversioned"
    # a tier switched for one run is no change of the parameters of any tier
    lines = [line for line in changed if not line.endswith("params.yaml")]
    lines += [line for line in diff if re.match(r"(?!\+{3}|-{3})[+-](?!tier:)", line)]
    return commit[:12] + ("+" if lines else "")


def parameters(settings: Any) -> str:
    """A short hash of JSON-able settings: equal hashes, equal parameters."""
    return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]


def hardware(device: str) -> str:
    """The processor and the accelerator, if one is used."""
    cpuinfo, name = Path("/proc/cpuinfo"), platform.processor() or platform.machine()
    if cpuinfo.exists() and (found := re.search(r"(?m)^model name.*?:(.*)", cpuinfo.read_text("utf-8"))):
        name = found[1].strip()
    described = f"{name}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}"
    return f"{torch.cuda.get_device_name()}; {described}" if device == "cuda" else described


def of_experiment(experiment: Experiment, notebook: str) -> Provenance:
    """The provenance of what `notebook` computes now from an experiment's settings."""
    (code,), root = settings_by_hash(experiment), experiment.workspace.root
    software = f"Python {platform.python_version()}, torch {torch.__version__}"
    return Provenance(notebook, revision(root), code, hardware(experiment.compute.device), software)


def settings_by_hash(experiment: Experiment) -> dict[str, Any]:
    """An experiment's settings, JSON-able, by the hash that stands for them in the column "parameters"."""
    settings = experiment.settings.model_dump()
    return {parameters(settings): settings}


def require(rows: pd.DataFrame, table: str) -> None:
    """Raise ProvenanceError if a row of `table` lacks a provenance column, or two differ in one."""
    for column in COLUMNS:
        if column not in rows.columns:
            where = f"the table '{table}' has no column '{column}'"
            raise ProvenanceError(f"{where}: its numbers cannot be traced")
        bare = rows[rows[column].isna() | (rows[column].astype(str).str.strip() == "")]
        if len(bare):
            first = bare.iloc[0]
            cell = f"{first.method}, {first.metric}, nfe {first.nfe}"
            raise ProvenanceError(f"the table '{table}' has a cell without {column}: {cell}")
        if len(several := sorted(set(rows[column].astype(str)))) > 1:
            found = f"the table '{table}' mixes rows of several values of {column}"
            raise ProvenanceError(f"{found} ({', '.join(several)}): measure them again together")
