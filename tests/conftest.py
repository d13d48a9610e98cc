"""Shared by all tests: the repository's root, and the smallest settings that every part accepts."""

from __future__ import annotations

import ipaddress
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.scheduler import LoadScopeScheduling

from fewstep.data.export import export
from fewstep.settings import tiers

ROOT = Path(__file__).resolve().parents[1]


# tests that change one clone after another, and the two that share what the zoo made in theirs
TOGETHER = ("tests/pipeline/test_pipeline.py", "tests/pipeline/test_both_pipelines.py")


class _Shared(LoadScopeScheduling):
    """How tests are shared out over processes: those that share a clone together, all others one by one."""

    def _split_scope(self, nodeid: str) -> str:
        return next((file for file in TOGETHER if nodeid.startswith(file)), nodeid)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    config.option.loadscopereorder = False  # the order is that below
    return _Shared(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The pipeline first, since it takes longest, and last what waits until it has run once."""

    def rank(item: pytest.Item) -> int:
        if item.nodeid.startswith(TOGETHER[0]):
            return 0
        return 2 if item.nodeid.startswith("tests/pipeline/") else 1

    items.sort(key=rank)


def pytest_addoption(parser: pytest.Parser) -> None:
    where = "where tests marked `cuda` compute (default: cpu); the reference is the CPU's"
    parser.addoption("--device", choices=("cpu", "cuda"), default="cpu", help=where)


def pytest_configure(config: pytest.Config) -> None:
    # here, and not in pyproject.toml, which counts in the revision of every published number
    config.addinivalue_line("markers", "cuda: what a GPU must compute as the CPU does; see --device")
    if config.getoption("--device") == "cuda":
        if not torch.cuda.is_available():
            cure = "take a machine with a GPU and a CUDA build of torch, or leave the option out"
            raise pytest.UsageError(f"--device cuda: no CUDA device is visible; {cure}")
        # cuBLAS repeats its bits with this alone, and reads it when it is loaded
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")


@pytest.fixture(scope="session")
def device(request: pytest.FixtureRequest) -> str:
    """Where a test marked `cuda` computes: "cpu" or, with --device cuda, "cuda"."""
    return str(request.config.getoption("--device"))


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


def _is_here(host: str | bytes | None) -> bool:
    """Whether a name or an address is this machine's own."""
    text = host.decode() if isinstance(host, bytes) else host
    if text in (None, "", "localhost", socket.gethostname()):
        return True
    try:
        address = ipaddress.ip_address(str(text).partition("%")[0])
    except ValueError:
        return False
    return address.is_loopback or address.is_unspecified


@pytest.fixture(scope="session", autouse=True)
def _asked() -> Iterator[list[str]]:
    """What was asked of the network, which is refused: this process connects to itself alone."""
    asked: list[str] = []

    def refuse(what: Any) -> None:
        asked.append(str(what))
        raise OSError(f"a test asked the network for {what}")

    def guarded(original: Callable) -> Callable:
        def send(own: socket.socket, *given: Any) -> Any:
            # an address is the last argument, also of sendto(data, flags, address)
            if own.family in (socket.AF_INET, socket.AF_INET6) and not _is_here(given[-1][0]):
                refuse(given[-1])
            return original(own, *given)

        return send

    look_up = socket.getaddrinfo

    def getaddrinfo(host: Any, *given: Any, **named: Any) -> Any:
        return look_up(host, *given, **named) if _is_here(host) else refuse(host)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("connect", "connect_ex", "sendto"):
            patch.setattr(socket.socket, name, guarded(getattr(socket.socket, name)))
        patch.setattr(socket, "getaddrinfo", getaddrinfo)
        yield asked


@pytest.fixture(autouse=True)
def no_network(_asked: list[str]) -> Iterator[list[str]]:
    """A test that asked the network fails, also where the refusal was caught and passed over."""
    yield _asked
    asked = _asked[:]
    _asked.clear()
    assert not asked, f"the network was asked for {', '.join(asked)}"


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
