"""The pipeline at tier smoke in a clean clone: what runs, what does not run again, and what survives."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import signal
import subprocess
import time

import pandas as pd
import pytest
from dvc.utils.hydra import apply_overrides

from .conftest import Clone, scratch

FMM, SELF, SCFLOW = "fmm-checkerboard", "selfdistill-checkerboard", "scflow-celebahq"
CONSISTENCY = "consistency only"
IMAGES = ("fmm-cifar10", "fmm-imagenet32", "selfdistill-cifar10")
# the tour, four data sets, five teachers, seven experiments that train students, eight that are sampled and
# measured, seven that are drawn, the speed, and other protocols
NOTEBOOKS = 1 + 4 + 5 + 7 + 2 * 8 + 7 + 1 + 1
# of `make zoo`: four phases of three experiments, and one notebook of all
ZOO_NOTEBOOKS = 4 * 3 + 1
# what a second `dvc repro` may take of processor time
NOTHING = 3.0


def contents(clone: Clone, *folders: str) -> dict[str, bytes]:
    """Every file below the folders, by path."""
    found = {}
    for folder in folders:
        for path in sorted(clone.file(folder).rglob("*")):
            if path.is_file() and path.name != "timings.csv":
                found[str(path.relative_to(clone.path))] = path.read_bytes()
    return found


def test_every_table_claim_figure_and_notebook_is_there(built):
    fmm, own = {"SI", "LMD", "EMD", "FMM", "PFMM"}, {"LSD", "ESD", "PSD-M", "PSD-U"}
    solvers = {"SI, heun", "SI, adaptive"}
    tables = {
        FMM: fmm | {"exact"}, SELF: own | {"exact"}, "fmm-cifar10": fmm | solvers, "fmm-imagenet32": fmm,
        "fmm-speed": fmm | solvers,
        "selfdistill-cifar10": own | {"MeanFlow"},
        SCFLOW: solvers | {"SI", "SCFlow", "LMD", "LSD"}
        | {CONSISTENCY, "2-rectified flow", "rectified and distilled"},
        "scflow-ablation": {"SCFlow", CONSISTENCY, "truncated"}
        | {f"truncated + {loss}" for loss in ("adversarial", "reflow", "bidirectional")},
        "scflow-settings": {"SCFlow", "SCFlow, stochastic-0.5"}
        | {f"SCFlow, threshold {delta}" for delta in (0.03, 0.3)}
        | {f"SCFlow, truncation {start}" for start in (0.1, 0.7)},
        "scflow-consistency": None,
        "protocol-sensitivity": {"SCFlow", "LMD"},
        "scflow-coco2017": {"SI", "InstaFlow", "SCFlow"},
        "scflow-coco2014": {"SI", "InstaFlow", "SCFlow"},
        "scflow-guidance": {"SI", "SI, guided-3", "SCFlow", "SCFlow, guided-1.5"},
        "scflow-t2i-consistency": None,
    }  # fmt: skip
    assert {path.stem for path in built.file("results/smoke/tables").iterdir()} == set(tables)
    for name, methods in tables.items():
        table = pd.read_csv(built.file(f"results/smoke/tables/{name}.csv"))
        assert methods is None or set(table.method) == methods, name
        assert set(table.tier) == {"smoke"} and table.value.notna().all()
        for column in ("notebook", "revision", "parameters", "hardware", "software", "protocol"):
            assert table[column].notna().all(), column
        assert (table.groupby(["metric"]).protocol.nunique() == 1).all()
    claims = pd.read_csv(built.file("results/smoke/claims.csv"))
    assert (
        len(claims) >= 46
        and claims.claim.is_unique
        and set(claims.verdict) <= {"supported", "contradicted", "undecided"}
    )
    assert len(list(built.file("results/smoke/figures").glob("*.png"))) == 8 + 3 * 4 + 2 + 3 + 3 + 1 + 1
    notebooks = list(built.file("results/smoke/notebooks").glob("*.ipynb"))
    assert len(notebooks) == NOTEBOOKS
    for path in notebooks:
        cells = [c for c in json.loads(path.read_text(encoding="utf-8"))["cells"] if c["cell_type"] == "code"]
        assert any(c["outputs"] for c in cells), path
        assert not [
            o for c in cells for o in c["outputs"] if o["output_type"] == "error" or o.get("name") == "stderr"
        ], path
        assert str(built.origin) not in path.read_text(encoding="utf-8"), (
            f"{path.name} names a folder of this machine"
        )


def test_the_choices_of_a_protocol_stand_beside_the_numbers_of_the_tables(built):
    """FID by the own protocol, and as JPEG, are those of the experiment's table; PNG changes nothing."""
    named = ("method", "metric", "nfe")
    own, whole = (
        pd.read_csv(built.file(f"results/smoke/tables/{name}.csv")).set_index(list(named))
        for name in ("protocol-sensitivity", SCFLOW)
    )
    for method in ("SCFlow", "LMD"):
        for metric in ("FID", "FID as JPEG"):
            cell = (method, metric, 1)
            assert own.value[cell] == whole.value[cell] and own.protocol[cell] == whole.protocol[cell]
        assert own.value[method, "FID as PNG", 1] == own.value[method, "FID", 1]
        changed = own.value[method, "FID as JPEG, change", 1]
        expected = whole.value[method, "FID as JPEG", 1] - whole.value[method, "FID", 1]
        assert changed == pytest.approx(expected, abs=1e-3)
        assert own.value[method, "FID, best setting", 1] <= own.value[method, "FID", 1]
    assert {"FID without EMA", "FID, half the reference"} < set(own.index.get_level_values("metric"))
    assert "FID, resized as by pytorch-fid" not in own.index.get_level_values("metric")


def stamps(clone: Clone, *folders: str) -> dict[str, int]:
    """When every file below the folders was written, by path."""
    paths = [path for folder in folders for path in clone.file(folder).rglob("*.safetensors")]
    return {path.relative_to(clone.path).as_posix(): path.stat().st_mtime_ns for path in paths}


def test_only_the_notebooks_of_todays_stages_are_published(built):
    stale = built.file("artifacts/smoke/notebooks/4-metrics-old.ipynb")
    before = contents(built, "results/smoke")
    stale.write_text("{}", encoding="utf-8")
    try:
        built.run("python", "-m", "fewstep", "publish", "--tier", "smoke")
    finally:
        stale.unlink()
    assert contents(built, "results/smoke") == before


def test_a_second_run_does_nothing(built):
    before, seconds = contents(built, "results/smoke"), []
    for _ in range(3):
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = built.run("dvc", "repro")
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        seconds.append(after.ru_utime + after.ru_stime - used.ru_utime - used.ru_stime)
        assert "Data and pipelines are up to date." in done.stdout and "Running" not in done.stdout
    assert contents(built, "results/smoke") == before
    # what else the machine is at only adds to it
    assert min(seconds) < NOTHING


def test_what_is_committed_is_known_to_be_up_to_date(built, tmp_path):
    other = tmp_path / "elsewhere"
    left_out = {str(built.path): {"artifacts", "data"}, str(built.file(".dvc")): {"cache", "tmp"}}
    shutil.copytree(built.path, other, ignore=lambda folder, names: left_out.get(str(folder), set()))
    done = Clone(other, built.origin).run("dvc", "repro", "--dry", "--allow-missing")
    assert "up to date" in done.stdout


def test_metrics_and_dag_are_shown(built):
    shown = built.run("dvc", "metrics", "show", "--json").stdout
    assert "LMD" in shown and "KL to target N=1" in shown
    assert "students@smoke-fmm-checkerboard" in built.run("dvc", "dag", "--dot").stdout


def test_experiments_and_differences_of_metrics_are_shown(built, tmp_path):
    """A changed setting as an experiment of DVC, in a scratch clone of the clone."""
    other = scratch(built, tmp_path / "scratch")
    identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    other.run("git", "add", "-f", "dvc.lock", "params.yaml", "results/smoke")
    other.run("git", *identity, "commit", "--quiet", "-m", "smoke")
    target = f"measure@smoke-{FMM}"
    change = f"tiers.smoke.experiments.{FMM}.sampling.seeds=[0,2]"
    other.run("dvc", "exp", "run", "-S", change, target)
    assert (
        "[0, 2]" in other.run("dvc", "params", "diff").stdout
        or "2" in other.run("dvc", "params", "diff").stdout
    )
    other.run("dvc", "repro", "publish@smoke")
    shown = other.run("dvc", "metrics", "diff", "--json").stdout
    assert FMM in shown and "KL to target" in shown


def test_tiers_lie_side_by_side(built, tmp_path):
    """Another tier's stages stand beside those of smoke in dvc.lock, and going back runs nothing."""
    other = scratch(built, tmp_path / "scratch")
    other.run("python", "-m", "fewstep", "tier", "laptop")
    other.run("dvc", "repro", "check@laptop")
    other.run("python", "-m", "fewstep", "tier", "smoke")
    lock = other.file("dvc.lock").read_text(encoding="utf-8")
    assert "check@laptop" in lock and f"students@smoke-{FMM}" in lock
    assert other.repro() == set()


def test_a_wrong_setting_stops_before_anything_is_deleted(built):
    params = built.file("params.yaml")
    good, before = params.read_text(encoding="utf-8"), contents(built, "artifacts/smoke", "results/smoke")
    apply_overrides(params, [f"++tiers.smoke.experiments.{FMM}.methods.emd.steps=-1"])
    try:
        done = built.run("dvc", "repro", check=False)
        assert done.returncode != 0
        assert "experiments.fmm-checkerboard.methods.emd.steps" in done.stderr + done.stdout
        after = contents(built, "artifacts/smoke", "results/smoke")
        assert {k: v for k, v in before.items() if "/settings/" not in k}.items() <= after.items()
    finally:
        params.write_text(good, encoding="utf-8")
        built.repro()


def test_one_methods_setting_trains_that_method_alone(built):
    params = built.file("params.yaml")
    good = params.read_text(encoding="utf-8")
    before = contents(built, f"artifacts/smoke/{FMM}", f"artifacts/smoke/{SELF}")
    written = stamps(built, "artifacts/smoke/states")
    apply_overrides(params, [f"++tiers.smoke.experiments.{FMM}.methods.emd.steps=90"])
    try:
        assert built.repro() == {"check", "students", "sample", "measure", "figures", "publish"}
        after = contents(built, f"artifacts/smoke/{FMM}", f"artifacts/smoke/{SELF}")
        assert {name for name in before if before[name] != after[name]} == {
            f"artifacts/smoke/{FMM}/students/emd/seed-{k}.safetensors" for k in (0, 1)
        }
        # the states of all others are found finished, and only two new ones were written
        now = stamps(built, "artifacts/smoke/states")
        assert written.items() <= now.items() and len(now) == len(written) + 2
        assert all(f"/{FMM}/emd/" in name for name in now.keys() - written.keys())
    finally:
        params.write_text(good, encoding="utf-8")
    # and back: DVC has every old result in its cache
    assert "students" not in built.repro()
    assert contents(built, f"artifacts/smoke/{FMM}", f"artifacts/smoke/{SELF}") == before


def test_what_looks_at_results_computes_none_again(built):
    """Text, plots, tables and what runs notebooks: nothing is trained, sampled or measured again for a change
    in these.
    """
    package = built.file("src/fewstep")
    figures = {"figures", "figures-images", "figures-latents", "figures-captions", "figures-prompts", "speed"}
    figures |= {"protocol"}
    changes = {
        built.file("notebooks/5-figures.ipynb"): {"figures", "publish"},
        package / "evaluation" / "plots" / "images.py": {"tour", *figures, "publish"},
        package / "evaluation" / "tables.py": {"tour", *figures, "publish"},
        package / "pipeline" / "timings.py": {"publish"},
    }
    # the tour runs again as one notebook, and writes its finished students once more
    written = {k: v for k, v in stamps(built, "artifacts/smoke").items() if "/smoke/tour/" not in k}
    for path, stages in changes.items():
        good = path.read_text(encoding="utf-8")
        changed = good.replace("## ", "##  ", 1) if path.suffix == ".ipynb" else f"{good}\n\nUNUSED = 1\n"
        assert changed != good
        path.write_text(changed, encoding="utf-8")
        try:
            assert built.repro() == stages, path.name
            assert written.items() <= stamps(built, "artifacts/smoke").items()
        finally:
            path.write_text(good, encoding="utf-8")
    built.repro()


def test_a_measure_trains_and_samples_nothing(built):
    path = built.file("src/fewstep/evaluation/measure.py")
    good, written = path.read_text(encoding="utf-8"), stamps(built, "artifacts/smoke")
    try:
        path.write_text(f"{good}\n\nUNUSED = 1\n", encoding="utf-8")
        stages = built.run("dvc", "repro", "--dry").stdout
        ran = {line.split("'")[1] for line in stages.splitlines() if line.startswith("Running stage")}
        assert {name.partition("@")[0].partition("-")[0] for name in ran} <= {
            "tour",
            "measure",
            "figures",
            "speed",
            "protocol",
            "publish",
        }
        assert f"measure@smoke-{FMM}" in ran and stamps(built, "artifacts/smoke") == written
    finally:
        path.write_text(good, encoding="utf-8")


def test_a_changed_data_file_is_named(built):
    path = built.file("data/digits.npy")
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        done = built.run("python", "-m", "fewstep", "data", check=False)
        assert done.returncode == 1 and done.stderr.startswith(
            "fewstep: data/digits.npy differs from data.dvc"
        )
        assert done.stderr.count("\n") == 1
    finally:
        path.write_bytes(good)
    path.unlink()
    built.run("python", "-m", "fewstep", "data")
    assert path.read_bytes() == good


def test_a_run_blesses_no_damaged_data(built):
    path, ledger = built.file("data/digits.npy"), built.file("data.dvc")
    good, known = path.read_bytes(), ledger.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    try:
        done = built.run("dvc", "repro", check=False)
        assert done.returncode != 0 and "fewstep: data/digits.npy differs from data.dvc" in done.stderr
        assert ledger.read_bytes() == known
    finally:
        path.write_bytes(good)
    assert built.repro() == set() and ledger.read_bytes() == known


def test_a_source_archive_runs_without_git_and_says_what_it_was_made_of(built, tmp_path):
    built.run("git", "archive", "HEAD", "-o", str(tmp_path / "source.tar"))
    shutil.unpack_archive(tmp_path / "source.tar", tmp_path / "source", filter="data")
    archive = Clone(tmp_path / "source", tmp_path)
    archive.run("python", "-m", "fewstep", "data")
    archive.run("python", "-m", "fewstep", "tier", "smoke")
    assert archive.repro("check@smoke") <= {"check"}
    asks = (
        "from fewstep.evaluation import provenance as p; from pathlib import Path; print(p.revision(Path()))"
    )
    commit = built.run("git", "rev-parse", "HEAD").stdout
    assert archive.run("python", "-c", asks).stdout == f"{commit[:12]} (archive)\n"


def test_an_unknown_notebook_parameter_is_an_error(built):
    words = ["run", "3-sample", "--tier", "smoke", "--experiment", FMM, "--data", "cifar10"]
    done = built.run("python", "-m", "fewstep", *words, check=False)
    assert done.returncode == 1 and "notebooks/3-sample.ipynb declares no parameter 'data'" in done.stderr


def test_a_pipeline_killed_for_real_ends_with_the_same_bits(built, tmp_path):
    """`dvc repro` and everything under it is killed at several moments; what comes out is what came out
    undisturbed.

    The checkerboard and the students of one experiment on images: the other stages are of the same kinds.
    """
    targets = ("students@smoke-fmm-cifar10", "figures@smoke")
    subprocess.run(["git", "clone", "--quiet", str(built.path), str(tmp_path / "killed")], check=True)
    victim = Clone(tmp_path / "killed", tmp_path)
    shutil.rmtree(victim.file("results/smoke"), ignore_errors=True)
    victim.file("dvc.lock").unlink(missing_ok=True)
    victim.run("python", "-m", "fewstep", "data")
    victim.run("python", "-m", "fewstep", "tier", "smoke")
    kills = 0
    for seconds in (5, 8, 12):
        process = subprocess.Popen(
            ["dvc", "repro", *targets],
            cwd=victim.path,
            env=victim.environment(),
            start_new_session=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(seconds)
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            kills += 1
        process.wait()
        time.sleep(2)
    assert kills == 3, "the pipeline was done before it was killed three times"
    victim.run("dvc", "repro", *targets)
    made = contents(
        victim,
        *(f"artifacts/smoke/{name}" for name in ("report", "metrics", "notebooks", "samples", "fmm-cifar10")),
    )
    assert {
        "artifacts/smoke/report/checkerboard/claims.csv",
        "artifacts/smoke/fmm-cifar10/students/lmd/seed-0.safetensors",
    } <= set(made)
    assert len([name for name in made if name.endswith(".ipynb")]) == 2 + 3 + 2 + 2 + 1
    assert not [name for name, content in made.items() if built.file(name).read_bytes() != content]


def test_nothing_of_this_machine_is_in_the_results(built):
    pattern = re.compile(rb"https?://[^\s\"')]+")
    for name, content in contents(built, "results/smoke").items():
        if name.endswith(".png"):
            continue
        hosts = {url.split(b"/")[2] for url in pattern.findall(content)}
        assert hosts <= {b"arxiv.org", b"www.w3.org"}, (name, hosts)


@pytest.mark.parametrize("tier", ["smoke", "laptop"])
def test_committed_notebooks_carry_outputs(root, tier):
    paths = sorted((root / "results" / tier / "notebooks").glob("*.ipynb"))
    assert len(paths) == NOTEBOOKS + ZOO_NOTEBOOKS
    for path in paths:
        outputs = [
            o
            for c in json.loads(path.read_text(encoding="utf-8"))["cells"]
            if c["cell_type"] == "code"
            for o in c["outputs"]
        ]
        assert outputs and not [o for o in outputs if o["output_type"] == "error"], path
