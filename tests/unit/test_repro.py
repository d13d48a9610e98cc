"""`fewstep repro`: experiment by experiment, the finished ones shown beside what lies there."""

import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pandas as pd
import psutil
import pytest

from fewstep.evaluation.provenance import ProvenanceError
from fewstep.pipeline import notebooks, report, repro, timings
from fewstep.pipeline.stages import plan
from fewstep.settings.base import SettingsError
from fewstep.storage import progress
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
    assert asked[0][:2] == ["--single-item", "check@smoke"] and asked[0][-1] == "figures@smoke"
    assert {name.partition("@")[2] for name in asked[0][2:]} == {
        "smoke-fmm-checkerboard", "smoke-selfdistill-checkerboard", "smoke"
    }  # fmt: skip
    assert asked[-1] == [] and all(own[0] == "--single-item" for own in asked[:-1])
    every = [name for own in asked for name in own[1:]]
    assert sorted([*every, "publish@smoke"]) == sorted(stage.name for stage in plan(tmp_path, "smoke"))
    said = capsys.readouterr().out
    assert "results/smoke has table 1" in said and "the report is results/smoke/report.md" in said


@pytest.mark.parametrize("tier", ["smoke", "laptop", "paper"])
def test_no_group_reads_what_another_makes_and_each_is_in_order(root, tier):
    found = repro.groups(plan(root, tier))
    assert len(found) > 4
    for group in found:
        made = {out for stage in group for out in stage.outs}
        for other in (stage for rest in found if rest is not group for stage in rest):
            read = {dep for dep in other.deps if "/settings/" not in dep and dep.startswith("artifacts/")}
            assert not any(d == m or d.startswith(f"{m}/") for d in read for m in made), other.name
        for k, stage in enumerate(group):
            later = {out for other in group[k + 1 :] for out in other.outs}
            assert not later & set(stage.deps), stage.name


def test_what_took_longest_last_time_comes_right_after_the_checkerboard(asked, tmp_path):
    timings.record(Workspace(tmp_path, "smoke"), "0-tour", 100.0)
    timings.record(Workspace(tmp_path, "smoke"), "3-sample-fmm-imagenet32", 300.0)
    ordered = repro._in_order(repro.groups(plan(tmp_path, "smoke")), Workspace(tmp_path, "smoke"))
    names = [[stage.name for stage in group] for group in ordered]
    assert "figures@smoke" in names[0] and "sample@smoke-fmm-imagenet32" in names[1]
    assert names[2] == ["tour@smoke"]


@pytest.mark.parametrize(("workers", "most"), [(2, 2), (1, 1)])
def test_two_groups_are_at_work_at_once_where_there_are_workers_for_it(
    asked, tmp_path, monkeypatch, workers, most
):
    path = tmp_path / "params.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("device: cpu, workers: 2", f"device: cpu, workers: {workers}"), "utf-8")
    running, seen, terminals, lock = [], [], [], threading.Lock()

    def run(words, **options):
        with lock:
            running.append(words)
            seen.append(len(running))
            terminals.append(progress.LINES in options["env"])
        time.sleep(0.2)
        with lock:
            running.remove(words)
        return subprocess.CompletedProcess(words, 0)

    monkeypatch.setattr(subprocess, "run", run)
    repro.repro(tmp_path)
    # the checkerboard alone, and what is left alone
    assert seen[0] == seen[-1] == 1 and max(seen) == most
    assert terminals[0] is terminals[-1] is False and terminals[1] is (most == 2)


def test_where_one_stops_no_other_begins(asked, tmp_path, monkeypatch):
    calls = []

    def run(words, **options):
        calls.append(words)
        return subprocess.CompletedProcess(words, len(calls) > 1)

    monkeypatch.setattr(subprocess, "run", run)
    with pytest.raises(repro.ReproError, match="what is finished is kept"):
        repro.repro(tmp_path)
    assert 2 <= len(calls) <= 4  # the checkerboard, the two that had begun, and what one of them had freed


def test_dvc_ends_with_whoever_called_it(tmp_path):
    """Killed alone, `fewstep repro` leaves no DVC behind that would compete with its successor."""
    script = "import os, subprocess, sys, time\nfrom fewstep.pipeline import repro\n"
    script += (
        "repro._DVC = repro._DVC.split('from dvc')[0] + 'print(os.getpid(), flush=True); time.sleep(60)'\n"
    )
    script += "repro._DVC = 'import os, time; ' + repro._DVC\nfrom pathlib import Path\n"
    script += "repro._dvc(Path('.'), [])"
    caller = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
    called = psutil.Process(int(caller.stdout.readline()))
    assert called.is_running()
    caller.kill()
    caller.wait()
    caller.stdout.close()
    assert not psutil.wait_procs([called], timeout=5)[1]


def test_the_seconds_of_stages_at_work_together_add_up_to_the_clocks(workspace):
    with timings.at_work(workspace, "one") as first:
        assert first() == 1
        # what a killed stage has left is none
        stale = workspace.pipeline / "at-work" / f"dead.{2**22 + 1}.tmp"
        stale.write_bytes(b"")
        assert first() == 1 and not stale.exists()
        with timings.at_work(workspace, "two") as second:
            assert first() == second() == 2
        assert first() == 1
    count = iter([2, 1])
    watch = notebooks._Watch("one", Path("nowhere"), timings.Plan({}, frozenset()), lambda: next(count))
    watch.last -= 10.0
    watch.count()
    assert watch.seconds == pytest.approx(5.0, abs=0.1)
    watch.last -= 3.0
    watch.count()
    assert watch.seconds == pytest.approx(8.0, abs=0.1)


def test_stages_that_end_at_once_are_all_recorded(workspace, monkeypatch):
    names = [f"stage-{k}" for k in range(8)]
    monkeypatch.setattr(timings, "_stages", lambda workspace, folder: set(names))
    with ThreadPoolExecutor(len(names)) as pool:
        list(pool.map(lambda name: timings.record(workspace, name, 1.0), names))
    assert timings.read(workspace) == dict.fromkeys(names, 1.0)


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
