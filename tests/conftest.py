"""Shared by all tests: the repository's root, and the smallest settings that every part accepts."""

from __future__ import annotations

from pathlib import Path

import pytest
from xdist.scheduler import LoadScopeScheduling

from fewstep.data.export import export
from fewstep.settings import tiers

ROOT = Path(__file__).resolve().parents[1]


class _Shared(LoadScopeScheduling):
    """How tests are shared out over processes: those of the pipeline together, because they share one clone;
    all others one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return "pipeline" if nodeid.startswith("tests/pipeline/") else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return _Shared(config, log)


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
def smoke() -> tiers.Tier:
    """The smoke tier of the repository's own params.yaml."""
    return tiers.load(ROOT / "params.yaml", "smoke")
