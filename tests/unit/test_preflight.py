"""Looking ahead to a tier: what is missing is said at once, and the forecast counts what was measured."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from math import prod
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import pytest
import torch

from fewstep import data, networks
from fewstep.data import celeba64, laion
from fewstep.data.formats import archives
from fewstep.data.formats.pictures import Pictures
from fewstep.evaluation import sample
from fewstep.metrics.features import INCEPTION
from fewstep.networks.discriminator import Discriminator
from fewstep.networks.text_discriminator import TextDiscriminator
from fewstep.pipeline import stages
from fewstep.rehearsal import disk, forecast, preflight, timing, tiny_archives, tiny_captioned, tiny_networks
from fewstep.rehearsal.forecast import ADAPTIVE_CALLS
from fewstep.rehearsal.timing import Noise, Timing, Timings, UnfitError
from fewstep.settings import tiers
from fewstep.storage import stand_in
from fewstep.storage.checkpoint import save_checkpoint
from fewstep.training import published_weights

PAPER = ("cifar10", "imagenet32", "celeba64", "afhq64")
ENCODE, DECODE, CAPTION, PICTURE = 0.03, 0.07, 0.001, 0.005
CONDITIONAL = ("scflow-coco2017", "scflow-coco2014")


@pytest.fixture(scope="module")
def paper(root) -> tiers.Tier:
    return tiers.load(root / "params.yaml", "paper")


@pytest.fixture
def bare(root, tmp_path, monkeypatch) -> Path:
    """A root with settings and no data."""
    for name in ("params.yaml", "dvc.yaml", stages.PAPER_ONLY):
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

    def features(self, shape, extractor) -> Timing:
        return Timing(0.16, 16)

    def distance(self, dimension) -> Timing:
        return Timing(2.0, 1)

    def pairs(self, dimension) -> Timing:
        return Timing(1e-6, 1000)

    def autoencoder(self, way, latents) -> Timing:
        return Timing({"encode": 10 * ENCODE, "decode": 10 * DECODE}[way], 10, 3 * 10**9)

    def clip(self, way, latents) -> Timing:
        return Timing({"text": CAPTION, "image_features": PICTURE}[way], 1)


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
        assert [row.stage for row in found] == [stage.name for stage in plan]
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
    assert preflight.missing_files(smoke, checksums=True) == [] == preflight.missing_device(smoke)


def test_a_rehearsals_archives_are_missing_ones_and_published_ones_are_held_against_their_checksums(
    bare, paper, monkeypatch
):
    tiny_archives.write(bare / "paper" / "data")
    tiny_captioned.laion(bare / "paper" / "data" / "laion")
    tiny_captioned.coco(bare / "paper" / "data" / "coco")
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
    needs = {"samples": 70 * 10**9, "decoded images": 30 * 10**9}
    monkeypatch.setattr(preflight.shutil, "disk_usage", lambda place: SimpleNamespace(free=99 * 10**9))
    (sentence,) = preflight.missing_space(bare, "paper", needs)
    assert f"{bare} has 99 GB free, and tier paper writes about 100 GB there: make room" in sentence
    monkeypatch.setattr(
        preflight, "_size", lambda folder: 2 * 10**9 if folder == bare / "artifacts" / "paper" else 0
    )
    assert preflight.missing_space(bare, "paper", needs) == [], "what is written already is not written again"


def test_archives_on_another_disk_have_space_of_their_own(bare, monkeypatch):
    elsewhere = bare / "big"
    elsewhere.mkdir()
    monkeypatch.setenv(archives.ENVIRONMENT, str(elsewhere))
    monkeypatch.setattr(preflight, "_disk", lambda place: int(place == elsewhere))
    monkeypatch.setattr(
        preflight.shutil,
        "disk_usage",
        lambda place: SimpleNamespace(free=(10 if place == elsewhere else 80) * 10**9),
    )
    (sentence,) = preflight.missing_space(
        bare, "paper", {"samples": 70 * 10**9, "decoded images": 30 * 10**9}
    )
    assert sentence.startswith(f"{elsewhere} has 10 GB free, and tier paper writes about 30 GB there")


# How much is written


def test_networks_are_counted_as_they_are_built(smoke, paper):
    for tier, name in ((smoke, "fmm-checkerboard"), (smoke, "fmm-cifar10")):
        experiment = tier.experiments[name]
        built = networks.build(
            experiment.training.network.model_dump(), data.load(experiment.training.data).shape
        )
        assert disk.weights(experiment, experiment.methods["si"], tier.shape(experiment)) == sum(
            p.numel() for p in built.parameters()
        )
    large = [
        paper.experiments[name] for name in ("selfdistill-cifar10", "selfdistill-celeba64", "scflow-celebahq")
    ]
    sizes = [
        disk.weights(experiment, experiment.methods["lsd"], paper.shape(experiment)) for experiment in large
    ]
    assert [round(size / 1e6, 1) for size in sizes] == [55.0, 121.4, 154.4]
    assert paper.shape(large[2]) == (4, 32, 32) and smoke.shape(smoke.experiments["scflow-celebahq"]) == (
        4,
        8,
        8,
    )
    built = Discriminator((4, 32, 32), [512] * 4)
    assert disk.discriminator_weights(large[2], large[2].methods["scflow"], (4, 32, 32)) == sum(
        p.numel() for p in built.parameters()
    )
    assert disk.discriminator_weights(large[2], large[2].methods["lsd"], (4, 32, 32)) == 0


def test_the_discriminator_of_texts_is_counted_as_it_is_built(smoke, paper):
    own = smoke.experiments[CONDITIONAL[0]]
    shape, method = smoke.shape(own), own.methods["scflow"]
    built = TextDiscriminator(
        networks.build(own.training.network.model_dump(), shape).network,
        method.self_correction.adversarial.head,
    )
    assert (
        disk.discriminator_weights(own, method, shape) == sum(p.numel() for p in built.parameters())
        and disk.discriminator_weights(own, own.methods["si"], shape) == 0
    )
    large = paper.experiments[CONDITIONAL[0]]
    numbers, critic = (
        count(large, large.methods["scflow"], (4, 64, 64))
        for count in (disk.weights, disk.discriminator_weights)
    )
    assert (round(numbers / 1e6, 1), round(critic / 1e6, 1)) == (861.6, 352.3)
    # student, average, target and Adam's two; then the teacher and what is added in a step
    assert disk.stored(large, large.methods["scflow"], (4, 64, 64)) == 4 * (5 * numbers + 3 * critic)
    assert disk.held(large, large.methods["scflow"], (4, 64, 64)) == 4 * (7 * numbers + 4 * critic)
    # what is taught nothing has no teacher
    assert disk.held(large, large.methods["si"], (4, 64, 64)) == 4 * 5 * numbers


def test_the_disk_space_of_a_tier_is_counted_by_kind(smoke, root, monkeypatch):
    monkeypatch.chdir(root)
    names = ("selfdistill-cifar10",)
    kept = {
        "experiments": {name: smoke.experiments[name] for name in names},
        "features": {"cifar10": smoke.features["cifar10"]},
        "latents": {},
    }
    tier = smoke.model_copy(update=kept)
    experiment = tier.experiments["selfdistill-cifar10"]
    numbers = disk.weights(experiment, experiment.methods["lsd"], tier.shape(experiment))
    found = disk.needs(tier)
    assert found["trained networks"] == 5 * (4 * numbers + 8 * 20) and found["states of trainings"] == 5 * (
        4 * 4 * numbers + 8 * 20
    )
    draws = len(sample.plan(experiment))
    assert draws == 5 * 5 * 2 and found["samples"] == draws * 200 * prod(data.load("digits").shape)
    assert (
        found["features of samples, while measured"] == 4 * draws * 200 * 64
        and found["features of the data"] == 4 * 1797 * 64
    )
    assert (
        found["decoded images"] == 0
        and found["DVC's copies"]
        == found["trained networks"] + found["samples"] + found["features of the data"]
    )


def test_the_paper_tier_counts_what_is_decoded_and_what_is_drawn_as_points(paper):
    found = disk.needs(paper)
    assert found["decoded images"] == 3 * (
        1024 * (50_000 + 1_281_167) + 4096 * (202_599 + 15_803) + 256**2 * 27_000
    )
    # mean and deviation of every image and, where there are no captions, its mirror image
    assert found["latents"] == 27_000 * 2 * 2 * 4 * 32 * 32 * 4 + 2_000_000 * 2 * 4 * 64 * 64 * 4
    assert found["captions"] == 2_000_001 * 77 * (768 * 4 + 1)
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
    prompts = (5_000 + 30_000) * 77 * (768 * 4 + 1)
    assert found["samples"] == points + images + prompts
    one = paper.model_copy(update={"experiments": {"fmm-cifar10": paper.experiments["fmm-cifar10"]}})
    numbers, methods = 38_635_395, paper.experiments["fmm-cifar10"].methods
    assert disk.needs(one)["states of trainings"] == sum(
        (4 * (5 if name == "pfmm" else 4)) * numbers + 8 * m.steps for name, m in methods.items()
    )


def test_what_is_taken_or_was_trained_elsewhere_writes_no_state(paper):
    both = captioned(paper)
    found, numbers = disk.needs(both), 861_568_964
    assert found["trained networks"] == 3 * 4 * numbers + 8 * 18_000, (
        "the files that are taken are written again, one for each seed"
    )
    scflow = both.experiments[CONDITIONAL[0]]
    assert (
        found["states of trainings"]
        == disk.stored(scflow, scflow.methods["scflow"], (4, 64, 64)) + 8 * 18_000
    )
    assert found["DVC's copies"] == sum(
        found[what] for what in ("latents", "captions", "trained networks", "samples", "features of the data")
    )


def test_latents_are_counted_as_many_as_are_asked_for(smoke, root, monkeypatch):
    monkeypatch.chdir(root)
    assert [disk.encoded(own) for own in smoke.latents.values()] == [512, 512]
    few = smoke.model_copy(
        update={
            "experiments": {},
            "features": {},
            "latents": {"laion": smoke.latents["laion"].model_copy(update={"count": 10})},
        }
    )
    tokens, width = 48, 16
    found = disk.needs(few)
    assert found["latents"] == 4 * 10 * 2 * prod(few.latents["laion"].shape) and found[
        "captions"
    ] == 11 * tokens * (4 * width + 1)
    mirrored = smoke.model_copy(
        update={"experiments": {}, "features": {}, "latents": {"celebahq": smoke.latents["celebahq"]}}
    )
    assert (
        disk.needs(mirrored)["latents"] == 4 * 512 * 2 * 2 * prod(mirrored.latents["celebahq"].shape)
        and disk.needs(mirrored)["captions"] == 0
    )
    many = smoke.latents["celebahq"].model_copy(update={"count": 10**9})
    assert disk.encoded(many) == disk.images("faces")


def test_captioned_pictures_are_never_decoded_to_disk(paper):
    assert (
        get_type_hints(laion.pixels)["return"] is Pictures
        and data.offers("laion", "check")
        and not disk.is_decoded("laion")
    )
    assert disk.is_decoded("celebahq") and not disk.is_decoded("faces")


# How long it takes


def test_a_forecast_has_a_row_for_every_stage_and_is_steps_times_seconds(paper, rows):
    found = rows(paper, Fake(batch=512))
    assert found["teacher@fmm-cifar10"].seconds == pytest.approx(400_000 * 0.1)
    assert found["teacher@fmm-cifar10"].basis == "measured at batch 512"
    assert found["students@fmm-cifar10"].seconds == pytest.approx(4 * 400_000 * 0.1)
    assert found["students@fmm-cifar10"].work == "1,600,000 steps of 512, 4 x 1 trainings"
    assert found["students@selfdistill-afhq64"].seconds == pytest.approx(5 * 800_000 * 0.1 / 2)
    assert "in proportion from batch 512" in found["students@selfdistill-afhq64"].basis
    assert found["teacher@fmm-checkerboard"].seconds == pytest.approx(250_000 * 0.1 * 3 * 100_000 / 512)
    assert found["tour"].seconds == pytest.approx(2 * 5000 * 0.1 * 8192 / 512)
    assert {
        found[name].seconds
        for name in ("check", "figures", "speed@fmm-cifar10", "figures-images@fmm-cifar10", "publish")
    } == {None}
    assert found["prepare@imagenet32"].seconds == pytest.approx(50_000 * 0.01)
    assert found["prepare@celeba64"].seconds == pytest.approx(202_599 * 0.01)


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


def test_encoding_and_reconstructing_are_counted_and_weights_that_are_taken_are_not(paper, rows):
    found = rows(paper, Fake(batch=20))
    both = ENCODE + DECODE
    row = found["prepare-captions@laion"]
    assert row.work == (
        "features of 5,000 images, features of 30,000 images, 2,000,000 images and their captions encoded"
    )
    encoding = 2_000_000 * (ENCODE + CAPTION)
    assert row.seconds == pytest.approx(35_000 * 0.01 + 256 * both + encoding)
    # pictures without captions have none to read
    row = rows(paper, Uncaptioned(batch=20))["prepare-latents@celebahq"]
    assert row.work.endswith(", 27,000 images and their mirror images encoded")
    assert row.seconds == pytest.approx(27_000 * 0.01 + 256 * both + 27_000 * 2 * ENCODE)
    row = found["teacher-captions@scflow-coco2017"]
    assert (row.work, row.seconds) == ("weights are taken from files", None)
    assert row.basis == "instaflow/2_rectified_flow.safetensors"
    row = found["students-captions@scflow-coco2017"]
    assert row.work == "18,000 steps of 40, 1 x 1 trainings"
    assert row.seconds == pytest.approx(18_000 * 0.1 * 40 / 20)
    named = {stage for stage in found if stage.endswith("scflow-coco2014")}
    assert {stage.partition("-")[0] for stage in named} == {"sample", "measure", "figures"}, (
        "it trains nothing"
    )


class Uncaptioned(Fake):
    def clip(self, way, latents) -> Timing:
        return timing.NOTHING


def test_small_networks_that_are_trained_here_take_minutes(smoke, root, rows, monkeypatch):
    monkeypatch.chdir(root)
    timings, submitted = recorded(smoke, monkeypatch, quick=True)
    found = rows(smoke, timings, "smoke")
    assert not [what for what, _ in submitted if "autoencoder" in what or "CLIP" in what]
    assert "encoded" not in found["prepare-captions@laion"].work + found["prepare-latents@celebahq"].work
    assert "decoded" not in found["sample-captions@scflow-coco2017"].work


def test_metrics_of_texts_are_clip_scores_too_and_noise_is_decoded(paper, rows):
    row = rows(captioned(paper), Fake())["measure-captions@scflow-coco2017"]
    draws, looked_at = 57, PICTURE + CAPTION
    one = 5_000 * 0.01 + 2.0 + 15_000 * 5_000 * 1e-9 + 5_000 * looked_at
    once = 5_000**2 * 1e-9
    # no part of the data has more images than features, but of 2048 its half
    checks = 5_000 * (0.01 + DECODE) + 4 * 2.0 + 2 * 1_000 * looked_at
    assert row.seconds == pytest.approx(draws * one + once + checks)


def test_metrics_are_features_distances_and_pairs(paper, rows):
    found = rows(paper, Fake())
    draws, pairs = 5 * 5 * 3, (50_000 + 2 * 202_599) * 50_000
    one = 50_000 * 0.01 + 2.0 + pairs * 1e-9
    once = 202_599**2 * 1e-9
    checks = 202_599 * 0.01 + (4 + 3 * 3) * 2.0
    assert found["measure@selfdistill-celeba64"].seconds == pytest.approx(draws * one + once + checks)
    assert found["measure@fmm-checkerboard"].seconds is None, "points are measured in minutes"


def test_workers_share_the_trainings_and_processes_the_batch(smoke, paper, rows):
    tiers = [
        smoke.model_copy(update={"compute": smoke.compute.model_copy(update={"workers": workers})})
        for workers in (1, 2)
    ]
    one, two = ({name: row.seconds for name, row in rows(t, Fake(), "smoke").items()} for t in tiers)
    assert two["teacher@fmm-checkerboard"] == one["teacher@fmm-checkerboard"] / 2
    assert two["students@fmm-cifar10"] == one["students@fmm-cifar10"] / 2
    assert two["teacher@fmm-cifar10"] == one["teacher@fmm-cifar10"], "one training is not shared"
    assert two["sample@fmm-cifar10"] == one["sample@fmm-cifar10"] / 2
    four = paper.model_copy(update={"compute": paper.compute.model_copy(update={"processes": 4})})
    own = copy.deepcopy(paper.experiments["fmm-cifar10"])
    own = own.model_copy(update={"training": own.training.model_copy(update={"processes": 2})})
    mixed = four.model_copy(update={"experiments": four.experiments | {"fmm-cifar10": own}})
    alone, shared, both = (
        {name: row.seconds for name, row in rows(t, Fake()).items()} for t in (paper, four, mixed)
    )
    assert shared["students@fmm-cifar10"] == alone["students@fmm-cifar10"] / 4
    assert both["students@fmm-cifar10"] == alone["students@fmm-cifar10"] / 2, "one experiment's own"
    assert (
        both["students-selfdistill@selfdistill-cifar10"] == shared["students-selfdistill@selfdistill-cifar10"]
    )


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
    assert (row.work, row.seconds, row.problem) == ("not measured", None, "a step of LSD does not fit")
    assert [name for name, own in found.items() if own.problem] == ["students@selfdistill-celeba64"]


def test_memory_that_ends_is_said_with_what_was_tried_and_the_cure(paper, monkeypatch):
    def full(*arguments):
        raise torch.OutOfMemoryError("CUDA out of memory")

    for name in ("empty_cache", "reset_peak_memory_stats"):
        monkeypatch.setattr(torch.cuda, name, lambda: None)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: 7)
    monkeypatch.setattr(timing, "_seconds", lambda work: 1.0)
    monkeypatch.setattr(timing, "step", full)
    monkeypatch.setattr(timing, "call", full)
    timings = Timings(paper, "cuda", quick=False)
    own = paper.experiments["selfdistill-celeba64"]
    problem = "^a step of LSD on celeba64, batch 256, does not fit into .* cuda: lower training.batch, or"
    with pytest.raises(UnfitError, match=problem):
        timings.step(own, own.methods["lsd"])
    with pytest.raises(UnfitError, match="^a network call on celeba64, batch 1000, .*: free some, or take"):
        timings.call(own, own.methods["lsd"])
    assert timings.pairs(8) == Timing(1.0, 4_000_000, 7), "what fits says how much it holds"


@pytest.mark.parametrize(
    "device, free, refused", [("cpu", 29 * 10**9, True), ("cpu", 31 * 10**9, False), ("cuda", 0, False)]
)
def test_a_step_is_only_begun_where_a_cpu_can_hold_it(paper, device, free, refused, monkeypatch):
    monkeypatch.setattr(timing.psutil, "virtual_memory", lambda: SimpleNamespace(available=free))
    timings, submitted = recorded(paper, monkeypatch, quick=True, device=device)
    experiment = paper.experiments[CONDITIONAL[0]]
    if refused:
        with pytest.raises(UnfitError, match="it takes 30 GB of memory and more, and 29 GB are free here"):
            timings.step(experiment, experiment.methods["scflow"])
        assert submitted == []
    timings.call(experiment, experiment.methods["scflow"])
    assert refused or timings.step(experiment, experiment.methods["scflow"]).batch == 2


def recorded(
    tier: tiers.Tier, monkeypatch, quick: bool, device: str = "cpu"
) -> tuple[Timings, list[tuple[str, int]]]:
    """`Timings` that only write down what would be measured, in words, and at which batch."""
    submitted: list[tuple[str, int]] = []
    timings = Timings(tier, device, quick)
    known: dict[str, Timing] = {}

    def once(what, key, batch, measure, cure="") -> Timing:
        mark = json.dumps([key, batch], default=str)
        if mark not in known:
            submitted.append((what, batch))
            known[mark] = Timing(0.1, batch)
        return known[mark]

    monkeypatch.setattr(timings, "_once", once)
    return timings, submitted


def test_each_of_several_processes_is_timed_on_its_share(paper, monkeypatch):
    four = paper.model_copy(update={"compute": paper.compute.model_copy(update={"processes": 4})})
    own = four.experiments["fmm-cifar10"]
    for tier, batch in ((paper, 512), (four, 128)):
        timings, _ = recorded(tier, monkeypatch, quick=False, device="cuda")
        assert timings.step(own, own.methods["lmd"]).batch == batch


def test_equal_work_is_measured_once_and_quick_batches_leave_no_term_out(paper, rows, monkeypatch):
    monkeypatch.setattr(timing.psutil, "virtual_memory", lambda: SimpleNamespace(available=10**12))
    timings, submitted = recorded(paper, monkeypatch, quick=True)
    found = rows(paper, timings)
    steps = [re.fullmatch(r"a step of (.+) on (\w+), batch (\d+)", what) for what, _ in submitted]
    steps = [(found[2], found[1], int(found[3])) for found in steps if found]
    batches = {label: batch for set_, label, batch in steps if set_ == "cifar10"}
    assert batches == {
        "SI": 2, "LMD": 2, "EMD": 2, "PFMM": 2, "FMM": 2, "LSD": 6, "ESD": 3, "PSD-M": 6, "PSD-U": 6,
        "MeanFlow": 3,
    }  # fmt: skip
    # ImageNet's networks are CIFAR-10's, and AFHQ's are CelebA's
    assert {set_ for set_, _, _ in steps} == {"checkerboard", "cifar10", "celeba64", "latents"}
    assert {batch for set_, _, batch in steps if set_ == "checkerboard"} == {1000}
    assert [batch for set_, label, batch in steps if (set_, label) == ("latents", "SCFlow")] == [2, 2]
    row = found["teacher@fmm-imagenet32"]
    assert row.basis == "in proportion from batch 2" and row.seconds == pytest.approx(400_000 * 0.1 * 256)
    assert found["students-selfdistill@selfdistill-cifar10"].basis == "in proportion from batch 3, 6"

    def batches_of(part: str) -> list[int]:
        return [batch for what, batch in submitted if part in what]

    # features of images of five shapes: no picture is of 512 x 512 pixels but LAION's
    assert len(batches_of("features by")) == 4
    assert sorted(batches_of("a network call")) == [1, 4, 4, 4, 4, 500]
    assert batches_of("an autoencoder (encode)") == batches_of("an autoencoder (decode)") == [1, 1]
    assert len(batches_of("a CLIP of the published size (text)")) == 1
    full, submitted = recorded(paper, monkeypatch, quick=False, device="cuda")
    assert rows(paper, full)["students@selfdistill-afhq64"].basis == "measured at batch 256"
    assert sorted(batches_of("a network call")) == [64, 500, 1000, 1000, 1000, 1000]
    assert batches_of("an autoencoder (encode)") == [16, 4]


def test_a_step_is_timed_by_the_training_loop_and_leaves_nothing(smoke, root, monkeypatch):
    monkeypatch.chdir(root)
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    experiment = smoke.experiments["fmm-checkerboard"]
    method = experiment.methods["lmd"].model_copy(update={"steps": 10**6})
    assert 1e-4 < timing.step(experiment.training, method, "cpu", 64, Noise((2,))) < 0.5
    with pytest.raises(ValueError, match="2 steps are over before they can be timed"):
        timing.step(experiment.training, method.model_copy(update={"steps": 2}), "cpu", 64, Noise((2,)))
    assert 0 < timing.call(experiment.training.network, "cpu", 500, Noise((2,))) < 0.5


@pytest.mark.parametrize("name", ["si", "instaflow", "scflow"])
def test_a_step_on_captions_is_timed_without_latents_or_a_clip(smoke, name, monkeypatch):
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    experiment, asked = smoke.experiments[CONDITIONAL[0]], []
    true = timing.Noise.sample_with_conditions

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

    monkeypatch.setattr(timing.Noise, "sample_with_conditions", sample_with_conditions)
    shape, captions = smoke.shape(experiment), disk.captions(smoke, experiment)
    noise = Noise(shape, captions)
    method = experiment.methods[name].model_copy(update={"steps": 10**6})
    assert 1e-3 < timing.step(experiment.training, method, "cpu", 4, noise) < 5
    assert set(asked) == {((4, *shape), (4, *captions), True, (1, *captions))}
    network = method.network or experiment.training.network
    assert captions == (48, 16) and timing.call(network, "cpu", 3, noise) > 0


def test_autoencoders_clips_and_metrics_are_timed_as_they_will_run(paper, monkeypatch):
    assert tiny_networks.autoencoder_model.__defaults__ == ((128, 256, 512, 512),), (
        "Stable Diffusion's is what is timed"
    )
    seen = []

    def seconds(work):
        seen.append(work())
        return 6.0

    monkeypatch.setattr(timing, "_seconds", seconds)
    monkeypatch.setattr(tiny_networks.autoencoder_model, "__defaults__", (tiny_networks.NARROW_AUTOENCODER,))
    monkeypatch.setattr(timing, "PICTURES", 2)
    small = {"hidden_size": 64, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    sizes = {"text": small, "vision": small | {"image_size": 64, "patch_size": 32}, "projection": 8}
    monkeypatch.setattr(tiny_networks, "LARGE", sizes)
    monkeypatch.setattr(data, "load", lambda name: SimpleNamespace(shape=(3, 32, 32)))
    timings, latents = Timings(paper, "cpu", quick=True), paper.latents["laion"]
    assert timings.autoencoder("encode", latents) == timings.autoencoder("decode", latents) == Timing(6.0, 1)
    assert seen[0][0].shape == (1, 4, 4, 4) and seen[1].shape == (1, 3, 32, 32)
    assert timings.clip("text", latents) == timings.clip("image_features", latents) == Timing(6.0, 2)
    assert seen[2].hidden.shape == (2, 77, 64) and seen[3].shape == (2, 8)
    assert timings.features((1, 8, 8), "classifier") == Timing(6.0, 2) and len(seen[4].values) == 2
    assert timings.distance(8) == Timing(6.0, 1) and seen[5] > 0
    assert timings.pairs(8) == Timing(6.0, 2000**2) and len(seen) == 7
    assert timings.pairs(8).each == 6.0 / 2000**2


def test_what_is_timed_needs_no_archive(paper, bare, monkeypatch):
    """Noise stands for the data, whose archives are not there: a true step on the shape of CIFAR-10."""
    monkeypatch.setattr(timing, "SECONDS", 0.0)
    own = paper.experiments["fmm-cifar10"]
    network = own.training.network.model_copy(update={"channels": [16, 32], "attention": [False, True]})
    network = network.model_copy(update={"layers": 1, "groups": 4})
    training = own.training.model_copy(update={"network": network})
    small = own.model_copy(update={"training": training})
    timings = Timings(paper, "cpu", quick=True)
    first = timings.step(small, own.methods["lmd"])
    assert first.batch == 2 and first.seconds > 0
    monkeypatch.setattr(timing, "step", lambda *arguments: pytest.fail("it is known"))
    assert timings.step(small, own.methods["lmd"].model_copy(update={"label": "another"})) is first


# The command


def test_preflight_lists_what_is_missing_and_fails(bare):
    source = str(Path(preflight.__file__).parents[2])
    done = subprocess.run(
        [sys.executable, "-m", "fewstep", "preflight", "--no-times"],
        cwd=bare,
        env=os.environ | {"PYTHONPATH": source},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1 and done.stdout.count("\nmissing: ") >= 5 and "measuring" not in done.stdout
    assert (
        done.stderr.count("\n") == 1
        and "tier paper cannot run here as it is: " in done.stderr
        and "listed above" in done.stderr
    )


def test_the_table_shows_hours_bases_problems_and_the_total(smoke, root, monkeypatch, capsys):
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
        preflight.preflight(root, "smoke", smoke, quick=False, times=True)
    out = capsys.readouterr().out
    lines = {line.split()[0]: line for line in out.splitlines() if line}
    row = lines["teacher@smoke-fmm-cifar10"]
    assert "20 steps of 16, 1 x 1 trainings " in row and " 32.00 " in row and "5.0 GB" in row
    name = "students-selfdistill@smoke-selfdistill-cifar10"
    assert "a step of MeanFlow at batch 16 does not fit" in lines[name] and "all stages" in out
    assert f"missing: {name}: a step of MeanFlow at batch 16 does not fit" in out


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
