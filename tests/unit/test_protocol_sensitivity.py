"""The table protocol-sensitivity: each choice on made samples with known answers, tables and sentences."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from fewstep import networks
from fewstep.evaluation import findings, protocol_effects, protocol_sensitivity, sample, tables
from fewstep.evaluation.measures import FID, JPEG
from fewstep.evaluation.plots.effects import effects_picture
from fewstep.metrics.features import Extractor
from fewstep.metrics.frechet import frechet, moments
from fewstep.metrics.protocol import ImageProtocol, parse
from fewstep.storage.checkpoint import load_checkpoint, save_checkpoint
from fewstep.training import job as run
from fewstep.training import train
from fewstep.training.experiment import Experiment
from fewstep.training.weights import without_ema_file

ps, pe = protocol_sensitivity, protocol_effects
NAME = "fmm-cifar10"


class Corner(nn.Module):
    """Four features: the first pixels of the first channel."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return images[:, 0, :2, :2].flatten(1)


class Quarters(nn.Module):
    """Four features: the means of the quarters of an image."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images[:, :1], 2).flatten(1)


def corner(images: np.ndarray) -> np.ndarray:
    return images[:, 0, :2, :2].reshape(len(images), -1).astype(float)


@pytest.fixture
def settings(smoke):
    """Two sampling seeds of 200 images of the digits' shape."""
    return smoke.experiment(NAME)


@pytest.fixture
def references():
    generator = np.random.default_rng(5)
    values = [generator.normal(8, 3 + k, (100, 4)) for k in range(3)]
    return ps.Against(Extractor("corner", Corner()), "cpu", *(moments(v) for v in values))


@pytest.fixture
def drawn(settings, tmp_path):
    """The draws of LMD in one step of its first training, each with other images."""
    generator = np.random.default_rng(4)
    draws = [d for d in sample.plan(settings) if (d.method, d.steps, d.train_seed) == ("lmd", 1, 0)]
    for draw in draws:
        np.save(tmp_path / draw.name, generator.integers(0, 17, (200, 1, 8, 8), dtype=np.uint8))
    return draws


def measured(*arguments) -> pd.Series:
    return pd.DataFrame(ps._measure(*arguments)).set_index(["metric", "sample_seed"]).value


def test_each_choice_measures_what_it_says(settings, references, drawn, tmp_path):
    found = measured(settings, drawn, tmp_path, None, None, references)
    every = [corner(np.load(tmp_path / draw.name)) for draw in drawn]
    assert [draw.sample_seed for draw in drawn] == [0, 1]
    for seed, values in enumerate(every):
        own = frechet(moments(values), references.own)
        half = (
            frechet(moments(values[:100]), references.own) + frechet(moments(values[100:]), references.own)
        ) / 2
        assert found[ps.HALF_REFERENCE, seed] == frechet(moments(values), references.half)
        assert found[ps.OTHER_REFERENCE, seed] == frechet(moments(values), references.other)
        assert found[ps.PNG, seed] == own and found[ps.HALF_SAMPLES, seed] == half
        assert found[ps.EXTRAPOLATED, seed] == 2 * own - half
    assert found[ps.POOLED, ps.ALL] == frechet(moments(np.concatenate(every)), references.own)
    names = {ps.HALF_REFERENCE, ps.OTHER_REFERENCE, ps.PNG, ps.HALF_SAMPLES, ps.EXTRAPOLATED, ps.POOLED}
    assert set(found.index.get_level_values(0)) == names, "nothing is resized, and there are no other weights"


def test_a_png_file_that_lost_something_would_be_measured(settings, references, drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(ps, "as_png", lambda images: images // 2)
    found = measured(settings, drawn, tmp_path, None, None, references)
    values = corner(np.load(tmp_path / drawn[0].name) // 2)
    assert found[ps.PNG, 0] == frechet(moments(values), references.own)


def test_where_images_are_resized_the_samples_are_resized_otherwise(settings, references, drawn, tmp_path):
    def doubled(image):
        return image.repeat(2, 0).repeat(2, 1).astype(np.float32)

    own = replace(references, extractor=Extractor("quarters", Quarters(), "doubled", doubled))
    found = measured(settings, drawn[:1], tmp_path, None, None, own)
    images = np.load(tmp_path / drawn[0].name)
    larger = np.stack([ps.bilinear(image.transpose(1, 2, 0)).transpose(2, 0, 1) for image in images])
    assert larger.shape[2:] == (ps.SIDE, ps.SIDE)
    stored = Quarters()(torch.from_numpy(larger)).numpy().astype(float)
    assert found[ps.RESIZED, 0] == pytest.approx(frechet(moments(stored), own.own), rel=1e-6)
    assert found[ps.RESIZED, 0] != pytest.approx(found[ps.PNG, 0], rel=1e-3)


def test_bilinear_resizing_keeps_a_plane():
    """Linear functions stay linear away from the edge, and no level is invented."""
    ramp = np.broadcast_to(np.arange(10, dtype=np.uint8)[:, None, None] * 20, (10, 10, 3))
    found = ps.bilinear(ramp)
    expected = ((np.arange(ps.SIDE) + 0.5) * 10 / ps.SIDE - 0.5).clip(0, 9) * 20
    assert np.allclose(found, expected[:, None, None], atol=1e-3)


def test_other_weights_draw_from_the_same_noise(settings, references, drawn, tmp_path, root, monkeypatch):
    monkeypatch.chdir(root)
    network = settings.training.network.model_dump()
    torch.manual_seed(0)
    built = networks.build(network, (1, 8, 8)).state_dict()
    weights = {f"weights.{name}": value for name, value in built.items()}
    path = tmp_path / "last.safetensors"
    save_checkpoint(path, weights, {"network": network, "shape": [1, 8, 8], "fingerprint": "x"})
    found = measured(settings, drawn, tmp_path, path, None, references)
    (again := tmp_path / "again").mkdir()
    for draw in drawn:
        sample.draw_one(settings, draw, path, again, "cpu", None)
        values = corner(np.load(again / draw.name))
        assert found[ps.WITHOUT_EMA, draw.sample_seed] == frechet(moments(values), references.own)


def made(*cells: tuple) -> pd.DataFrame:
    return pd.DataFrame(cells, columns=["method", "metric", "train_seed", "sample_seed", "value"])


FIDS = made(
    ("a", FID, 0, 0, 10.0), ("a", FID, 0, 1, 14.0), ("a", FID, 1, 0, 20.0), ("a", FID, 1, 1, 18.0),
    ("b", FID, 0, 0, 30.0), ("b", FID, 0, 1, 33.0), ("b", FID, 1, 0, 30.0), ("b", FID, 1, 1, 30.0),
)  # fmt: skip


def test_changes_are_paired_by_training_and_sampling_seed():
    others = made(
        ("a", JPEG, 0, 0, 11.0), ("a", JPEG, 0, 1, 17.0), ("a", JPEG, 1, 0, 20.0), ("b", JPEG, 0, 1, 30.0),
        ("a", ps.POOLED, 0, ps.ALL, 11.0), ("a", ps.POOLED, 1, ps.ALL, 20.0),
    )  # fmt: skip
    found = ps.changes(pd.concat([FIDS, others]))
    assert found.value.tolist() == [1.0, 3.0, 0.0, -3.0, -1.0, 1.0]
    assert set(found.metric) == {JPEG + ps.CHANGE, ps.POOLED + ps.CHANGE}


def test_the_best_seed_is_chosen_in_each_training():
    found = ps.best_of_seeds(FIDS).set_index(["method", "train_seed"])
    assert found.value.to_dict() == {("a", 0): 10.0, ("a", 1): 18.0, ("b", 0): 30.0, ("b", 1): 30.0}
    assert set(found.sample_seed) == {ps.ALL} and set(found.metric) == {ps.BEST_SEED}
    change = ps.changes(pd.concat([FIDS, ps.best_of_seeds(FIDS)]))
    assert change.value.tolist() == [-2.0, -1.0, -1.5, 0.0]


def test_the_best_setting_is_that_of_the_lowest_mean_and_only_of_the_method_itself(smoke):
    own = smoke.experiment("scflow-celebahq")
    rows = made(
        ("scflow", FID, 0, 0, 10.0), ("scflow", FID, 0, 1, 12.0), ("shorter", FID, 0, 0, 9.0),
        ("shorter", FID, 0, 1, 20.0), ("later", FID, 0, 0, 10.5), ("later", FID, 0, 1, 11.0),
        ("lmd", FID, 0, 0, 13.0), ("lmd", FID, 0, 1, 15.0), ("adversarial", FID, 0, 0, 1.0),
    )  # fmt: skip
    found = ps.best_of_settings(rows, own, ["scflow", "lmd"])
    values = found[["method", "sample_seed", "value"]].to_numpy().tolist()
    assert values == [["scflow", 0, 10.5], ["scflow", 1, 11.0], ["lmd", 0, 13.0], ["lmd", 1, 15.0]]
    assert set(found.metric) == {ps.BEST_SETTING}


def test_a_random_half_is_half_of_the_rows_and_always_the_same():
    values = np.arange(22.0).reshape(11, 2)
    half = ps.random_half(values)
    assert len(half) == 5 == len(np.unique(half[:, 0])) and np.array_equal(half, ps.random_half(values))
    assert {tuple(row) for row in half} < {tuple(row) for row in values}
    assert not np.array_equal(half, values[:5])


OWN = ImageProtocol("FID", "corner", "all images", 200, "uint8", "none", "sha256 ab", "average", (0, 1))


def test_every_metric_has_a_protocol_of_its_own(settings):
    jpeg = replace(OWN, format="jpeg 75")
    found = ps.protocols({FID: OWN, JPEG: jpeg}, settings, 64)
    assert found[FID] == OWN and found[JPEG] == jpeg and len(found) == 1 + 2 * len(ps.CHOICES)
    assert len(set(map(str, found.values()))) == len(found), "two choices would be one protocol"
    assert all(parse(str(own)) == own for own in found.values())
    assert found[ps.HALF_SAMPLES].samples == 100 and found[ps.POOLED].samples == 400
    assert found[ps.HALF_REFERENCE].split == "a random half of all images"
    assert found[ps.WITHOUT_EMA].weights == "last" and found[ps.PNG].format == "png"
    assert "singular" not in found[ps.HALF_SAMPLES].metric
    assert "no more than the 100 features" in ps.protocols({FID: OWN}, settings, 100)[ps.HALF_SAMPLES].metric
    assert found[JPEG + ps.CHANGE] == replace(
        jpeg, metric="FID, less the FID of the own protocol, paired by seed"
    )


def table(**by_choice: tuple[float, float]) -> pd.DataFrame:
    """A table of FIDs of A and B: `own`, and under the names of CHOICES in this module."""
    row = dict.fromkeys(tables.COLUMNS, "x") | {"nfe": 1, "sd": np.nan}
    own, rows = by_choice.pop("own"), []
    for name, values in {"FID": own, **{getattr(ps, k): v for k, v in by_choice.items()}}.items():
        for method, value, usual in zip("AB", values, own):
            cell = row | {"metric": name, "method": method, "protocol": str(OWN), "sd_sampling": 0.5}
            rows.append(cell | {"value": value})
            if name != "FID":
                rows.append(cell | {"metric": name + ps.CHANGE, "value": value - usual})
    return pd.DataFrame(rows)


def test_effects_are_shown_beside_the_difference_of_the_two_methods():
    effects = pe.effects(table(own=(10.0, 12.0), WITHOUT_EMA=(13.0, 12.5), HALF_REFERENCE=(11.0, 13.0)))
    assert effects.choice.tolist() == [ps.HALF_REFERENCE] * 2 + [ps.WITHOUT_EMA] * 2, "as they are listed"
    shown = pe.shown(effects)
    assert shown.loc[ps.WITHOUT_EMA].tolist() == [
        "13.00", "+3.00 ± 0.50", "12.50", "+0.50 ± 0.50", "-0.50", "1.50", "B",
    ]  # fmt: skip
    assert shown.loc["FID"].tolist() == ["10.00", "", "12.00", "", "+2.00", "", "A"]
    assert shown.lower.tolist() == ["A", "A", "B"]
    assert pe.about(effects).count("\n") == 1
    picture = effects_picture(effects, "made")
    assert picture.numbers == {ps.HALF_REFERENCE: {"A": 1.0, "B": 1.0}, ps.WITHOUT_EMA: {"A": 3.0, "B": 0.5}}
    assert ps.WITHOUT_EMA in picture.alt and picture.png()


@pytest.mark.parametrize(
    "cells, said",
    [
        (
            {"own": (10.0, 12.0), "WITHOUT_EMA": (13.0, 12.5), "HALF_REFERENCE": (11.0, 13.0)},
            "FID moves most by 'FID without EMA' (A): 3, 1.5 times the difference between A and B. A has the "
            "lower FID by the own protocol, and by all of two choices but 'FID without EMA'.",
        ),
        (
            {"own": (12.0, 10.0), "PNG": (12.0, 10.0), "HALF_REFERENCE": (11.0, 9.0)},
            "FID moves most by 'FID, half the reference' (A) and 'FID, half the reference' (B): 1, 0.5 times "
            "the difference between A and B. B has the lower FID by the own protocol, and by each of two "
            "choices.",
        ),
        (
            {"own": (10.0, 12.0), "BEST_SETTING": (12.0, 12.0)},
            "FID moves most by 'FID, best setting' (A): 2, 1 times the difference between A and B. A has the "
            "lower FID by the own protocol, and by none of one choice.",
        ),
        (
            {"own": (10.0, 12.0), "PNG": (10.0, 12.0)},
            "No choice moves FID. A has the lower FID by the own protocol, and by each of one choice.",
        ),
        (
            {"own": (10.0, 10.0), "BEST_SEED": (9.0, 10.0)},
            "FID moves most by 'FID, best sampling seed' (A): 1. A and B have the same FID by the own "
            "protocol.",
        ),
    ],
)  # fmt: skip
def test_the_sentence_names_what_moves_most_and_where_the_ranking_turns(cells, said):
    assert findings.by_protocol(pe.effects(table(**cells))) == said


def test_what_differs_in_a_protocol_is_shown():
    rows = table(own=(1.0, 2.0), PNG=(1.0, 2.0))
    png = rows.metric == ps.PNG
    rows.loc[png, "protocol"] = str(replace(OWN, format="png"))
    shown = pe.protocols_shown(rows)
    assert shown.loc[FID].tolist() == [
        "FID", "corner", "all images", 200, "uint8", "none", "sha256 ab", "average", "0 1",
    ]  # fmt: skip
    assert [text for text in shown.loc[ps.PNG] if text != ""] == ["png"]


def test_the_weights_of_the_last_step_are_kept_beside_the_average(smoke, root, tmp_path, monkeypatch):
    """Of the methods that are asked for alone, and with the log and the fingerprint of their training."""
    monkeypatch.setenv("FEWSTEP_SCRATCH", str(tmp_path))
    monkeypatch.chdir(root)
    experiment = Experiment.open("smoke", "selfdistill-checkerboard")
    own = experiment.settings
    metrics = own.metrics.model_copy(update={"sensitivity": ["lsd", "psd-m"]})
    training = own.training.model_copy(update={"seeds": [0]})
    methods = {name: own.methods[name].model_copy(update={"steps": 70}) for name in ("lsd", "psd-m", "psd-u")}
    changed = {"metrics": metrics, "training": training, "methods": methods}
    compute = experiment.compute.model_copy(update={"workers": 1})
    experiment = replace(experiment, settings=own.model_copy(update=changed), compute=compute)
    files = train.train(experiment, "lsd", "psd-m", "psd-u")
    train.publish_without_ema(experiment)
    for method in ("lsd", "psd-m"):
        kept, info = load_checkpoint(experiment.workspace.read(without_ema_file(experiment, method, 0)))
        average, described = load_checkpoint(files[method][0])
        state, _ = load_checkpoint(run_state(experiment, method))
        assert info == described and set(kept) == set(average)
        weights = [name for name in kept if name.startswith("weights.")]
        assert all(torch.equal(kept[n], state[n.replace("weights.", "student.", 1)]) for n in weights)
        assert all(torch.equal(average[n], state[n.replace("weights.", "ema.", 1)]) for n in weights)
        assert not all(torch.equal(kept[n], average[n]) for n in weights)
    assert not Path(files["psd-u"][0]).with_name("without-ema-seed-0.safetensors").exists()


def run_state(experiment: Experiment, method: str) -> Path:
    found: run.Job = train.job(experiment, method, 0)[0]
    return found.state


def test_an_experiment_that_names_no_two_methods_has_no_such_table(root, monkeypatch):
    monkeypatch.chdir(root)
    with pytest.raises(ValueError, match="fmm-cifar10 has no `metrics.sensitivity` to measure: name two"):
        ps.table(Experiment.open("smoke", NAME), "5-protocol")
