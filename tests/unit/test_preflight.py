"""Looking ahead to a tier: what is missing is said at once, and the forecast counts what was measured."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from fewstep import data
from fewstep.data import celeba64
from fewstep.data.formats import archives
from fewstep.evaluation import sample
from fewstep.metrics.features import INCEPTION
from fewstep.pipeline import stages
from fewstep.rehearsal import forecast, preflight, tiny_archives, tiny_networks
from fewstep.rehearsal.forecast import ADAPTIVE_CALLS, Noise, Timing, Timings, UnfitError
from fewstep.settings import tiers
from fewstep.storage import stand_in
from fewstep.storage.checkpoint import save_checkpoint
from fewstep.training import published_weights

PAPER = ("cifar10", "imagenet32", "celeba64", "afhq64")
DECODE = 0.07
CONDITIONAL = ("scflow-coco2017", "scflow-coco2014")


@pytest.fixture(scope="module")
def paper(root) -> tiers.Tier:
    return tiers.load(root / "params.yaml", "paper")


@pytest.fixture
def bare(root, tmp_path, monkeypatch) -> Path:
    """A root with settings and no data."""
    for name in ("params.yaml", "dvc.yaml", stages.PAPER_ONLY, "zoo/dvc.yaml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(archives.ENVIRONMENT, raising=False)
    return tmp_path


class Fake:
    """Timings of a tenth of a second for everything, at `batch`."""

    def __init__(self, batch: int = 10):
        self.batch = batch

    def step(self, experiment, method) -> Timing:
        return Timing(0.1, self.batch)

    def call(self, experiment, method) -> Timing:
        return Timing(0.1, self.batch)

    def decoding(self, latents) -> Timing | None:
        return Timing(10 * DECODE, 10, 3 * 10**9) if latents.autoencoder.kind == "pretrained" else None


@pytest.fixture(scope="module")
def rows(root):
    """rows(tier, timings): the rows of the stages of `tier`'s experiments, by name without the tier."""

    def forecasts(tier: tiers.Tier, timings: object, name: str = "paper") -> dict[str, forecast.Row]:
        plan = [
            stage
            for stage in stages.plan(root, name)
            if stage.experiment is None or stage.experiment in tier.experiments
        ]
        found = forecast.forecast(plan, tier, timings)
        assert [row.stage for row in found] == [
            stage.name for stage in plan if stage.name.startswith(("tour", "teacher", "students", "sample"))
        ]
        return {row.stage.replace(f"@{name}-", "@").removesuffix(f"@{name}"): row for row in found}

    return forecasts


# What is missing


def test_everything_that_is_missing_is_listed_at_once(bare, paper):
    found = preflight.missing_files(paper, checksums=True)
    assert len(found) == 11 and all("\n" not in sentence for sentence in found)
    homes = {
        "afhq64": "stargan-v2",
        "celeba64": "CelebA.html",
        "celebahq": "CelebA-HQ",
        "cifar10": "cs.toronto.edu",
        "imagenet32": "image-net.org",
        "sd-vae-ft-mse": "huggingface.co/stabilityai/sd-vae-ft-mse",
        "clip-vit-large-patch14": "huggingface.co/openai/clip-vit-large-patch14",
        "laion": "laion.ai/blog/laion-aesthetics",
        "coco": "images.cocodataset.org/zips/val2014.zip",
        "instaflow/2_rectified_flow.safetensors": (
            "huggingface.co/XCLiu/2_rectified_flow_from_sd_1_5 (the folder unet) to a folder and turn them "
            "into it by `python -m fewstep convert-instaflow"
        ),
        "instaflow/instaflow.safetensors": (
            "huggingface.co/XCLiu/instaflow_0_9B_from_sd_1_5 (the folder unet)"
        ),
    }
    for name, home in homes.items():
        assert [s for s in found if f"{bare / 'paper' / 'data' / name}" in s and home in s], name
    assert "Inception weights" in found[-1] and "nvlabs-fi-cdn" in found[-1]


def captioned(paper: tiers.Tier, **network: object) -> tiers.Tier:
    """The paper tier's experiments with captions alone, with another network of that kind if given."""
    shared = paper.experiments[CONDITIONAL[0]].training
    training = shared.model_copy(update={"network": shared.network.model_copy(update=network)})
    return paper.model_copy(
        update={
            "experiments": {
                name: paper.experiments[name].model_copy(update={"training": training})
                for name in CONDITIONAL
            }
        }
    )


def test_weights_in_the_place_of_training_are_looked_at_and_not_loaded(bare, paper, monkeypatch):
    tier = captioned(paper, channels=[8, 16], attention=[True, False], layers=1, heads=2, groups=4, width=12)
    network, folder = (
        tier.experiments[CONDITIONAL[0]].training.network.model_dump(),
        bare / "paper" / "data" / "instaflow",
    )
    first, second = published_weights.weights_files(tier)
    assert (first.path, first.method, second.path) == (
        folder / "2_rectified_flow.safetensors",
        "si",
        folder / "instaflow.safetensors",
    )
    tiny_networks.weights(first.path, network, (4, 64, 64), 0)
    said = published_weights.missing(tier, checksums=False)
    assert (
        "instaflow holds a rehearsal's weights (rehearsal.json says so): delete it, and download config.json"
        in said[0]
        and "are not there" in said[1]
    )
    (folder / stand_in.FILE).unlink()
    save_checkpoint(second.path, {}, {"network": network | {"width": 16}, "shape": [4, 64, 64]})
    loaded = []
    monkeypatch.setattr(published_weights, "load_checkpoint", loaded.append)
    (sentence,) = published_weights.missing(tier, checksums=False)
    assert (
        "instaflow.safetensors holds weights of another network, {" in sentence
        and "'width': 16" in sentence
        and loaded == []
    )
    save_checkpoint(second.path, {}, {"network": network, "shape": [4, 32, 32]})
    assert (
        "weights of another shape, [4, 32, 32], and scflow-coco2017 has [4, 64, 64]: delete it"
        in published_weights.missing(tier, checksums=False)[0]
    )
    save_checkpoint(second.path, {}, {"network": network, "shape": [4, 64, 64]})
    assert published_weights.missing(tier, checksums=True) == [] and loaded == [first.path, second.path], (
        "checksums are of what is in the file"
    )
    monkeypatch.undo()
    monkeypatch.chdir(bare)
    content = bytearray(first.path.read_bytes())
    content[-9] ^= 1
    first.path.write_bytes(content)
    assert (
        published_weights.missing(tier, checksums=False) == []
        and "damaged (its checksum differs)" in published_weights.missing(tier, checksums=True)[0]
    )
    first.path.write_bytes(content[:100])
    assert "is damaged, or was not written by fewstep" in published_weights.missing(tier, checksums=False)[0]


def test_how_a_file_of_weights_comes_about_goes_by_its_network():
    def cure(kind: str, name: str) -> str:
        return published_weights.WeightsFile(
            f"here/{name}.safetensors", "an experiment", "a method", {"kind": kind}, (4, 64, 64)
        ).cure

    assert "convert-lfm" in cure("adm", "celebahq") and "convert" not in cure("unet", "celebahq")
    assert "haopt/scflow_t2i (the folder unet_ema)" in cure(
        "published_unet", "scflow_t2i"
    ) and "XCLiu" not in cure("published_unet", "scflow_t2i")
    assert all(source in cure("published_unet", "other") for source in published_weights.INSTAFLOW.values())


def test_nothing_is_missing_where_nothing_is_fetched(smoke, bare):
    assert preflight.missing_files(smoke, checksums=True) == []


def test_a_rehearsals_archives_are_missing_ones_and_published_ones_are_held_against_their_checksums(
    bare, paper, monkeypatch
):
    tiny_archives.write(bare / "paper" / "data")
    tiny_archives.laion(bare / "paper" / "data" / "laion")
    tiny_archives.coco(bare / "paper" / "data" / "coco")
    tiny_networks.clip(bare / "paper" / "data" / "clip-vit-large-patch14", 8, "both")
    found = preflight.missing_files(paper, checksums=False)
    # those of LAION and of both sets of COCO are in one sentence
    assert (
        sum(sentence.count("holds a rehearsal's tiny archives") for sentence in found) == 8
        and sum("holds a rehearsal's CLIP" in sentence for sentence in found) == 1
    )
    for name in PAPER:
        (bare / "paper" / "data" / name / stand_in.FILE).unlink()
    whole = replace(celeba64.FOLDER, count=tiny_archives.COUNT)
    monkeypatch.setattr(celeba64, "check", whole.check)
    found = preflight.missing_files(paper, checksums=False)
    assert not [s for s in found if "celeba64" in s]
    assert [s for s in found if "40 images instead of 15,803" in s]
    assert [s for s in found if "instead of c32a1d4ab5d03f1284b67883e8d87530" in s]
    weights = bare / "paper" / "data" / "inception" / INCEPTION
    weights.write_bytes(b"other weights")
    assert "has SHA-256" in preflight.missing_files(paper, checksums=True)[-1]


def test_a_full_disk_is_named_with_what_is_wanted(bare, monkeypatch):
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: SimpleNamespace(free=99 * 10**9))
    (sentence,) = preflight.missing_space(bare, "paper", 100 * 10**9)
    assert f"{bare} has 99 GB free, and tier paper writes about 100 GB there: make room" in sentence
    monkeypatch.setattr(
        preflight, "_size", lambda folder: 2 * 10**9 if folder == bare / "artifacts" / "paper" else 0
    )
    written = preflight.missing_space(bare, "paper", 100 * 10**9)
    assert written == [], "what is written already is not written again"


# How much is written


def test_the_paper_tier_counts_what_is_drawn_and_what_is_encoded(paper):
    found = preflight.needs(paper)
    # mean and deviation of every image and, where there are no captions, its mirror image
    assert found["latents"] == 27_000 * 2 * 2 * 4 * 32 * 32 * 4 + 2_000_000 * 2 * 4 * 64 * 64 * 4
    assert found["captions"] == 2_000_000 * 77 * (768 * 4 + 1)
    points = sum(
        len(sample.plan(paper.experiments[f"{name}-checkerboard"])) * 64_000 * 2 * 4
        for name in ("fmm", "selfdistill")
    )
    sides = {"celebahq": 256, "laion": 512}
    sizes = {
        name: 3 * sides[e.training.latents] ** 2 if e.training.latents else prod(paper.shape(e))
        for name, e in paper.experiments.items()
    }
    images = sum(
        len(sample.plan(e)) * e.sampling.count * sizes[name]
        for name, e in paper.experiments.items()
        if e.metrics.of_images
    )
    assert found["samples"] == points + images
    assert found["DVC's copies"] == found["latents"] + found["captions"] + found["samples"]


def test_latents_are_counted_as_many_as_are_asked_for(smoke, root, monkeypatch):
    monkeypatch.chdir(root)
    assert [preflight.encoded(own) for own in smoke.latents.values()] == [512, 512]
    few = smoke.model_copy(
        update={
            "experiments": {},
            "features": {},
            "latents": {"laion": smoke.latents["laion"].model_copy(update={"count": 10})},
        }
    )
    tokens, width = 48, 16
    found = preflight.needs(few)
    assert found["latents"] == 4 * 10 * 2 * prod(few.latents["laion"].shape) and found[
        "captions"
    ] == 10 * tokens * (4 * width + 1)
    mirrored = smoke.model_copy(
        update={"experiments": {}, "features": {}, "latents": {"celebahq": smoke.latents["celebahq"]}}
    )
    assert (
        preflight.needs(mirrored)["latents"] == 4 * 512 * 2 * 2 * prod(mirrored.latents["celebahq"].shape)
        and preflight.needs(mirrored)["captions"] == 0
    )
    many = smoke.latents["celebahq"].model_copy(update={"count": 10**9})
    assert preflight.encoded(many) == preflight.images("faces")


# How long it takes


def test_a_forecast_has_a_row_for_every_training_and_is_steps_times_seconds(paper, rows):
    found = rows(paper, Fake())
    assert found["teacher@fmm-cifar10"].seconds == pytest.approx(400_000 * 0.1)
    assert found["students@fmm-cifar10"].seconds == pytest.approx(4 * 400_000 * 0.1)
    assert found["students@fmm-cifar10"].work == "1,600,000 steps of 512, 4 x 1 trainings"
    assert found["students@selfdistill-afhq64"].seconds == pytest.approx(5 * 800_000 * 0.1)
    assert found["teacher@fmm-checkerboard"].seconds == pytest.approx(250_000 * 0.1 * 3)
    assert found["tour"].seconds == pytest.approx(2 * 5000 * 0.1)


def test_weights_that_are_taken_take_no_time(paper, rows):
    found = rows(paper, Fake())
    row = found["teacher-captions@scflow-coco2017"]
    assert (row.work, row.seconds) == ("weights are taken from files", 0)
    row = found["students-captions@scflow-coco2017"]
    assert row.work == "18,000 steps of 40, 1 x 1 trainings"
    assert row.seconds == pytest.approx(18_000 * 0.1)
    named = {stage for stage in found if stage.endswith("scflow-coco2014")}
    assert named == {"sample-captions@scflow-coco2014"}, "it trains nothing"


def test_small_autoencoders_that_are_trained_here_decode_in_no_time(smoke, root, rows, monkeypatch):
    monkeypatch.chdir(root)
    assert "decoded" not in rows(smoke, Fake(), "smoke")["sample-captions@scflow-coco2017"].work
    assert Timings(smoke, "cpu").decoding(smoke.latents["laion"]) is None


def test_sampling_is_calls_times_samples(paper, rows):
    found = rows(paper, Fake(batch=1000))
    jumps = 3 * (4 * (1 + 2 + 4 + 8) - 15 + (1 + 2 + 4 + 8 + 16))
    calls = 3 * (1 + 2 + 4 + 8 + 16 + 64) + jumps + 3 * (2 * (2 + 4 + 8 + 16)) + 3 * 2 * ADAPTIVE_CALLS
    row = found["sample@fmm-cifar10"]
    assert "decoded" not in row.work and row.work == f"{calls:,} calls for each of 50,000 samples"
    assert row.seconds == pytest.approx(calls * 50_000 * 0.1 / 1000)
    own = 3 * 3 * 4 * (1 + 2 + 4 + 8 + 16)
    assert found["sample@selfdistill-checkerboard"].seconds == pytest.approx(own * 64_000 * 0.1 / 1000), (
        "the exact map is no network"
    )


def test_guided_samples_take_two_calls_a_step_and_are_decoded(paper, rows):
    row = rows(captioned(paper), Fake(batch=64))["sample-captions@scflow-coco2017"]
    # the teacher under guidance and, at scale 1, without
    teacher = 2 * (1 + 2 + 4 + 8 + 25) + 25 + 2 * (25 + 25)
    calls, draws = 3 * (teacher + 2 * (1 + 2 + 4 + 8) + 2 * (1 + 4 + 1)), 3 * (5 + 4 + 4 + 3 + 3)
    assert row.work == f"{calls} calls for each of 5,000 samples, decoded {draws} times"
    assert row.seconds == pytest.approx(calls * 5_000 * 0.1 / 64 + draws * 5_000 * DECODE)


def test_workers_share_the_trainings_of_a_cpu_and_none_of_a_gpu(smoke, paper, rows):
    tiers = [
        smoke.model_copy(update={"compute": smoke.compute.model_copy(update={"workers": workers})})
        for workers in (1, 2)
    ]
    one, two = ({name: row.seconds for name, row in rows(t, Fake(), "smoke").items()} for t in tiers)
    assert two["teacher@fmm-checkerboard"] == one["teacher@fmm-checkerboard"] / 2
    assert two["students@fmm-cifar10"] == one["students@fmm-cifar10"] / 2
    assert two["teacher@fmm-cifar10"] == one["teacher@fmm-cifar10"], "one training is not shared"
    assert two["sample@fmm-cifar10"] == one["sample@fmm-cifar10"] / 2
    gpu = [
        tier.model_copy(update={"compute": tier.compute.model_copy(update={"device": "cuda"})})
        for tier in tiers
    ]
    alone, beside = ({name: row.seconds for name, row in rows(t, Fake(), "smoke").items()} for t in gpu)
    assert alone["students@fmm-cifar10"] == beside["students@fmm-cifar10"]


def test_the_gpus_are_those_of_the_training_that_asks_for_most(paper):
    assert paper.processes == 1 and paper.compute.of(paper.tour.training) == paper.compute
    own = paper.experiments["fmm-cifar10"]
    six = own.model_copy(update={"training": own.training.model_copy(update={"processes": 6})})
    tier = paper.model_copy(update={"experiments": paper.experiments | {"fmm-cifar10": six}})
    assert (
        tier.processes == 6
        and tier.compute.of(six.training).processes == 6
        and tier.compute.of(own.training).processes == 1
    )


def test_what_does_not_fit_is_a_problem_and_no_number(paper, rows):
    class Full(Fake):
        def step(self, experiment, method) -> Timing:
            if experiment.training.data == "celeba64":
                raise UnfitError(f"a step of {method.label} does not fit")
            return super().step(experiment, method)

    found = rows(paper, Full())
    row = found["students@selfdistill-celeba64"]
    assert (row.work, row.seconds, row.problem) == ("not measured", 0, "a step of LSD does not fit")
    assert [name for name, own in found.items() if own.problem] == ["students@selfdistill-celeba64"]


def test_memory_that_ends_is_said_with_what_was_tried_and_the_cure(paper, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    monkeypatch.setattr(forecast, "_seconds", lambda work: 1.0)
    monkeypatch.setattr(forecast, "step", full)
    monkeypatch.setattr(forecast, "call", full)
    timings = Timings(paper, "cuda")
    own = paper.experiments["selfdistill-celeba64"]
    problem = "^a step of LSD on celeba64, batch 256, does not fit into .* cuda: lower training.batch, or"
    with pytest.raises(UnfitError, match=problem):
        timings.step(own, own.methods["lsd"])
    with pytest.raises(UnfitError, match="^a network call on celeba64, batch 1000, .*: free some, or take"):
        timings.call(own, own.methods["lsd"])
    monkeypatch.setattr(forecast, "call", lambda *arguments: 1.0)
    assert timings.call(own, own.methods["lsd"]) == Timing(1.0, 1000, 7), "what fits says how much it holds"


@pytest.fixture
def submitted(monkeypatch) -> list[tuple[str, int]]:
    """What `Timings` would measure, in words, and at which batch; it is written down alone."""
    found: list[tuple[str, int]] = []

    def once(timings, what, key, batch, measure, cure="") -> Timing:
        mark = json.dumps([key, batch], default=str)
        if mark not in timings.known:
            found.append((what, batch))
            timings.known[mark] = Timing(0.1, batch)
        return timings.known[mark]

    monkeypatch.setattr(Timings, "_once", once)
    return found


def test_each_of_several_processes_is_timed_on_its_share(paper, submitted):
    four = paper.model_copy(update={"compute": paper.compute.model_copy(update={"processes": 4})})
    own = four.experiments["fmm-cifar10"]
    for tier, batch in ((paper, 512), (four, 128)):
        assert Timings(tier, "cuda").step(own, own.methods["lmd"]).batch == batch


def test_equal_work_is_measured_once_and_at_its_true_batch(paper, rows, submitted):
    rows(paper, Timings(paper, "cuda"))
    steps = [what.removeprefix("a step of ").split(" on ") for what, _ in submitted if "a step" in what]
    # ImageNet's networks are CIFAR-10's, and AFHQ's are CelebA's
    assert {set_ for _, set_ in steps} == {"checkerboard", "cifar10", "celeba64", "latents"}
    assert sorted(label for label, set_ in steps if set_ == "celeba64") == [
        "ESD", "LSD", "MeanFlow", "PSD-M", "PSD-U",
    ]  # fmt: skip

    def batches_of(part: str) -> list[int]:
        return sorted(batch for what, batch in submitted if part in what)

    assert batches_of("on celeba64") == [256] * 5 + [1000]
    assert batches_of("a network call") == [64, 500, 1000, 1000, 1000, 1000]
    assert batches_of("decoding") == [4, 16]


def test_a_step_is_timed_by_the_training_loop_and_leaves_nothing(smoke, root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(forecast, "SECONDS", 0.0)
    experiment = smoke.experiments["fmm-checkerboard"]
    method = experiment.methods["lmd"].model_copy(update={"steps": 10**6})
    assert 1e-4 < forecast.step(experiment.training, method, "cpu", 64, Noise((2,))) < 0.5
    short = method.model_copy(update={"steps": 2})
    assert forecast.step(experiment.training, short, "cpu", 64, Noise((2,))) == 0, "it is over in seconds"
    assert 0 < forecast.call(experiment.training.network, "cpu", 500, Noise((2,))) < 0.5


@pytest.mark.parametrize("name", ["si", "instaflow", "scflow"])
def test_a_step_on_captions_is_timed_without_latents_or_a_clip(smoke, name, monkeypatch):
    monkeypatch.setattr(forecast, "SECONDS", 0.0)
    experiment, asked = smoke.experiments[CONDITIONAL[0]], []
    true = forecast.Noise.sample_with_conditions

    def sample_with_conditions(source, count, generator):
        points, texts = true(source, count, generator)
        asked.append(
            (
                tuple(points.shape),
                tuple(texts.hidden.shape),
                texts.mask.all().item(),
                source.empty.hidden.shape,
            )
        )
        return points, texts

    monkeypatch.setattr(forecast.Noise, "sample_with_conditions", sample_with_conditions)
    shape, captions = smoke.shape(experiment), forecast.captions(smoke, experiment)
    noise = Noise(shape, captions)
    method = experiment.methods[name].model_copy(update={"steps": 10**6})
    assert 1e-3 < forecast.step(experiment.training, method, "cpu", 4, noise) < 5
    assert set(asked) == {((4, *shape), (4, *captions), True, (1, *captions))}
    network = method.network or experiment.training.network
    assert captions == (48, 16) and forecast.call(network, "cpu", 3, noise) > 0


def test_published_autoencoders_are_timed_as_they_will_run(paper, monkeypatch):
    seen = []
    monkeypatch.setattr(forecast, "_seconds", lambda work: seen.append(work()) or 6.0)
    monkeypatch.setattr(tiny_networks.autoencoder_model, "__defaults__", (tiny_networks.NARROW_AUTOENCODER,))
    monkeypatch.setattr(data, "load", lambda name: SimpleNamespace(shape=(3, 32, 32)))
    timings = Timings(paper, "cpu")
    assert timings.decoding(paper.latents["laion"]) == timings.decoding(paper.latents["celebahq"])
    assert timings.decoding(paper.latents["laion"]) == Timing(6.0, 32) and len(seen) == 1
    assert seen[0].shape == (32, 3, 32, 32)


def test_what_is_timed_needs_no_archive(paper, bare, monkeypatch):
    """Noise stands for the data, whose archives are not there: a true step on the shape of CIFAR-10."""
    monkeypatch.setattr(forecast, "SECONDS", 0.0)
    own = paper.experiments["fmm-cifar10"]
    network = own.training.network.model_copy(update={"channels": [16, 32], "attention": [False, True]})
    network = network.model_copy(update={"layers": 1, "groups": 4})
    training = own.training.model_copy(update={"network": network})
    small = own.model_copy(update={"training": training.model_copy(update={"batch": 2})})
    timings = Timings(paper, "cpu")
    first = timings.step(small, own.methods["lmd"])
    assert first.batch == 2 and first.seconds > 0
    monkeypatch.setattr(forecast, "step", lambda *arguments: pytest.fail("it is known"))
    assert timings.step(small, own.methods["lmd"].model_copy(update={"label": "another"})) is first


# The command


def test_preflight_lists_what_is_missing_and_fails(bare):
    source = str(Path(preflight.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "fewstep", "preflight"],
        cwd=bare,
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout.count("\nmissing: ") >= 5 and "measuring" not in done.stdout
    assert "\n`fewstep fetch` says which of these have a public address" in done.stdout
    assert (
        done.stderr.count("\n") == 1
        and "tier paper cannot run here as it is: " in done.stderr
        and "listed above" in done.stderr
    )


def test_the_table_shows_hours_problems_and_the_total(smoke, root, monkeypatch, capsys):
    monkeypatch.chdir(root)

    class Ready(Fake):
        def __init__(self, *settings):
            super().__init__()

        def step(self, experiment, method) -> Timing:
            if method.label == "MeanFlow":
                raise UnfitError("a step of MeanFlow at batch 16 does not fit")
            return Timing(3600.0, 10, 5 * 10**9)

    monkeypatch.setattr(preflight, "Timings", Ready)
    with pytest.raises(
        preflight.PreflightError, match="tier smoke cannot run here as it is: 1 thing missing, listed above"
    ):
        preflight.preflight(root, "smoke", smoke)
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    row = lines["teacher@smoke-fmm-cifar10"]
    assert "20 steps of 16, 1 x 1 trainings " in row and " 20.00 " in row and "5.0 GB" in row
    name = "students-selfdistill@smoke-selfdistill-cifar10"
    assert "a step of MeanFlow at batch 16 does not fit" in lines[name] and "all of these" in out


def test_the_check_says_what_is_missing_and_goes_on(bare, root, smoke, monkeypatch, capsys):
    from fewstep import cli
    from fewstep.training import processes

    monkeypatch.setattr(processes, "require_cuda", lambda count: None)
    shutil.copy(root / "data.dvc", bare)
    shutil.copytree(root / "data", bare / "data")
    cli._check(bare, SimpleNamespace(tier="paper", settings=None))
    assert capsys.readouterr().out.count("missing: ") == 11
    cli._check(bare, SimpleNamespace(tier="smoke", settings=None))
    assert "missing" not in capsys.readouterr().out
