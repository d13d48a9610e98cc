"""`make gpu`: its parts with made values, its files, and one run of it on the CPU in small."""

from __future__ import annotations

import csv
import io
import re
import subprocess
import sys
import time
from dataclasses import fields, replace

import pandas as pd
import pytest
import torch

from fewstep.settings import tiers
from tests.gpu import __main__ as command
from tests.gpu import cells, noise, report, steps

MACHINE = steps.Machine("NVIDIA H200", "2.13.0", "570.1", "abcdef012345")
ROW = steps.Row(
    **vars(MACHINE), tier="paper", experiment="fmm-cifar10", network="unet", parameters=55_000_000,
    objective="si", precision="bf16", compiled=False, batch=512,
)  # fmt: skip


def test_a_row_follows_from_the_seconds_and_the_operations():
    timed = steps.with_times(ROW, [0.5, 0.1, 0.2], 12.5)
    assert (timed.steps, timed.milliseconds, timed.samples_per_second) == (3, 200.0, 2560.0)
    full = steps.with_limit(timed, 4e12, 80e12)
    assert (full.tflop, full.limit_tflops, full.share, full.peak_gb) == (4.0, 80.0, 0.25, 12.5)
    assert not full.problem
    assert steps.with_limit(timed, 0.0, 80e12).problem == "no operation of the step was counted"


# by hand, a sample of the perceptron 16-32-32-2, whose six waves take 2 x 4 x 6: forward 2 x 1,600, back
# 2 x 1,600 to the weights and 2 x 1,088 to the inputs of all but the first layer; LMD carries pairs of all,
# and calls its teacher once
FORWARD, WAVES, BACK = 3200, 48, 3200 + 2176
COUNTS = {"si": FORWARD + WAVES + BACK, "lmd": 3 * (FORWARD + WAVES) + 2 * BACK}


@pytest.mark.parametrize("objective", COUNTS)
def test_the_operations_of_a_perceptron_are_those_counted_by_hand(smoke, objective):
    job = noise.job_of(smoke, noise.Step("fmm-checkerboard", objective, "fp32", False), "cpu")
    assert steps.flop(job) == COUNTS[objective] * job.training.batch == COUNTS[objective] * 128


def test_each_network_of_a_tier_is_timed_once_and_the_telling_rows_first(root):
    paper = tiers.load(root / "params.yaml", "paper")
    names = list(noise.networks_of(paper))
    assert names == [
        "fmm-checkerboard", "fmm-cifar10", "selfdistill-cifar10", "selfdistill-celeba64", "scflow-celebahq",
        "scflow-coco2017",
    ]  # fmt: skip
    order = steps.steps_of(names)
    assert len(order) == len(set(order)) == 6 * 3 * 3 and [own.experiment for own in order[:6]] == names
    assert [own.compiled for own in order] == [False] * 36 + [True] * 18
    assert {own.precision for own in order[36:42]} == {"bf16"}
    row = steps.unmeasured(paper, "paper", noise.Step("selfdistill-cifar10", "si", "bf16", True), MACHINE)
    assert (row.network, row.batch, row.compiled) == ("edm2", 512, True)
    assert 54e6 < row.parameters < 56e6, "as params.yaml says of the follow-up's network"
    captioned = noise.job_of(paper, noise.Step("scflow-coco2017", "si", "bf16", False), "cpu")
    assert captioned.source.empty.hidden.shape == (1, 77, 768) and captioned.source.shape == (4, 64, 64)


def test_what_fails_says_so_in_its_row_and_the_next_one_is_measured(smoke, monkeypatch):
    monkeypatch.setattr(steps, "SECONDS", 0.0)
    chosen = [
        noise.Step("fmm-checkerboard", "si", own, compiled)
        for own, compiled in (("fp32", False), ("tf32", False), ("bf16", False), ("fp32", True))
    ]
    real, calls = steps.loop_of, []

    def full(job):
        calls.append(job)
        if len(calls) == 1:
            raise torch.OutOfMemoryError("CUDA out of\nmemory")
        return real(job)

    monkeypatch.setattr(steps, "loop_of", full)
    first, *refused = steps.rows(smoke, "smoke", chosen, "cpu", MACHINE, 60)
    assert first.problem == "OutOfMemoryError: CUDA out of memory" and first.milliseconds is None
    for row, said in zip(
        refused, ("tf32 needs compute.device cuda", "bf16 is for networks", "compile needs")
    ):
        assert said in row.problem and row.milliseconds is None
    (good,) = steps.rows(smoke, "smoke", chosen[:1], "cpu", MACHINE, 60)
    assert good.milliseconds > 0 and 0 < good.share and good.peak_gb is None and not good.problem
    (late,) = steps.rows(smoke, "smoke", chosen[:1], "cpu", MACHINE, 0)
    assert late.problem == "not measured: the time was over" and late.milliseconds is None


def test_work_ends_with_its_time():
    with pytest.raises(steps.OutOfTimeError, match="not finished in 0 s"), steps.at_most(0.05):
        time.sleep(20)
    with steps.at_most(0.05):
        pass
    time.sleep(0.1)


def published(**changes) -> pd.DataFrame:
    row = {
        "experiment": "e", "table": "e", "method": "SI", "metric": "KL", "nfe": 4, "value": 1.0, "sd": 0.1,
        "sd_sampling": 0.02, "protocol": "p",
    }  # fmt: skip
    return pd.DataFrame([row | changes])


@pytest.mark.parametrize(
    "theirs, sd, of, deviations, note",
    [
        ({}, 0.1, "trainings", -2.0, ""),
        ({"sd": float("nan")}, 0.02, "samplings", -10.0, ""),
        ({"sd": float("nan"), "sd_sampling": float("nan")}, None, "", None, ""),
        ({"sd": 0.0}, None, "", None, ""),
        ({"protocol": "q"}, None, "", None, "published by another protocol"),
        ({"nfe": 8}, None, "", None, "no published cell"),
    ],
)
def test_a_cell_stands_beside_the_published_one_of_its_protocol(theirs, sd, of, deviations, note):
    (cell,) = cells.compared(published(value=0.8), published(**theirs))
    assert (cell.sd, cell.of, cell.note, cell.device) == (sd, of, note, 0.8)
    assert cell.deviations == pytest.approx(deviations) if deviations else cell.deviations is None
    assert (cell.cpu is None) == bool(note)


def test_without_published_tables_every_cell_says_so(root):
    assert cells.published(root, "smoke", published()) is None
    (cell,) = cells.compared(published(), None)
    assert cell.note == "no published cell" and cell.cpu is None


def test_the_csv_has_a_column_a_field_and_no_date():
    text = report.as_csv([replace(ROW, milliseconds=123.456789, problem="a, b"), ROW]).decode()
    first, second = csv.DictReader(io.StringIO(text))
    assert list(first) == [field.name for field in fields(steps.Row)]
    assert list(first)[:4] == ["device", "torch", "driver", "revision"] and "date" not in first
    assert (first["milliseconds"], first["problem"]) == ("123.5", "a, b") and second["milliseconds"] == ""


JUNIT = """<testsuites><testsuite><testcase name="a"/>
<testcase name="b"><failure message="x">y</failure></testcase>
<testcase name="c"><skipped message="needs a GPU"/></testcase><testcase name="d"><error/></testcase>
</testsuite></testsuites>"""


def test_the_outcome_of_the_tests_is_read_and_a_failure_is_no_success():
    found = report.outcome(JUNIT)
    assert found == report.Outcome(1, ("b", "d"), (("c", "needs a GPU"),)) and not found.good
    assert report.Outcome(3).good and not report.Outcome().good
    assert not report.Outcome(3, problem="stopped").good


def test_the_page_says_all_that_was_found():
    cell = cells.Cell("e", "SI", "KL", 4, 1.0, 0.1, "trainings", 0.5, -5.0)
    rows = [steps.with_limit(steps.with_times(ROW, [0.2], 3.0), 4e12, 80e12), replace(ROW, problem="a | b")]
    page = report.page(MACHINE, "cuda", "laptop", report.outcome(JUNIT), rows, [cell], ["x has no cells: y"])
    assert page.startswith("# NVIDIA H200\n") and "revision abcdef012345" in page
    assert "1 passed, 2 failed, 1 skipped." in page and "- skipped: `c`: needs a GPU" in page
    assert "| 200 | 2560 | 3 | 4 | 25.0 % |" in page and "a \\| b" in page
    assert "| 1 ± 0.1 (trainings) | 0.5 | -5.0 |" in page and "1 of 1 cells" in page
    assert "x has no cells: y" in page and "On a CPU" not in page


def test_without_a_gpu_it_is_one_sentence_that_names_the_way_out(root, monkeypatch, capsys):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(sys, "argv", ["gpu"])
    assert command.main() == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("no CUDA device is visible") and "`make gpu DEVICE=cpu`" in line
    makefile = (root / "Makefile").read_text(encoding="utf-8")
    assert "tests.gpu --device $(or $(DEVICE),cuda)" in makefile and "\n# make gpu " in makefile


def test_a_cpus_figures_are_no_results_and_the_file_is_called_as_the_device(root):
    assert command.folder(root, "cuda") == root / "results" / "gpu"
    assert command.folder(root, "cpu") == root / "artifacts" / "gpu"
    assert command.file_name("NVIDIA A100-SXM4 (80GB)") == "nvidia-a100-sxm4-80gb"
    assert command.machine(root, "cpu").driver == "none"


def test_the_driver_is_what_nvidia_smi_says_or_unknown(monkeypatch):
    def says(text):
        return lambda *words, **how: subprocess.CompletedProcess(words, 0, text)

    for text, wanted in (("570.86\n570.86\n", "570.86"), ("", "unknown")):
        monkeypatch.setattr(subprocess, "run", says(text))
        assert command.driver("cuda") == wanted

    def lacks(*words, **how):
        raise FileNotFoundError("nvidia-smi")

    monkeypatch.setattr(subprocess, "run", lacks)
    assert command.driver("cuda") == "unknown"


def test_every_file_with_a_marked_test_is_run(root):
    found = command.marked(root)
    assert {"tests/device/test_maps.py", "tests/device/test_loops.py"} <= set(found)
    assert "tests/unit/test_images_data.py" in found


def test_one_network_and_one_experiment_on_the_cpu_from_the_command_to_the_files(tmp_path, root, monkeypatch):
    monkeypatch.setattr(steps, "SECONDS", 0.0)
    for name in ("params.yaml", "data", "results"):
        (tmp_path / name).symlink_to(root / name)
    plan = replace(
        command.PLANS["cpu"], tests=False, networks=("fmm-checkerboard",), precisions=("fp32",),
        experiments=("fmm-checkerboard",),
    )  # fmt: skip
    path, good = command.run(tmp_path, plan)
    assert good and path.parent == tmp_path / "artifacts" / "gpu"
    assert sorted(own.suffix for own in path.parent.iterdir()) == [".csv", ".md"]
    rows = list(csv.DictReader(io.StringIO(path.with_suffix(".csv").read_text(encoding="utf-8"))))
    assert [(row["objective"], row["compiled"]) for row in rows] == [
        ("si", "False"), ("lmd", "False"), ("si", "True"),
    ]  # fmt: skip
    assert float(rows[0]["milliseconds"]) > 0 and float(rows[1]["share"]) > 0
    page = path.read_text(encoding="utf-8")
    assert "this says nothing of a GPU" in page
    # by the very settings and protocol of the published table, on a CPU: the same numbers but for rounding
    found = re.search(r"(\d+) of (\d+) cells that compare are more than three", page)
    assert found and int(found[1]) == 0 and int(found[2]) > 20
    assert not [
        own for own in tmp_path.iterdir() if own.name not in ("params.yaml", "data", "results", "artifacts")
    ]
