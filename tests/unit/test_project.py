"""The project's own promises: one story about versions, a dvc.yaml that matches the code, clean notebooks."""

from __future__ import annotations

import hashlib
import importlib
import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest
import yaml
from dvc.utils.hydra import apply_overrides
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from fewstep.data import export
from fewstep.pipeline import report
from fewstep.pipeline import stages as pipeline
from fewstep.settings import tiers
from fewstep.storage import fingerprint
from fewstep.storage.workspace import find_root
from tests.clean_notebooks import unclean


def pins(lines: list[str]) -> dict[str, str]:
    """Exact versions by normalised name."""
    return {canonicalize_name(name): version for name, _, version in (line.partition("==") for line in lines)}


def requirements(root: Path) -> dict[str, list[Requirement]]:
    """What pyproject.toml asks for: under "" for the library itself, and by extra."""
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    asked = {"": project["dependencies"]} | project["optional-dependencies"]
    return {extra: [Requirement(line) for line in lines] for extra, lines in asked.items()}


def test_pyproject_has_ranges_and_constraints_the_versions_within_them(root):
    lines = (root / "constraints.txt").read_text(encoding="utf-8").splitlines()
    exact = pins([line for line in lines if not line.startswith("#")])
    assert len(exact) > 150 and all(exact.values())
    asked = requirements(root)
    for extra, wanted in asked.items():
        for requirement in wanted:
            if requirement.name == "fewstep":
                assert requirement.extras <= set(asked), extra
                continue
            assert not str(requirement.specifier).startswith("=="), (
                f"{requirement}: exact versions go elsewhere"
            )
            version = exact[canonicalize_name(requirement.name)]
            assert requirement.specifier.contains(version), (
                f"{requirement} excludes {version}, which is tested"
            )
    assert {requirement.name for requirement in asked[""]} == {"torch", "numpy", "safetensors"}


def test_environment_yml_and_make_env_install_the_same(root):
    conda = yaml.safe_load((root / "environment.yml").read_text(encoding="utf-8"))
    by_pip = next(entry["pip"] for entry in conda["dependencies"] if isinstance(entry, dict))
    assert by_pip == ["-c constraints.txt", "-e .[all]"]
    assert '-c constraints.txt -e ".[all]"' in (root / "Makefile").read_text(encoding="utf-8")
    python = next(
        line for line in conda["dependencies"] if isinstance(line, str) and line.startswith("python=")
    )
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["requires-python"] == f">={python.removeprefix('python=')}"
    everything = next(iter(requirements(root)["all"])).extras
    assert everything == {"images", "pipeline", "release", "test", "dev"}


def test_the_hooks_of_a_commit_are_those_of_make_check_and_reach_no_network(root):
    repositories = yaml.safe_load((root / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    hooks = [hook for repository in repositories for hook in repository["hooks"]]
    assert {repository["repo"] for repository in repositories} == {"local"}
    assert {hook["language"] for hook in hooks} == {"system"}
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    for tool in ("ruff check", "ruff format --check", "mypy"):
        assert f"$(BIN)/{tool}" in makefile and tool in [hook["entry"] for hook in hooks]
    assert "test: check\n" in makefile


def test_the_command_is_installed_under_its_name(root):
    project = tomllib.loads((root / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    module, _, name = project["scripts"]["fewstep"].partition(":")
    assert callable(getattr(importlib.import_module(module), name))


def test_no_committed_text_names_a_host_of_packages_or_a_folder_of_a_machine(root):
    names = [
        p
        for p in root.rglob("*")
        if p.is_file()
        and p.suffix in (".py", ".md", ".yml", ".yaml", ".toml", ".txt", ".cff", ".dvc", ".lock")
    ]
    # outside the repository's own environment, caches and artifacts
    kept = [
        p
        for p in names
        if not {".venv", "artifacts", ".git", "tmp", "cache"} & set(p.relative_to(root).parts)
    ]
    assert len(kept) > 60
    for path in kept:
        text = path.read_text()
        assert not re.search(r"py" + r"pi\.org|files\.python" + r"hosted|/ro" + r"ot/|/wo" + r"rk/", text), (
            path
        )


def test_dvc_yaml_is_what_params_make_it(root):
    for name, text in pipeline.render(root).items():
        assert (root / name).read_text() == text, f"{name}: run `python -m fewstep stages`"


@pytest.fixture(scope="module")
def stage_inputs(root):
    """What each stage of tier smoke is made from."""
    return pipeline.inputs(root, tiers.load(root / "params.yaml", "smoke"))


def test_a_training_depends_on_its_own_objective_and_on_no_other(stage_inputs):
    modules = {name: {Path(file).stem for file in found["code"]} for name, found in stage_inputs.items()}
    objectives = {
        name: {Path(f).stem for f in found["code"] if "/objectives/" in f} - {"__init__", "common"}
        for name, found in stage_inputs.items()
    }
    assert objectives["fmm-checkerboard-lmd"] == {"lmd"} and objectives["selfdistill-checkerboard-lsd"] == {
        "si",
        "lsd",
    }
    trainings = [
        stage.name
        for stage in pipeline.plan(tiers.load(find_root() / "params.yaml", "smoke"))
        if stage.method
    ]
    assert len(trainings) == 43
    for name in trainings:
        assert "job" in modules[name], name
        assert not any(
            "/evaluation/" in file or "/pipeline/" in file
            for file in stage_inputs[name]["code"]
            if "settings" not in file
            and "plots" not in file
            and "__init__" not in file
            and "display" not in file
        ), name
    assert (
        objectives["scflow-celebahq-scflow"] == set()
        and {"scflow", "losses", "discriminator"} <= modules["scflow-celebahq-scflow"]
    )
    assert not {"losses", "discriminator"} & modules["scflow-celebahq-lmd"]
    assert "unet" in modules["fmm-cifar10-lmd"] and "unet" not in modules["fmm-checkerboard-lmd"]
    assert set(stage_inputs["fmm-cifar10-lmd"]["data"]) == {"data/digits.npy", "data/digits_labels.npy"}


def test_a_stage_is_stage_inputs_the_modules_that_it_really_imports(root, stage_inputs):
    """Importing what a notebook imports loads no module of the package that its stage does not know."""
    for name, notebook in (
        ("fmm-checkerboard-lmd", "2-distill"),
        ("fmm-cifar10-metrics", "4-metrics-images"),
        ("figures", "5-figures"),
    ):
        cells = json.loads((root / "notebooks" / f"{notebook}.ipynb").read_text())["cells"]
        lines = [
            line
            for c in cells
            if c["cell_type"] == "code"
            for line in "".join(c["source"]).splitlines()
            if line.startswith(("from ", "import "))
        ]
        show = (
            "import sys; print(*(m.__file__ for n, m in sys.modules.items() if n.split('.')[0] == 'fewstep'))"
        )
        done = subprocess.run(
            [sys.executable, "-c", "\n".join([*lines, show])], capture_output=True, text=True, check=True
        )
        package = Path(pipeline.__file__).parents[1]
        loaded = {f"src/fewstep/{Path(file).relative_to(package).as_posix()}" for file in done.stdout.split()}
        assert "src/fewstep/settings/tiers.py" in loaded and loaded <= set(stage_inputs[name]["code"]), name


def test_what_a_stage_is_stage_inputs_follows_its_settings_and_nothing_else(root, tmp_path, stage_inputs):
    shutil.copy(root / "params.yaml", tmp_path)
    apply_overrides(
        tmp_path / "params.yaml", ["++tiers.smoke.experiments.fmm-checkerboard.methods.emd.steps=90"]
    )
    changed = pipeline.inputs(root, tiers.load(tmp_path / "params.yaml", "smoke"))
    assert {name for name in changed if changed[name] != stage_inputs[name]} == {
        "fmm-checkerboard-emd",
        "fmm-checkerboard-metrics",
    }


def test_source_notebooks_are_clean_and_byte_stable(root):
    assert not [fault for path in (root / "notebooks").glob("*.ipynb") for fault in unclean(path)]


def test_a_source_notebook_with_an_output_is_named(tmp_path):
    cells = [{"id": "cell-0", "outputs": []}, {"id": "cell-1", "outputs": ["x"]}, {"id": "a"}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    clear, name = unclean(tmp_path / "a.ipynb")
    assert "clear the outputs of cell-1" in clear and "call the cell a cell-2" in name


def test_notebooks_call_and_do_not_compute(root):
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text())["cells"]:
            if cell["cell_type"] == "code":
                source = "".join(cell["source"])
                assert not re.search(
                    r"^\s*(import torch|import numpy|class |for .* in range|%)", source, re.M
                ), f"{path}: {source}"


def test_a_notebook_that_is_opened_by_hand_names_something_that_there_is(root):
    """Its default parameters are those of a stage that executes it."""
    stages = {
        (stage.notebook, stage.experiment, stage.method)
        for stage in pipeline.plan(tiers.load(root / "params.yaml", "laptop"))
    }
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        if path.stem in ("0-tour", "5-figures"):
            continue
        cells = [
            cell
            for cell in json.loads(path.read_text())["cells"]
            if "parameters" in cell["metadata"].get("tags", [])
        ]
        said: dict[str, str] = {}
        exec("".join(cells[0]["source"]), said)
        assert said["tier"] == "laptop" and (path.stem, said["experiment"], said.get("method")) in stages, (
            path
        )


def test_dvc_reaches_no_network(root):
    config = (root / ".dvc" / "config").read_text()
    assert "analytics = false" in config and "check_update = false" in config and "remote" not in config


def test_data_is_exported_byte_for_byte(root, tmp_path):
    (tmp_path / "data.dvc").write_text((root / "data.dvc").read_text())
    assert set(export.export(tmp_path)) == set(export.EXPORTS)
    for name, checksum in export.checksums(root).items():
        assert hashlib.md5((tmp_path / name).read_bytes()).hexdigest() == checksum
    assert export.export(tmp_path) == []
    assert np.load(tmp_path / "data/digits.npy").shape == (1797, 8, 8)
    points = np.load(tmp_path / "data/checkerboard.npy")
    cell = np.floor((points + 1) / 0.5).astype(int)
    assert points.shape == (64_000, 2) and ((cell.sum(1) % 2) == 0).all()


@pytest.mark.parametrize("name", sorted(export.EXPORTS))
def test_one_changed_byte_is_named_and_never_overwritten(root, tmp_path, name):
    (tmp_path / "data.dvc").write_text((root / "data.dvc").read_text())
    export.export(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(export.DataError, match=f"{name} differs from data.dvc .* delete it and run"):
        export.export(tmp_path)
    assert (tmp_path / name).read_bytes() == content


def test_a_broken_data_dvc_is_one_sentence(tmp_path):
    with pytest.raises(export.DataError, match="data.dvc cannot be read"):
        export.export(tmp_path)


def test_the_root_is_found_or_missed_in_one_sentence(root, tmp_path):
    assert find_root(root / "tests" / "unit") == root
    with pytest.raises(FileNotFoundError, match="run this inside a clone"):
        find_root(tmp_path)


def test_a_fingerprint_ignores_words_and_sees_code():
    base = 'def f(x):\n    """Doc."""\n    return x + 1  # why\n'
    same = 'def f(x):\n    """Another text,\n    longer."""\n\n    return (x + 1)\n'
    assert fingerprint.code(base) == fingerprint.code(same)
    assert fingerprint.code(base) != fingerprint.code(base.replace("+", "-"))
    assert fingerprint.fingerprint({"a": 1}, ["fewstep.flows.times"]) != fingerprint.fingerprint(
        {"a": 2}, ["fewstep.flows.times"]
    )


def test_the_import_graph_follows_relative_imports():
    files = fingerprint.closure(["fewstep.objectives.esd"])
    assert {
        "fewstep.objectives.esd",
        "fewstep.objectives.common",
        "fewstep.flows.flow_map",
        "fewstep.flows.interpolants",
        "fewstep",
    } <= set(files)
    assert "fewstep.objectives.lmd" not in files and "fewstep.training.train" not in files
    assert "fewstep.flows.flow_map" not in fingerprint.closure(
        ["fewstep.objectives.esd"], without=["fewstep.flows.flow_map"]
    )


def test_the_readme_names_what_ci_calls(root):
    assert (root / ".ci" / "run").read_text().strip().splitlines()[-1] == "make test"
    readme = (root / "README.md").read_text()
    for command in (
        "make repro",
        "make test",
        "make bench",
        "pip install .",
        "conda env create -f environment.yml",
        "dvc metrics show",
        "dvc metrics diff",
        "dvc dag",
        "dvc exp show",
        "dvc exp run -S",
    ):
        assert command in readme, command


def test_the_results_in_the_readme_are_the_results_on_disk(root):
    text = (root / "README.md").read_text()
    assert report.refresh_readme(root, text) == text, "run `python -m fewstep readme`"


def test_pages_link_to_what_there_is(root):
    pages = [
        *(root / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *(root / "docs").glob("*.md"),
    ]
    assert len(pages) >= 8
    for page in pages:
        for target in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            if not target.startswith("https://"):
                assert (page.parent / target).exists(), f"{page.name}: {target}"
