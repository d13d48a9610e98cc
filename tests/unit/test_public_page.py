"""`from fewstep import ...`: light, without side effects, and every name with an example that runs."""

from __future__ import annotations

import ast
import doctest
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import fewstep
from fewstep import networks, objectives
from fewstep.storage.checkpoint import save_checkpoint

HEAVY = (
    "dvc",
    "IPython",
    "jupyterlab",
    "pandas",
    "pydantic",
    "diffusers",
    "transformers",
    "scipy",
    "torchvision",
)
NETWORK = {
    "kind": "mlp", "width": 8, "depth": 1, "activation": "silu", "frequencies": [1], "time_frequencies": [1],
}  # fmt: skip
LOAD = f"""
import json, os, sys, time, warnings
import torch
before = torch.get_default_dtype(), torch.get_num_threads(), list(warnings.filters), dict(os.environ)
start = time.process_time()
from fewstep import *
seconds = time.process_time() - start
after = torch.get_default_dtype(), torch.get_num_threads(), list(warnings.filters), dict(os.environ)
operators = [name for name in dir(torch.ops.torchvision) if name in ("nms", "qnms")]
heavy = [name for name in {HEAVY} if name in sys.modules]
print(json.dumps([seconds, before == after, heavy, operators, CheckerboardFlow.__name__]))
"""


def test_loading_it_is_quick_and_drags_nothing_in_and_changes_nothing():
    done = subprocess.run([sys.executable, "-c", LOAD], capture_output=True, text=True, check=True)
    seconds, unchanged, heavy, operators, name = json.loads(done.stdout)
    # what comes on top of torch itself, which takes a second and a half
    assert seconds < 0.4, f"{seconds:.2f} s of processor time on top of torch"
    assert unchanged and heavy == [] and operators == [] and name == "CheckerboardFlow"


def test_it_loads_in_two_seconds_of_processor_time():
    timed = "import time; from fewstep import *; print(time.process_time())"
    spent = [
        float(
            subprocess.run([sys.executable, "-c", timed], capture_output=True, text=True, check=True).stdout
        )
        for _ in range(2)
    ]
    assert min(spent) < 2, spent


def test_the_module_itself_loads_nothing():
    done = subprocess.run(
        [sys.executable, "-c", "import sys, fewstep; print('torch' in sys.modules, dir(fewstep)[:2])"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.split()[0] == "False"
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        fewstep.nothing  # noqa: B018


def test_type_checkers_see_the_same_names():
    tree = ast.parse(Path(fewstep.__file__).with_suffix(".pyi").read_text(encoding="utf-8"))
    lines = [node for node in tree.body if isinstance(node, ast.ImportFrom)]
    told = {alias.asname: f"{node.module}.{alias.name}" for node in lines for alias in node.names}
    assert told == {name: f"{module}.{name}" for name, module in fewstep._WHERE.items()}
    assert (Path(fewstep.__file__).parent / "py.typed").is_file()


def test_every_objective_is_on_it():
    assert set(objectives.names()) <= set(fewstep.__all__)


@pytest.mark.parametrize("name", [name for name in fewstep.__all__ if not name.isupper() or name == "MLP"])
def test_every_example_runs(name, tmp_path, monkeypatch):
    # the trained flow map that load_flow_map's example loads
    weights = {f"weights.{key}": value for key, value in networks.build(NETWORK, (2,)).state_dict().items()}
    save_checkpoint(tmp_path / "seed-0.safetensors", weights, {"network": NETWORK, "shape": [2]})
    monkeypatch.chdir(tmp_path)
    there = getattr(fewstep, name)
    text = inspect.getdoc(there)
    assert ">>> " in text, f"{name} has no example"
    names = {known: getattr(fewstep, known) for known in fewstep.__all__} | {"torch": torch}
    test = doctest.DocTestParser().get_doctest(text, names, name, None, None)
    said: list[str] = []
    torch.manual_seed(0)
    found = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert found.failed == 0 and found.attempted, "".join(said)


@pytest.mark.parametrize("name", objectives.names())
def test_every_objective_shows_its_equation_its_paper_and_its_code(name):
    text = objectives.equation(name)
    assert text.count("$$") == 2 and "arXiv " in text.splitlines()[0] and f"def {name}(" in text
    assert all(len(line) < 120 for line in text.splitlines())
