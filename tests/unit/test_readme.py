"""README's examples run as they stand, and print what they say."""

import re

import pytest

from fewstep import MLP, NetworkFlowMap
from fewstep.pipeline.stages import plan
from fewstep.storage.checkpoint import save_checkpoint


@pytest.fixture(scope="module")
def blocks(root) -> list[str]:
    text = (root / "README.md").read_text(encoding="utf-8")
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_loss_in_ten_lines_prints_what_it_says(blocks, capsys):
    (loss,) = (block for block in blocks if "backward()" in block)
    said = re.search(r"# (\S+)$", loss, re.M)[1]
    exec(compile(loss, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == said


def test_the_samples_in_five_are_those_of_a_stored_map(blocks, tmp_path, monkeypatch):
    (samples,) = (block for block in blocks if "load_flow_map(" in block)
    wanted = "artifacts/laptop/fmm-checkerboard/students/lmd/seed-0.safetensors"
    assert f'"{wanted}"' in samples and len(samples.strip().splitlines()) == 5
    own = {"width": 8, "depth": 1, "activation": "silu", "frequencies": [1], "time_frequencies": [1]}
    flow_map = NetworkFlowMap(MLP((2,), **own))
    info = {"shape": [2], "network": {"kind": "mlp", **own}}
    (tmp_path / wanted).parent.mkdir(parents=True)
    weights = {f"weights.{name}": value for name, value in flow_map.state_dict().items()}
    save_checkpoint(tmp_path / wanted, weights, info)
    monkeypatch.chdir(tmp_path)
    found: dict = {}
    exec(compile(samples, "README.md", "exec"), found)
    assert found["x"].shape == (1000, 2)


def test_make_tour_runs_the_tour_and_what_it_needs_alone(root):
    text, readme = ((root / name).read_text(encoding="utf-8") for name in ("Makefile", "README.md"))
    target = text.partition("\ntour: env\n")[2].partition("\n\n")[0]
    assert target.endswith("/dvc repro tour") and "\nmake tour " in readme
    stages = {stage.name: stage for stage in plan(root, "laptop")}
    tour = stages.pop("tour@laptop")
    assert tour.notebook == "0-tour"
    handed = {name: [dep for dep in tour.deps if dep.startswith(own.outs)] for name, own in stages.items()}
    assert [name for name, deps in handed.items() if deps] == ["check@laptop"]
