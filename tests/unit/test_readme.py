"""README's examples run as they stand in a fresh clone, and print what they say."""

import re
import shlex

import pytest

from fewstep import cli
from fewstep.pipeline.stages import plan


@pytest.fixture(scope="module")
def text(root) -> str:
    return (root / "README.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def blocks(text) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.S)


def test_the_loss_in_ten_lines_prints_what_it_says(blocks, capsys):
    (loss,) = (block for block in blocks if "backward()" in block)
    said = re.search(r"# (\S+)$", loss, re.M)[1]
    exec(compile(loss, "README.md", "exec"), {})
    assert capsys.readouterr().out.strip() == said


def test_the_samples_in_five_are_those_of_the_student_that_comes_with_the_clone(blocks, root, monkeypatch):
    (samples,) = (block for block in blocks if "load_flow_map(" in block)
    assert len(samples.strip().splitlines()) == 5
    monkeypatch.chdir(root)
    found: dict = {}
    exec(compile(samples, "README.md", "exec"), found)
    assert found["x"].shape == (1000, 2)
    # the checkerboard's squares lie in [-1, 1]^2
    assert (found["x"].abs() < 1.05).all(1).float().mean() > 0.95


def test_the_pictures_are_those_of_the_student_that_comes_with_the_clone(
    blocks, text, root, monkeypatch, tmp_path, capsys
):
    (pictures,) = (block for block in blocks if "from_pretrained(" in block)
    monkeypatch.chdir(root)
    found: dict = {}
    exec(compile(pictures, "README.md", "exec"), found)
    assert [image.size for image in found["images"]] == [(32, 32)]
    (command,) = re.findall(r"^python -m fewstep (sample .*)$", text, re.M)
    cli.run([*shlex.split(command), "--to", str(tmp_path / "two.png")])
    assert "shows 2 images: SCFlow of scflow-coco2017, N = 1" in capsys.readouterr().out


def test_make_tour_runs_the_tour_and_what_it_needs_alone(root):
    text, readme = ((root / name).read_text(encoding="utf-8") for name in ("Makefile", "README.md"))
    target = text.partition("\ntour: env\n")[2].partition("\n\n")[0]
    assert target.endswith("/dvc repro tour") and "\nmake tour " in readme
    stages = {stage.name: stage for stage in plan(root, "laptop")}
    tour = stages.pop("tour@laptop")
    assert tour.notebook == "0-tour"
    handed = {name: [dep for dep in tour.deps if dep.startswith(own.outs)] for name, own in stages.items()}
    assert [name for name, deps in handed.items() if deps] == ["check@laptop"]
