"""The field in one table: a pipeline beside the main one, and what a row of it costs to train."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fewstep.evaluation import tables, training_cost
from fewstep.flows.flow_map import NetworkFlowMap
from fewstep.pipeline import dvc, phases, report, repro, site, timings
from fewstep.pipeline.stages import plan
from fewstep.settings import tiers
from fewstep.settings.base import SettingsError
from fewstep.settings.names import ZOO
from fewstep.storage.files import read_written
from fewstep.storage.workspace import Workspace
from fewstep.training import job as run
from fewstep.training import train
from fewstep.training.calls import Calls, calls_a_step

from .test_image_tables import TOUR_ALONE, _part

NAME = "zoo-checkerboard"
FIGURES = """
stages:
  figures:
    wdir: ..
    matrix: {tier: ["${tier}"]}
    cmd: python -m fewstep run 6-one-map --tier ${item.tier} --folder zoo
    deps: []
    outs:
      - artifacts/${item.tier}/zoo/report/one-map
      - artifacts/${item.tier}/zoo/notebooks/6-one-map.ipynb
"""


# The pipeline ----------------------------------------------------------------------------------------------


def within(path: str, other: str) -> bool:
    return f"{path}/".startswith(f"{other}/")


@pytest.mark.parametrize("tier", ["smoke", "laptop", "overnight"])
def test_the_zoo_needs_the_main_pipeline_and_the_main_one_nothing_of_it(root, tier):
    main, zoo = plan(root, tier), plan(root, tier, ZOO)
    assert zoo[0].name.startswith("teacher@") and zoo[-1].name == f"publish@{tier}"
    made = [out for stage in main for out in stage.outs]
    for stage in zoo:
        for path in stage.deps:
            if path.startswith("artifacts/"):
                assert any(within(out, path) or within(path, out) for out in made), f"{stage.name}: {path}"
            else:
                assert (root / path).exists(), f"{stage.name}: {path}"
        made += stage.outs
    seen = [path for stage in main for path in (*stage.deps, *stage.outs) if not path.endswith("/settings")]
    for out in (out for stage in zoo for out in stage.outs):
        assert not [path for path in seen if within(out, path) or within(path, out)], out
    assert all("--folder zoo" in " ".join(stage.words) for stage in zoo)


def test_tier_paper_has_no_zoo_and_a_tree_without_one_neither(root, tmp_path):
    assert plan(root, "paper", ZOO) == () and plan(tmp_path, "smoke", ZOO) == ()


def test_the_zoo_is_checked_with_the_rest_and_its_lock_is_kept(root, smoke):
    with pytest.raises(SettingsError, match="params.yaml names the experiment .zoo-checkerboard., which dvc"):
        phases.require_same_experiments(plan(root, "smoke"), smoke)
    assert "zoo/dvc.lock" in dvc.LOCKS


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    (tmp_path / "dvc.yaml").write_text(TOUR_ALONE, encoding="utf-8")
    (tmp_path / ZOO).mkdir()
    (tmp_path / ZOO / "dvc.yaml").write_text(FIGURES, encoding="utf-8")
    return Workspace(tmp_path, "smoke")


def drawn(workspace: Workspace, revision: str = "x") -> None:
    """The zoo's part of the report and its executed notebook."""
    _part(workspace, "one-map", 3.0, revision, ZOO)
    notebook = workspace.pipeline / ZOO / "notebooks" / "6-one-map.ipynb"
    notebook.parent.mkdir(exist_ok=True)
    notebook.write_text("{}", encoding="utf-8")


def test_both_are_published_beside_each_other_in_any_order_and_again_the_same(workspace, capsys):
    results = workspace.root / "results" / "smoke"
    _part(workspace, "early", 1.0)
    report.publish(workspace)
    main = read_written(results)
    assert "one-map" not in main["site/results.html"].decode()
    with pytest.raises(FileNotFoundError, match="holds no part of a report"):
        report.publish(workspace, beside=ZOO)
    drawn(workspace)
    report.publish(workspace, beside=ZOO)
    zoo = read_written(results, "zoo.json")
    assert {"tables/one-map.csv", "notebooks/6-one-map.ipynb", "zoo.md", "zoo-metrics.json"} <= set(zoo)
    assert capsys.readouterr().out == ""
    both = read_written(results)
    assert {name for name in main if not name.startswith("site/") and both[name] == main[name]} == {
        name for name in both if not name.startswith("site/")
    }
    page = both["site/results.html"].decode()
    assert 'id="one-map"' in page and 'data-again="make zoo TIER=smoke"' in page
    assert "../figures/one-map-a.png" in both["site/gallery.html"].decode()
    # whichever of the two publishes last, the site is the same: neither makes the other stale a second time
    report.publish(workspace)
    assert read_written(results) == both
    report.publish(workspace, beside=ZOO)
    assert read_written(results) == both and read_written(results, "zoo.json") == zoo
    assert "one-map" not in main["report.md"].decode()
    (workspace.pipeline / ZOO / "notebooks" / "6-one-map.ipynb").unlink()
    with pytest.raises(
        FileNotFoundError, match="results/smoke/zoo.md stays as it was: run `dvc repro zoo/dvc.yaml:fig"
    ):
        report.publish(workspace, beside=ZOO)


def test_a_zoo_without_the_main_results_or_a_damaged_one_is_said_in_a_sentence(workspace, capsys):
    results = workspace.root / "results" / "smoke"
    drawn(workspace)
    report.publish(workspace, beside=ZOO)
    assert "the site shows it after the next `dvc repro` only" in capsys.readouterr().out
    assert not (results / "site").exists() and read_written(results, "zoo.json")
    _part(workspace, "early", 1.0)
    report.publish(workspace)
    assert 'id="one-map"' in (results / "site/results.html").read_text(encoding="utf-8")
    (results / "tables" / "one-map.csv").write_text("cut", encoding="utf-8")
    report.publish(workspace)
    said = capsys.readouterr().out
    assert "the site does not show what `make zoo` has published" in said and "one-map.csv is not" in said
    assert 'id="one-map"' not in (results / "site/results.html").read_text(encoding="utf-8")


def test_the_report_names_its_tables_and_pictures_in_its_order(workspace):
    for k, name in enumerate(("later", "early", report.FIRST)):
        _part(workspace, name, float(k))
    report.publish(workspace)
    parts = report.read_parts(workspace.pipeline / "report")
    found = site.Published.read(read_written(workspace.root / "results" / "smoke"))
    assert list(found.tables) == [report.FIRST, "early", "later"]
    assert found.pictures == {part.notebook: part.pictures for part in parts}


def test_a_zoo_of_another_revision_is_published_and_said_to_be_one(workspace, capsys):
    _part(workspace, "early", 1.0)
    report.publish(workspace)
    drawn(workspace, "another")
    report.publish(workspace, beside=ZOO)
    assert "results/smoke/zoo.md is of revision another on x, and not all" in capsys.readouterr().out
    assert (workspace.root / "results/smoke/tables/one-map.csv").is_file()


def test_a_report_without_claims_has_no_picture_of_them(workspace, monkeypatch):
    drawn(workspace)
    parts = report.read_parts(workspace.pipeline / ZOO / "report")
    assert "## Claims" in report.page(parts, "smoke", "said") and "## Claims" not in report.page(
        parts, "smoke", None
    )


def test_the_times_of_the_zoo_are_its_own(workspace):
    timings.record(workspace, "0-tour", 5.0)
    timings.record(workspace, "6-one-map", 7.0, ZOO)
    timings.record(workspace, "0-tour", 6.0)
    assert timings.read(workspace) == {"0-tour": 6.0} and timings.read(workspace, ZOO) == {"6-one-map": 7.0}
    assert timings.Plan.load(workspace).to_come == {"0-tour"}
    assert timings.Plan.load(workspace, ZOO).to_come == {"6-one-map"}


def test_make_zoo_is_the_zoo_alone_and_what_it_needs(root, workspace, monkeypatch):
    text = (root / "params.yaml").read_text(encoding="utf-8")
    asked: list[list[str]] = []
    monkeypatch.setattr(repro, "_dvc", lambda root, stages: asked.append(list(stages)))
    for tier in ("smoke", "paper"):
        params = workspace.root / "params.yaml"
        params.write_text(text.replace("\ntier: laptop", f"\ntier: {tier}"), encoding="utf-8")
        if tier == "paper":
            with pytest.raises(
                SettingsError, match="tier paper has no stage in zoo/dvc.yaml: select another"
            ):
                repro.repro(workspace.root, folder=ZOO)
        else:
            repro.repro(workspace.root, folder=ZOO)
    assert asked == [["zoo/dvc.yaml"]]
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert "fewstep repro --folder zoo" in makefile.split("\nzoo: env")[1].split("\n\n")[0]


# The rows --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tier", ["smoke", "laptop", "overnight"])
def test_every_row_has_the_same_network_data_and_optimiser_or_says_so(root, tier):
    own = tiers.load(root / "params.yaml", tier).experiment(NAME)
    assert len(own.methods) >= 16
    apart = {name for name, method in own.methods.items() if method.network or method.optimiser}
    assert apart <= {"esd"}


CALLS = {
    # all network calls for each sample of a batch, and those with a derivative
    "si": (1, 0), "lmd": (2, 1), "emd": (2, 1), "consistency": (2, 1), "fmm": (2, 1), "lsd": (1.25, 0.25),
    "meanflow": (1, 0.25), "imeanflow": (1.25, 0.25), "psd-m": (1.5, 0), "pfmm": (3, 0), "distilled": (9, 0),
    "rectified": (3, 0), "scflow": (6, 0), "sid": (4, 0),
}  # fmt: skip


@pytest.fixture(scope="module")
def jobs(smoke, tmp_path_factory):
    """job(method): its training at tier smoke, whose teacher is trained for two steps."""
    folder, settings = tmp_path_factory.mktemp("zoo"), smoke.experiment(NAME)
    teacher = folder / "teacher.safetensors"

    def job(method: str) -> run.Job:
        own = settings.method(method)
        return run.Job(
            settings.training, own, 0, folder / f"{method}.safetensors", teacher if own.teacher else None
        )

    first = job("si")
    first = run.Job(first.training, first.method.model_copy(update={"steps": 2}), 0, first.state)
    run.advance(first, "mark", 2)
    train.publish(first, "mark", teacher)
    return job


@pytest.mark.parametrize("method, calls", CALLS.items(), ids=list(CALLS))
def test_network_calls_of_a_step_are_counted(jobs, method, calls):
    assert calls_a_step(jobs(method)) == pytest.approx(calls)


def test_a_pass_in_forward_mode_counts_once_whatever_it_calls(jobs):
    # the second has no rule of its own for the tangent, and torch.func.jvp calls it plainly
    for flow_map in (jobs("si").fresh(), NetworkFlowMap(lambda s, t, x: x * s[:, None])):
        calls, s, x = Calls(), torch.zeros(5), torch.zeros(5, 2)
        calls.watch(flow_map)
        flow_map.jump(s, s + 1, x)
        flow_map.jump_dt(s, s + 1, x)
        flow_map.velocity(s, x)
        assert (calls.plain, calls.forward_mode) == (5 + 5, 5)


def test_the_cost_stands_beside_the_quality(smoke, monkeypatch):
    settings = smoke.experiment(NAME)
    own = settings.model_copy(update={"methods": {k: settings.methods[k] for k in ("si", "lmd")}})
    experiment = SimpleNamespace(
        name=NAME, tier="smoke", settings=own, workspace=Workspace.here("smoke"), compute=smoke.compute
    )
    norms = np.linspace(1.0, 2.0, 60)
    logs = {"si": [norms, norms], "lmd": [norms, norms + 2]}
    monkeypatch.setattr(training_cost, "job", lambda *given: (given[1], ""))
    monkeypatch.setattr(
        training_cost, "calls_a_step", lambda method: {"si": (1.0, 0.0), "lmd": (2.0, 1.0)}[method]
    )
    monkeypatch.setattr(
        training_cost.weights,
        "logs",
        lambda exp, names: {"x": [{"gradient_norm": log} for log in logs[names[0]]]},
    )
    cost = training_cost.table(experiment, "6-one-map")
    assert list(cost.columns) == list(tables.COLUMNS) and (cost.nfe == 0).all()
    found = cost.set_index(["method", "metric"]).value
    last = norms[-6:].mean()
    assert found["SI", training_cost.NORM_AT_END] == pytest.approx(last)
    assert found["LMD", training_cost.NORM_AT_END] == pytest.approx(last + 1)
    assert found["SI", training_cost.TEACHER] == 0 and found["LMD", training_cost.TEACHER] == 1
    shown = tables.shown(cost, training_cost.CALLS)
    assert list(shown.columns) == [tables.UNSAMPLED] and shown.loc["LMD", tables.UNSAMPLED] == "2"
    quality = cost.iloc[[0, 5]].assign(metric="KL to target", nfe=1, value=0.5, sd=0.1)
    wide = training_cost.wide(experiment, pd.concat([quality, cost]), "KL to target")
    assert list(wide.index) == ["SI", "LMD"] and list(wide.teacher) == ["none", "SI"]
    assert wide.loc["LMD", "N = 1"] == "0.500 ± 0.100" and wide.loc["SI", training_cost.STEPS] == 60
    assert set(training_cost.rows(experiment, cost, True).method) == {"LMD"}
    assert set(training_cost.rows(experiment, cost, False).method) == {"SI"}
