"""`fewstep repro`: experiment by experiment, the finished ones shown beside what lies there."""

import subprocess
from pathlib import Path

import pandas as pd
import pytest

from fewstep.evaluation.provenance import ProvenanceError
from fewstep.pipeline import report, repro, timings
from fewstep.pipeline.stages import plan
from fewstep.settings.base import SettingsError
from fewstep.storage.files import read_written
from fewstep.storage.workspace import Workspace

from .test_image_tables import TOUR_ALONE, _part


@pytest.fixture
def workspace(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    (tmp_path / "dvc.yaml").write_text(TOUR_ALONE, encoding="utf-8")
    return Workspace(tmp_path, "smoke")


def test_what_is_finished_is_shown_beside_what_lay_there(workspace):
    """The new table replaces the old one of its name, with its claims; what others have stays as it was."""
    results = workspace.root / "results" / "smoke"
    _part(workspace, "early", 1.0)
    _part(workspace, "late", 2.0)
    report.publish(workspace)
    before = read_written(results)
    for part in (workspace.pipeline / "report").iterdir():
        for path in part.rglob("*"):
            path.unlink() if path.is_file() else None
    _part(workspace, "early", 3.0)
    assert report.publish_so_far(workspace) == ["early"]
    after = read_written(results)
    assert {name for name in before if before[name] != after[name]} == {"claims.csv", "tables/early.csv"}
    assert after.keys() == before.keys()
    ledger = pd.read_csv(results / "claims.csv").set_index("table").value
    assert ledger.to_dict() == {"early": 3.0, "late": 2.0}


def test_in_a_folder_without_results_it_is_the_first_and_again_the_same(workspace):
    results = workspace.root / "results" / "smoke"
    _part(workspace, "early", 1.0)
    report.publish_so_far(workspace)
    first = read_written(results)
    assert "tables/early.csv" in first and "report.md" not in first
    report.publish_so_far(workspace)
    assert read_written(results) == first
    report.publish(workspace)
    whole = read_written(results)
    # the whole adds to it and changes none of it: a second run has nothing to do
    assert first.items() <= whole.items() and {"report.md", "figures/claims.png"} <= set(whole)


def test_a_report_of_several_revisions_says_so_on_top(workspace):
    def table(name: str, revision: str, hardware: str = "a CPU") -> pd.DataFrame:
        return pd.DataFrame({"table": [name], "revision": [revision], "hardware": [hardware]})

    one = [table("a", "1"), table("b", "1")]
    assert report.mixture(one) is None
    said = report.mixture([*one, table("c", "2"), table("d", "1", "another")])
    assert "3 revisions or machines" in said and "1 on a CPU: a, b" in said and "2 on a CPU: c" in said
    _part(workspace, "early", 1.0)
    report.publish(workspace)
    page = (workspace.root / "results/smoke/report.md").read_text(encoding="utf-8")
    assert "revisions or machines" not in page and "(figures/claims.png)" in page


def test_tables_of_two_revisions_are_put_together_only_if_asked(workspace):
    _part(workspace, "early", 1.0)
    report.publish(workspace)
    results = workspace.root / "results" / "smoke"
    before = read_written(results)
    _part(workspace, "late", 2.0, revision="another")
    with pytest.raises(ProvenanceError, match="2 revisions or machines.*publish.mixed: true") as refused:
        report.publish(workspace)
    assert "\n" not in str(refused.value) and read_written(results) == before
    report.publish(workspace, mixed=True)
    page = (results / "report.md").read_text(encoding="utf-8")
    assert "2 revisions or machines" in page.split("## ")[0]


@pytest.fixture
def asked(root, tmp_path, monkeypatch):
    """What DVC is asked to do, in a tree with the project's own stages at tier smoke."""
    for name in ("dvc.yaml", "params.yaml"):
        text = (root / name).read_text(encoding="utf-8").replace("\ntier: laptop", "\ntier: smoke")
        (tmp_path / name).write_text(text, encoding="utf-8")
    calls = []

    def run(words, **options):
        calls.append(words[words.index("repro") + 1 :])
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(report, "publish_so_far", lambda workspace: [f"table {len(calls)}"])
    return calls


def test_the_checkerboard_is_first_and_all_that_is_left_comes_last(asked, tmp_path, capsys):
    repro.repro(tmp_path)
    assert asked[0] == ["figures@smoke"] and asked[-1] == [] and len(asked) == 8
    assert all(own[0].startswith("figures") for own in asked[:-1])
    said = capsys.readouterr().out
    assert "results/smoke has table 1" in said and said.index("table 1") < said.index("table 7")
    assert "the report is results/smoke/report.md" in said


def test_one_experiment_is_all_its_stages(asked, tmp_path, capsys):
    repro.repro(tmp_path, "fmm-cifar10")
    (stages,) = asked
    assert "teacher@smoke-fmm-cifar10" in stages and "figures-images@smoke-fmm-cifar10" in stages
    assert all(name.endswith("-fmm-cifar10") for name in stages)
    assert "smoke" in capsys.readouterr().out
    with pytest.raises(SettingsError, match="no stage of an experiment 'fmm'; it has fmm-checkerboard, "):
        repro.repro(tmp_path, "fmm")


def test_where_dvc_stops_nothing_more_is_asked_of_it(asked, tmp_path, monkeypatch):
    def run(words, **options):
        asked.append(words)
        return subprocess.CompletedProcess(words, 255)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(repro.ReproError, match="what is finished is kept"):
        repro.repro(tmp_path)
    assert len(asked) == 1


def test_timings_are_of_the_last_run_and_of_todays_stages(workspace):
    names = [path.stem for stage in plan(workspace.root, "smoke") for path in map(Path, stage.outs)]
    timings.record(workspace, names[0], 90.0)
    path = workspace.root / "results" / "smoke" / "timings.csv"
    path.write_text(path.read_text(encoding="utf-8") + "of-an-earlier-pipeline,5.0\n", encoding="utf-8")
    timings.record(workspace, names[0], 3.0)
    assert path.read_text(encoding="utf-8") == f"stage,seconds\n{names[0]},3.0\n"
