"""Looking ahead to a tier: what is missing is said at once, and the forecast is arithmetic on what was measured."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fewstep import data, experiments, forecast, networks, paces, pipeline, preflight, rehearsed, room, sampling, tiny_archives
from fewstep.data import archives, celeba64, cifar10
from fewstep.forecast import ADAPTIVE_CALLS, Measured
from fewstep.networks.discriminator import discriminator
from fewstep.paces import MetricPaces, Pace

PAPER = ("cifar10", "imagenet32", "celeba64", "afhq64")
METRICS = MetricPaces(image=0.01, moment=1e-5, distance=2.0, kid=2e-9, pair=1e-9, extractor="fake")


@pytest.fixture(scope="module")
def paper(root) -> experiments.Tier:
    return experiments.load(root / "params.yaml", "paper")


@pytest.fixture
def bare(root, tmp_path, monkeypatch) -> Path:
    """A root with settings and no data."""
    for name in ("params.yaml", "dvc.yaml"):
        shutil.copy(root / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(archives.ENVIRONMENT, raising=False)
    return tmp_path


class Fake:
    """A clock that says a tenth of a second for everything, and remembers what it was asked."""

    def __init__(self, batch: int = 10):
        self.batch, self.asked = batch, []

    def step(self, experiment, method) -> Pace:
        self.asked.append((experiment.training.data, method.label))
        return Pace(0.1, self.batch)

    def call(self, experiment, method) -> Pace:
        return Pace(0.1, self.batch)

    def metrics(self, shape, extractor) -> MetricPaces:
        return METRICS


# What is missing


def test_everything_that_is_missing_is_listed_at_once(bare, paper):
    found = preflight.missing_files(paper, checksums=True)
    assert len(found) == 7 and all("\n" not in sentence for sentence in found)
    homes = {
        "afhq64": "stargan-v2", "celeba64": "CelebA.html", "celebahq": "CelebA-HQ", "cifar10": "cs.toronto.edu", "imagenet32": "image-net.org",
        "sd-vae-ft-mse": "huggingface.co/stabilityai/sd-vae-ft-mse",
    }  # fmt: skip
    for name, home in homes.items():
        assert [s for s in found if f"{bare / 'paper' / 'data' / name}" in s and home in s], name
    assert "Inception weights" in found[-1] and "nvlabs-fi-cdn" in found[-1]


def test_nothing_is_missing_where_nothing_is_fetched(smoke, bare):
    assert preflight.missing_files(smoke, checksums=True) == [] == preflight.missing_device(smoke)


def test_a_rehearsals_archives_are_missing_ones_and_published_ones_are_held_against_their_checksums(bare, paper, monkeypatch):
    tiny_archives.write(bare / "paper" / "data")
    assert sum("holds a rehearsal's tiny archives" in sentence for sentence in preflight.missing_files(paper, checksums=False)) == 5
    for name in PAPER:
        (bare / "paper" / "data" / name / rehearsed.FILE).unlink()
    monkeypatch.setattr(celeba64, "COUNT", tiny_archives.COUNT)
    cheap, thorough = (preflight.missing_files(paper, checksums) for checksums in (False, True))
    assert not [s for s in cheap if "cifar-10" in s or "celeba64" in s] and [s for s in cheap if "40 images instead of 15,803" in s]
    assert [s for s in thorough if "instead of c32a1d4ab5d03f1284b67883e8d87530" in s] and len(thorough) == len(cheap) + 1
    listing = bare / "paper" / "data" / "celeba64" / archives.CHECKSUMS
    listing.write_text("0" * 32 + listing.read_text()[32:])
    assert [s for s in preflight.missing_files(paper, checksums=True) if "000001.jpg" in s and "instead of 0000" in s]
    weights = bare / "paper" / "data" / "inception" / preflight.INCEPTION
    weights.write_bytes(b"other weights")
    assert "has SHA-256" in preflight.missing_files(paper, checksums=True)[-1]


def test_a_full_disk_is_named_with_what_is_wanted(bare, monkeypatch):
    needs = {"samples": 70 * 10**9, "decoded images": 30 * 10**9}
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: SimpleNamespace(free=99 * 10**9))
    (sentence,) = preflight.missing_room(bare, "paper", needs)
    assert f"{bare} has 99 GB free, and tier paper writes about 100 GB there: make room" in sentence
    monkeypatch.setattr(preflight, "_size", lambda folder: 2 * 10**9 if folder == bare / "artifacts" / "paper" else 0)
    assert preflight.missing_room(bare, "paper", needs) == [], "what is written already is not written again"


def test_archives_on_another_disk_have_their_own_room(bare, monkeypatch):
    elsewhere = bare / "big"
    elsewhere.mkdir()
    monkeypatch.setenv(archives.ENVIRONMENT, str(elsewhere))
    monkeypatch.setattr(preflight, "_disk", lambda place: int(place == elsewhere))
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: SimpleNamespace(free=(10 if place == elsewhere else 80) * 10**9))
    (sentence,) = preflight.missing_room(bare, "paper", {"samples": 70 * 10**9, "decoded images": 30 * 10**9})
    assert sentence.startswith(f"{elsewhere} has 10 GB free, and tier paper writes about 30 GB there")


# How much is written


def test_networks_are_counted_as_they_are_built(smoke, paper):
    for tier, name in ((smoke, "fmm-checkerboard"), (smoke, "fmm-cifar10")):
        experiment = tier.experiments[name]
        built = networks.build(experiment.training.network.model_dump(), data.load(experiment.training.data).shape)
        assert room.weights(experiment, experiment.methods["si"], tier.shape(experiment)) == sum(p.numel() for p in built.parameters())
    large = [paper.experiments[name] for name in ("selfdistill-cifar10", "selfdistill-celeba64", "scflow-celebahq")]
    sizes = [room.weights(experiment, experiment.methods["lsd"], paper.shape(experiment)) for experiment in large]
    assert [round(size / 1e6, 1) for size in sizes] == [55.0, 121.4, 154.4]
    assert paper.shape(large[2]) == (4, 32, 32) and smoke.shape(smoke.experiments["scflow-celebahq"]) == (4, 8, 8)
    built = discriminator((4, 32, 32), [512] * 4)
    assert room.judging(large[2].methods["scflow"], (4, 32, 32)) == sum(p.numel() for p in built.parameters()) and room.judging(large[2].methods["lsd"], (4, 32, 32)) == 0


def test_the_room_of_a_tier_is_counted_by_kind(smoke, root, monkeypatch):
    monkeypatch.chdir(root)
    names = ("selfdistill-cifar10",)
    kept = {"experiments": {name: smoke.experiments[name] for name in names}, "features": {"cifar10": smoke.features["cifar10"]}, "latents": {}}
    tier = smoke.model_copy(update=kept)
    experiment = tier.experiments["selfdistill-cifar10"]
    numbers = room.weights(experiment, experiment.methods["lsd"], tier.shape(experiment))
    found = room.needs(tier)
    assert found["trained networks"] == 5 * (4 * numbers + 8 * 20) and found["states of trainings"] == 5 * (4 * 4 * numbers + 8 * 20)
    draws = len(sampling.plan(experiment))
    assert draws == 5 * 5 * 2 and found["samples"] == draws * 200 * prod(data.load("digits").shape)
    assert found["features of samples, while measured"] == 4 * draws * 200 * 64 and found["features of the data"] == 4 * 1797 * 64
    assert found["decoded images"] == 0 and found["DVC's copies"] == found["trained networks"] + found["samples"] + found["features of the data"]


def test_the_paper_tier_counts_what_is_decoded_and_what_is_drawn_as_points(paper):
    found = room.needs(paper)
    assert found["decoded images"] == 3 * (1024 * (50_000 + 1_281_167) + 4096 * (202_599 + 15_803) + 256**2 * 27_000)
    # mean and deviation of every image and its mirror image
    assert found["latents"] == 27_000 * 2 * 2 * 4 * 32 * 32 * 4
    points = sum(len(sampling.plan(paper.experiments[f"{name}-checkerboard"])) * 64_000 * 2 * 4 for name in ("fmm", "selfdistill"))
    sizes = {name: prod((3, 256, 256) if e.training.latents else paper.shape(e)) for name, e in paper.experiments.items()}
    images = sum(len(sampling.plan(e)) * e.sampling.count * sizes[name] for name, e in paper.experiments.items() if e.metrics.of_images)
    assert found["samples"] == points + images
    one = paper.model_copy(update={"experiments": {"fmm-cifar10": paper.experiments["fmm-cifar10"]}})
    numbers, methods = 38_635_395, paper.experiments["fmm-cifar10"].methods
    assert room.needs(one)["states of trainings"] == sum((4 * (5 if name == "pfmm" else 4)) * numbers + 8 * m.steps for name, m in methods.items())


# How long it takes


def test_a_forecast_has_a_row_for_every_stage_and_is_steps_times_seconds(paper):
    clock = Fake(batch=512)
    rows = {row.stage: row for row in forecast.forecast(paper, clock)}
    assert list(rows) == [stage.name for stage in pipeline.plan(paper)]
    assert rows["fmm-cifar10-lmd"].seconds == pytest.approx(400_000 * 0.1) and rows["fmm-cifar10-lmd"].basis == "measured at batch 512"
    assert rows["selfdistill-afhq64-lsd"].seconds == pytest.approx(800_000 * 0.1 / 2) and "in proportion from batch 512" in rows["selfdistill-afhq64-lsd"].basis
    assert rows["fmm-checkerboard-si"].seconds == pytest.approx(250_000 * 0.1 * 3 * 100_000 / 512)
    assert rows["tour"].seconds == pytest.approx(2 * 5000 * 0.1 * 8192 / 512)
    assert rows["figures"].seconds is None and rows["fmm-speed"].seconds is None and rows["fmm-cifar10-figures"].seconds is None
    assert rows["features-imagenet32"].seconds == pytest.approx(50_000 * 0.01) and rows["features-celeba64"].seconds == pytest.approx(202_599 * 0.01)


def test_sampling_is_calls_times_samples(paper):
    rows = {row.stage: row for row in forecast.forecast(paper, Fake(batch=1000))}
    jumps = 3 * (4 * (1 + 2 + 4 + 8) - 15 + (1 + 2 + 4 + 8 + 16))
    calls = 3 * (1 + 2 + 4 + 8 + 16 + 64) + jumps + 3 * (2 * (2 + 4 + 8 + 16)) + 3 * 2 * ADAPTIVE_CALLS
    assert rows["fmm-cifar10-sample"].work == f"{calls:,} calls for each of 50,000 samples"
    assert rows["fmm-cifar10-sample"].seconds == pytest.approx(calls * 50_000 * 0.1 / 1000)
    own = 3 * 3 * 4 * (1 + 2 + 4 + 8 + 16)
    assert rows["selfdistill-checkerboard-sample"].seconds == pytest.approx(own * 64_000 * 0.1 / 1000), "the exact map is no network"


def test_metrics_are_features_distances_and_pairs(paper):
    rows = {row.stage: row for row in forecast.forecast(paper, Fake())}
    draws, one = 5 * 5 * 3, 50_000 * 0.01 + (50_000 + 202_599) * 1e-5 + 2.0 + 3 * 100 * 1000**2 * 2e-9 + (50_000 + 202_599) ** 2 * 1e-9
    checks = 202_599 * 0.01 + (4 + 3 * 3) * (202_599 * 1e-5 + 2.0)
    assert rows["selfdistill-celeba64-metrics"].seconds == pytest.approx(draws * one + checks)
    assert rows["fmm-checkerboard-metrics"].seconds is None, "points are measured in minutes"


def test_workers_share_the_seeds_and_processes_the_batch(smoke, paper):
    tier = smoke.model_copy(update={"compute": smoke.compute.model_copy(update={"workers": 2})})
    one, two = ({row.stage: row.seconds for row in forecast.forecast(t, Fake())} for t in (smoke, tier))
    assert two["fmm-checkerboard-si"] == one["fmm-checkerboard-si"] / 2 and two["fmm-cifar10-si"] == one["fmm-cifar10-si"], "one seed is not shared"
    assert two["fmm-cifar10-sample"] == one["fmm-cifar10-sample"] / 2
    four = paper.model_copy(update={"compute": paper.compute.model_copy(update={"processes": 4})})
    alone, shared = ({row.stage: row.seconds for row in forecast.forecast(t, Fake())} for t in (paper, four))
    assert shared["fmm-cifar10-si"] == alone["fmm-cifar10-si"] / 4


def test_a_step_that_does_not_fit_is_a_problem_and_no_number(paper):
    class Full(Fake):
        def step(self, experiment, method) -> Pace:
            if experiment.training.data == "celeba64":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return super().step(experiment, method)

    rows = [row for row in forecast.forecast(paper, Full()) if row.problem]
    assert {row.stage for row in rows} == {f"selfdistill-celeba64-{m}" for m in ("lsd", "esd", "psd-m", "psd-u", "meanflow")}
    assert rows[0].problem.startswith("a step at batch 256 does not fit into the GPU's free memory: lower training.batch")


def measured(tier: experiments.Tier, quick: bool) -> tuple[Measured, list[tuple]]:
    """A `Measured` whose other process only writes down what it is asked."""
    submitted: list[tuple] = []

    def submit(function, *arguments):
        submitted.append((function, *arguments))
        return SimpleNamespace(result=lambda: METRICS if function is paces.metrics else Pace(0.1, arguments[-2]))

    clock = Measured(tier, "cpu", quick, lambda what: None)
    clock.executor, clock.weights = SimpleNamespace(submit=submit), Path("nowhere")
    return clock, submitted


def test_equal_work_is_measured_once_and_quick_batches_leave_no_term_out(paper):
    clock, submitted = measured(paper, quick=True)
    rows = {row.stage: row for row in forecast.forecast(paper, clock)}
    steps = [(a.data, m.label, batch) for function, a, m, _, batch, _ in (s for s in submitted if s[0] is paces.step)]
    batches = {label: batch for set_, label, batch in steps if set_ == "cifar10"}
    assert batches == {"SI": 2, "LMD": 2, "EMD": 2, "PFMM": 2, "FMM": 2, "LSD": 6, "ESD": 3, "PSD-M": 6, "PSD-U": 6, "MeanFlow": 3}
    # ImageNet's networks are CIFAR-10's, and AFHQ's are CelebA's
    assert {set_ for set_, _, _ in steps} == {"checkerboard", "cifar10", "celeba64", "latents"} and {b for s, _, b in steps if s == "checkerboard"} == {1000}
    assert rows["fmm-imagenet32-si"].basis == "in proportion from batch 2" and rows["fmm-imagenet32-si"].seconds == pytest.approx(400_000 * 0.1 * 256)
    assert sum(s[0] is paces.metrics for s in submitted) == 3 and sum(s[0] is paces.call for s in submitted) == 5
    full, submitted = measured(paper, quick=False)
    assert {row.stage: row.basis for row in forecast.forecast(paper, full)}["selfdistill-afhq64-lsd"] == "measured at batch 256"


def test_a_step_is_timed_by_the_training_loop_and_leaves_nothing(smoke, root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(paces, "SECONDS", 0.0)
    experiment = smoke.experiments["fmm-checkerboard"]
    method = experiment.methods["lmd"].model_copy(update={"steps": 10**6})
    pace = paces.step(experiment.training, method, "cpu", 64, (2,))
    assert pace.batch == 64 and 1e-4 < pace.seconds < 0.5 and pace.device_bytes is None
    with pytest.raises(ValueError, match="2 steps are over before they can be timed"):
        paces.step(experiment.training, method.model_copy(update={"steps": 2}), "cpu", 64, (2,))
    call = paces.call(experiment.training, method, "cpu", 500, (2,))
    assert call.batch == 500 and 0 < call.seconds < 0.5


def test_metrics_are_timed_in_parts(monkeypatch):
    monkeypatch.setattr(paces, "SECONDS", 0.0)
    found = paces.metrics((1, 8, 8), "classifier", 64, Path("nowhere"), "cpu")
    parts = (found.image, found.moment, found.distance, found.kid, found.pair)
    assert all(part > 0 for part in parts) and "classifier" in found.extractor and max(found.pair, found.kid) < found.moment


def test_the_archives_of_a_clock_are_its_own_and_the_environment_comes_back(paper, bare):
    with Measured(paper, "cpu", True, lambda what: None) as clock:
        assert (Path(os.environ[archives.ENVIRONMENT]) / "cifar10" / cifar10.ARCHIVE).is_file()
        assert clock.weights == bare / "paper" / "data" / "inception" / preflight.INCEPTION
    assert archives.ENVIRONMENT not in os.environ


# The command


def test_preflight_lists_what_is_missing_and_fails(bare):
    source = str(Path(preflight.__file__).parents[1])
    done = subprocess.run([sys.executable, "-m", "fewstep", "preflight", "--no-times"], cwd=bare, env=os.environ | {"PYTHONPATH": source}, capture_output=True, text=True)
    assert done.returncode == 1 and done.stdout.count("\nmissing: ") >= 5 and "measuring" not in done.stdout
    assert done.stderr.count("\n") == 1 and "tier paper cannot run here as it is: " in done.stderr and "listed above" in done.stderr


def test_the_table_shows_hours_bases_problems_and_the_total(smoke, root, monkeypatch, capsys):
    monkeypatch.chdir(root)

    class Ready(Fake):
        def __init__(self, *settings):
            super().__init__()

        def __enter__(self):
            return self

        def __exit__(self, *problem):
            pass

        def step(self, experiment, method) -> Pace:
            if method.label == "MeanFlow":
                raise torch.OutOfMemoryError
            return Pace(3600.0, 10, 5 * 10**9)

    monkeypatch.setattr(preflight, "Measured", Ready)
    with pytest.raises(preflight.PreflightError, match="tier smoke cannot run here as it is: 1 thing missing, listed above"):
        preflight.preflight(root, "smoke", smoke, quick=False, times=True)
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    assert "20 steps of 16 " in lines["fmm-cifar10-si"] and " 32.00 " in lines["fmm-cifar10-si"] and "5.0 GB" in lines["fmm-cifar10-si"]
    assert "does not fit" in lines["selfdistill-cifar10-meanflow"] and "all stages" in out
    assert "missing: selfdistill-cifar10-meanflow: a step at batch 16 does not fit" in out


def test_the_check_says_what_is_missing_and_goes_on(bare, root, smoke, monkeypatch, capsys):
    from fewstep import __main__, devices

    monkeypatch.setattr(devices, "require_cuda", lambda count: None)
    __main__._check(bare, SimpleNamespace(tier="paper", inputs=None))
    assert capsys.readouterr().out.count("missing: ") == 7
    __main__._check(bare, SimpleNamespace(tier="smoke", inputs=None))
    assert "missing" not in capsys.readouterr().out
