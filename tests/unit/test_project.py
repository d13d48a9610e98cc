"""The project's own promises: one story about versions, a dvc.yaml that matches the code, clean notebooks."""

from __future__ import annotations

import ast
import hashlib
import importlib
import json
import os
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
from fewstep.pipeline import phases, report
from fewstep.pipeline import stages as pipeline
from fewstep.settings import tiers
from fewstep.settings.base import SettingsError
from fewstep.settings.names import ZOO
from fewstep.storage import fingerprint
from fewstep.storage.workspace import find_root
from fewstep.training import prepare
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
        text = path.read_text(encoding="utf-8")
        assert not re.search(r"py" + r"pi\.org|files\.python" + r"hosted|/ro" + r"ot/|/wo" + r"rk/", text), (
            path
        )


ROOMS = {"storage", "flows", "objectives", "data", "networks", "metrics", "training"}
# what a stage's name begins with, the notebooks of its phase, and the rooms that it must not depend on
PHASES = {
    "prepare": ("0-", {"flows", "objectives", "evaluation", "pipeline"}),
    "teacher": ("1-", {"metrics", "evaluation", "pipeline"}),
    "students": ("2-", {"metrics", "evaluation", "pipeline"}),
    "sample": ("3-", {"objectives", "metrics", "pipeline"}),
    "measure": ("4-", {"objectives", "pipeline"}),
    "figures": ("5-", {"objectives", "pipeline"}),
    "protocol": ("5-", {"objectives", "pipeline"}),
}


@pytest.fixture(scope="module")
def stages(root):
    """The stages of tiers smoke and paper, by name."""
    return {stage.name: stage for tier in ("smoke", "paper") for stage in pipeline.plan(root, tier)}


def test_dvc_yaml_is_short_and_names_what_params_yaml_has(root):
    assert len((root / "dvc.yaml").read_text(encoding="utf-8").splitlines()) <= 200
    for name in tiers.TIERS:
        tier = tiers.load(root / "params.yaml", name)
        every = pipeline.plan(root, name)
        phases.require_same_experiments([*every, *pipeline.plan(root, name, ZOO)], tier)
        assert every[0].name.startswith("check@") and every[-1].name.startswith("publish@")
        # tier paper has ten experiments, the others eight
        assert sum(stage.notebook is not None for stage in every) <= (52 if name == "paper" else 45)
        prepared = [prepare.prepared(tier, stage.data) for stage in every if stage.data]
        for section in ("features", "latents", "clip"):
            found = sorted(entry for entries in prepared for entry in entries[section])
            assert found == sorted(getattr(tier, section)), "every entry is prepared once"


def test_dvc_reads_the_same_plan(root):
    """This project's own reading of dvc.yaml agrees with DVC's, at the tier that is selected."""
    tier = tiers.read(root / "params.yaml")["tier"]
    done = subprocess.run(
        [str(Path(sys.executable).with_name("dvc")), "stage", "list", "--name-only"],
        cwd=root,
        capture_output=True,
        encoding="utf-8",
        check=True,
    )
    found = [
        stage.name
        for stage in pipeline.plan(root, tier)
        if tier != "paper" or "selfdistill-celeba" not in stage.name
    ]
    assert set(done.stdout.split()) == set(found)


def test_every_stage_comes_after_what_it_needs(stages, root):
    for tier in ("smoke", "paper"):
        made: list[str] = []
        for stage in pipeline.plan(root, tier):
            for path in stage.deps:
                if path.startswith("artifacts/"):
                    assert any(
                        f"{p}/".startswith(f"{path}/") or f"{path}/".startswith(f"{p}/") for p in made
                    ), f"{stage.name} needs {path}, which no stage before it makes"
                else:
                    assert (root / path).exists(), f"{stage.name}: {path}"
            made += stage.outs


def test_a_stage_depends_on_its_notebook_its_settings_and_the_rooms_of_its_phase(root, stages):
    for name, stage in stages.items():
        phase = next((phase for phase in PHASES if name.startswith(phase)), None)
        if phase is None:
            continue
        notebook, forbidden = PHASES[phase]
        assert stage.notebook.startswith(notebook) and f"notebooks/{stage.notebook}.ipynb" in stage.deps
        rooms = {
            Path(path).parts[2] for path in stage.deps if path.startswith("src/") and Path(path).suffix == ""
        }
        assert not rooms & forbidden and "src/fewstep/evaluation/plots" not in stage.deps, name
        if phase in ("teacher", "students"):
            assert rooms == ROOMS - {"metrics"}, name
        own = f"{'-'.join(filter(None, (stage.notebook, stage.experiment or stage.data)))}.ipynb"
        assert f"artifacts/{'paper' if '@paper' in name else 'smoke'}/notebooks/{own}" in stage.outs


def test_every_notebook_that_is_named_is_there(root):
    """Sentences to the user too: a cure that names a notebook of an earlier pipeline cures nothing."""
    there = {path.stem for path in (root / "notebooks").glob("*.ipynb")}
    phases = "tour|prepare|teacher|students|sample|measure|speed|figures|protocol"
    phases += "|latents|clip|features|autoencoder"
    named = re.compile(rf"(?<![\w-])[0-5]-(?:{phases}|distill|self|metrics)[a-z-]*(?![\w])")
    for path in [*(root / "src").rglob("*.py"), *(root / "docs").glob("*.md"), root / "README.md"]:
        for name in named.findall(path.read_text(encoding="utf-8")):
            known = name.rstrip("-") in there or any(name.startswith(f"{own}-") for own in there)
            assert known, f"{path} names the notebook {name}"


def test_a_stage_knows_the_rooms_that_compute_in_it(root, stages):
    """What a stage's notebook computes with, as its imports say, stands in its dependencies."""
    package = root / "src" / "fewstep"
    # what is said of results, draws and looks at them, reads settings, and runs them, computes none of them
    said = ("settings", "evaluation.plots", "evaluation.methods", "evaluation.display")
    shown = tuple(
        f"fewstep.{name}" for name in (*said, "pipeline", "evaluation.tables", "evaluation.published")
    )
    entries = {
        "1-teacher": ["fewstep.training.train"],
        "3-sample": ["fewstep.evaluation.sample"],
        "4-measure": ["fewstep.evaluation.measure"],
    }
    for stage in stages.values():
        for module in entries.get(stage.notebook, ()):
            without = shown if stage.notebook == "1-teacher" else [*shown, "fewstep.training"]
            files = fingerprint.closure([module], without)
            for name, file in files.items():
                path = f"src/fewstep/{file.relative_to(package).as_posix()}"
                known = any(path == dep or path.startswith(f"{dep}/") for dep in stage.deps)
                loose = file.name == "__init__.py" or name.startswith("fewstep.training.")
                assert known or loose, f"{stage.name} does not depend on {path}"


def test_the_settings_of_a_phase_follow_its_own_part_of_params_yaml(root, tmp_path):
    tier = tiers.load(root / "params.yaml", "smoke")
    shutil.copy(root / "params.yaml", tmp_path)
    # as `dvc exp run -S` sets it
    change = ["++tiers.smoke.experiments.fmm-checkerboard.methods.emd.steps=90"]
    apply_overrides(tmp_path / "params.yaml", change)
    before = phases.settings_files(tier)
    after = phases.settings_files(tiers.load(tmp_path / "params.yaml", "smoke"))
    assert {name for name in before if before[name] != after[name]} == {
        "fmm-checkerboard/students.json",
        "fmm-checkerboard/experiment.json",
    }
    phases.write_settings(tier, tmp_path)
    (tmp_path / "foreign.json").write_text("{}", encoding="utf-8")
    first = {path: path.read_bytes() for path in tmp_path.rglob("*.json")}
    own = {name: settings for name, settings in tier.experiments.items() if name != "fmm-cifar10"}
    phases.write_settings(tier.model_copy(update={"experiments": own}), tmp_path)
    assert not (tmp_path / "fmm-cifar10/students.json").exists() and (tmp_path / "foreign.json").exists()
    phases.write_settings(tier, tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*.json")} == first
    named = {f"artifacts/smoke/settings/{name}" for name in before}
    needed = {dep for stage in pipeline.plan(root, "smoke") for dep in stage.deps if "/settings/" in dep}
    assert needed <= named


def test_an_experiment_that_only_one_file_names_is_one_sentence(root):
    tier = tiers.load(root / "params.yaml", "smoke")
    every = pipeline.plan(root, "smoke") + pipeline.plan(root, "smoke", ZOO)
    fewer = tuple(stage for stage in every if stage.experiment != "fmm-cifar10")
    with pytest.raises(
        SettingsError, match="params.yaml names the experiment 'fmm-cifar10', which dvc.yaml lacks"
    ):
        phases.require_same_experiments(fewer, tier)
    own = {name: settings for name, settings in tier.experiments.items() if name != "fmm-cifar10"}
    with pytest.raises(SettingsError, match="dvc.yaml names the experiment 'fmm-cifar10', which params.yaml"):
        phases.require_same_experiments(every, tier.model_copy(update={"experiments": own}))


def test_source_notebooks_are_clean_and_byte_stable(root):
    assert not [fault for path in (root / "notebooks").glob("*.ipynb") for fault in unclean(path)]


def test_a_source_notebook_with_an_output_is_named(tmp_path):
    cells = [{"id": "cell-0", "outputs": []}, {"id": "cell-1", "outputs": ["x"]}, {"id": "a"}]
    (tmp_path / "a.ipynb").write_text(json.dumps({"cells": cells}), encoding="utf-8")
    clear, name = unclean(tmp_path / "a.ipynb")
    assert "clear the outputs of cell-1" in clear and "call the cell a cell-2" in name


def test_notebooks_call_and_do_not_compute(root):
    loops = []
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if cell["cell_type"] == "code":
                source = "".join(cell["source"])
                assert not [line for line in source.splitlines() if len(line) > 110], f"{path}: {source}"
                if ".backward()" in source:
                    loops.append(path.stem)
                elif path.stem != "0-tour":
                    assert not re.search(
                        r"^\s*(import torch|import numpy|class |for .* in range|%)", source, re.M
                    ), f"{path}: {source}"
    assert loops == ["0-tour"], "the tour shows one training loop in plain sight, and no other notebook does"


def test_a_notebook_that_is_opened_by_hand_names_something_that_there_is(root):
    """Its default parameters are those of a stage that executes it."""
    every = pipeline.plan(root, "laptop") + pipeline.plan(root, "laptop", ZOO)
    known = {(s.notebook, s.experiment, s.data) for s in every}
    for path in sorted((root / "notebooks").glob("*.ipynb")):
        cells = [
            cell
            for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if "parameters" in cell["metadata"].get("tags", [])
        ]
        said: dict[str, str] = {}
        exec("".join(cells[0]["source"]), said)
        assert said["tier"] == "laptop" and (path.stem, said.get("experiment"), said.get("data")) in known, (
            path
        )


def test_dvc_reaches_no_network(root):
    config = (root / ".dvc" / "config").read_text(encoding="utf-8")
    assert "analytics = false" in config and "check_update = false" in config and "remote" not in config


def test_data_is_exported_byte_for_byte(root, tmp_path):
    (tmp_path / "data.dvc").write_text((root / "data.dvc").read_text(encoding="utf-8"), encoding="utf-8")
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
    (tmp_path / "data.dvc").write_text((root / "data.dvc").read_text(encoding="utf-8"), encoding="utf-8")
    export.export(tmp_path)
    content = bytearray((tmp_path / name).read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(export.ArchiveError, match=f"{name} differs from data.dvc .* delete it and run"):
        export.export(tmp_path)
    assert (tmp_path / name).read_bytes() == content


def test_a_broken_data_dvc_is_one_sentence(tmp_path):
    with pytest.raises(export.ArchiveError, match="data.dvc cannot be read"):
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
    assert (root / ".ci" / "run").read_text(encoding="utf-8").strip().splitlines()[-1] == "make test"
    readme = (root / "README.md").read_text(encoding="utf-8")
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
    text = (root / "README.md").read_text(encoding="utf-8")
    assert report.refresh_readme(root, text) == text, "run `python -m fewstep readme`"


def _without_encoding(path: Path) -> list[int]:
    """The lines of a Python file that read or write a text in whatever encoding the machine prefers."""
    calls = [n for n in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(n, ast.Call)]
    found = []
    for call in calls:
        given = {keyword.arg for keyword in call.keywords}
        name = getattr(call.func, "attr", getattr(call.func, "id", ""))
        arguments = {"read_text": 0, "write_text": 1}.get(name)
        reads = name == "run" and "text" in given
        binary = any("b" in str(getattr(mode, "value", "")) for mode in call.args[1:])
        opens = isinstance(call.func, ast.Name) and name == "open" and not binary
        if "encoding" not in given and (reads or opens or arguments == len(call.args)):
            found.append(call.lineno)
    return found


def test_every_text_is_read_and_written_as_utf8(root):
    """Ruff's PLW1514 sees only the files whose type it can infer."""
    here = [*(root / "src").rglob("*.py"), *(root / "tests" / "bad_inputs").glob("*.py"), Path(__file__)]
    found = {path.name: lines for path in here if (lines := _without_encoding(path))}
    assert found == {} and len(here) > 150


def test_a_locale_that_is_not_utf8_changes_nothing(root, tmp_path):
    """README.md, params.yaml with a comment, and the code's fingerprints, under the C locale."""
    for name in ("README.md", "params.yaml", "dvc.yaml"):
        shutil.copy(root / name, tmp_path)
    shutil.copytree(root / "results" / "overnight", tmp_path / "results" / "overnight")
    text = (root / "params.yaml").read_text(encoding="utf-8")
    (tmp_path / "params.yaml").write_text(f"# größer\n{text}", encoding="utf-8")
    code = (
        "from fewstep.storage.fingerprint import fingerprint; print(fingerprint({}, ['fewstep.flows.times']))"
    )
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = (["-m", "fewstep", "readme"], ["-m", "fewstep", "settings", "tour"], ["-c", code])
    for command in words:
        here, there = (
            subprocess.run([sys.executable, *command], cwd=tmp_path, env=env, capture_output=True, check=True)
            for env in (os.environ, plain)
        )
        assert here.stdout == there.stdout and not there.stderr
    assert (tmp_path / "README.md").read_bytes() == (root / "README.md").read_bytes()


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
