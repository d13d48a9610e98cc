"""Shared by all tests: the repository's root, and the smallest settings that every part accepts."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewstep import experiments
from fewstep.data.export import export

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def shipped_data() -> None:
    """The data that ship with installed packages, as `make repro` exports them: a fresh clone has none."""
    # mutants.py runs the analytic tests in a copy that has no data and needs none
    if (ROOT / "data.dvc").is_file():
        export(ROOT)


@pytest.fixture(scope="session")
def smoke() -> experiments.Tier:
    """The smoke tier of the repository's own params.yaml."""
    return experiments.load(ROOT / "params.yaml", "smoke")
