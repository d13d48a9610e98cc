"""Images through the pipeline's later stages: what is drawn, what it is measured in, and what the tables then
say.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from dataclasses import replace
from types import SimpleNamespace
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
import torch

from fewstep import data, networks
from fewstep.data import digits, scenes
from fewstep.data.formats.pictures import Pictures
from fewstep.evaluation import claims, display, measure, measures, provenance, sample, speed, tables
from fewstep.evaluation.metric import Comparison
from fewstep.evaluation.plots.picture import Picture
from fewstep.metrics.features import channel_means, extract
from fewstep.metrics.frechet import frechet, moments
from fewstep.metrics.protocol import parse
from fewstep.networks.classifier import FEATURES
from fewstep.pipeline import report
from fewstep.settings import tiers
from fewstep.settings.base import SettingsError
from fewstep.settings.prepared import Features
from fewstep.storage.checkpoint import CheckpointError, save_checkpoint
from fewstep.storage.workspace import Workspace
from fewstep.training import features as reference

NAME = "fmm-cifar10"
SEEDS = [0, 1]


@pytest.fixture(scope="module")
def settings(smoke) -> tiers.ExperimentSettings:
    return smoke.experiment(NAME)


@pytest.fixture(scope="module")
def bench(root, tmp_path_factory, smoke) -> reference.FeaturePreparation:
    """The features of the digits, prepared in a folder of their own."""
    folder = tmp_path_factory.mktemp("bench")
    for name in ("params.yaml", "dvc.yaml"):
        (folder / name).write_text((root / name).read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FEWSTEP_PIPELINE", "1")
        patch.chdir(root)
        found = reference.FeaturePreparation(
            "cifar10", Workspace(folder, "smoke"), smoke.features["cifar10"], "cpu"
        )
        described = reference.prepare(found)
        assert described["accuracy"] > 0.9 and described["images"] == "all 1797 training images of digits"
    return found


@pytest.fixture(scope="module")
def measured_in(bench, root) -> reference.Reference:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        patch.setenv("FEWSTEP_PIPELINE", "1")
        return reference.load(bench)


def test_each_feature_is_over_its_deviation_on_the_reference(measured_in):
    """So that a Fréchet distance means the same for all data: to a point it is the number of features."""
    assert np.allclose(measured_in.values.std(0), 1) and "over its deviation" in measured_in.extractor.name
    own = extract(images("data", 3), measured_in.extractor).values
    plain = reference.OnLevels(measured_in.extractor.network.classifier, 16)
    raw = extract(images("data", 3), replace(measured_in.extractor, network=plain)).values
    everything = extract(
        np.asarray(data.load("digits").pixels), replace(measured_in.extractor, network=plain)
    )
    assert np.allclose(own, raw / everything.values.std(0), rtol=1e-4)
    points = np.repeat(measured_in.values.mean(0, keepdims=True), len(measured_in.values), 0)
    assert frechet(moments(points), moments(measured_in.values)) == pytest.approx(FEATURES, rel=1e-2)


def test_what_another_entry_has_trained_is_taken_and_is_what_would_be_trained(root, tmp_path, monkeypatch):
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).write_text((root / name).read_text(encoding="utf-8"), encoding="utf-8")
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    monkeypatch.chdir(root)
    monkeypatch.setattr(reference, "PROBE_PICTURES", 64)
    told = {"data": "scenes", "extractor": "classifier", "steps": 2, "reference": 80, "probe_steps": 2}
    made = {}
    for name, own in {
        "first": {"prompts": "coco2017"},
        "own": {"prompts": "coco2014"},
        "taken": {"prompts": "coco2014", "classifier_of": "first"},
    }.items():
        bench = reference.FeaturePreparation(
            name, Workspace(tmp_path, "smoke"), Features(**told, **own), "cpu"
        )
        if own.get("classifier_of"):
            monkeypatch.setattr(reference, "train_classifier", None)
            monkeypatch.setattr(reference, "_train_probe", None)
        described = reference.prepare(bench)
        folder = bench.workspace.read(f"features/{name}/described.json").parent
        made[name] = described, {path.name: path.read_bytes() for path in folder.iterdir()}
        assert reference.load(bench).extractor.name == described["extractor"] and reference.probe_name(
            reference.probe_file(bench)
        )
    assert made["taken"] == made["own"] and made["taken"] != made["first"]


def test_prompts_are_measured_against_the_pictures_that_they_were_written_for():
    found, split = reference._images(
        Features(data="scenes", extractor="classifier", prompts="coco2014", reference=30)
    )
    assert (
        np.array_equal(found, scenes.prompt_set("coco2014", 30).pixels)
        and "first 30 prompts coco2014 of scenes" in split
    )
    assert not np.array_equal(found, scenes.prompt_set("coco2017", 30).pixels)


def test_pictures_that_are_decoded_when_they_are_looked_at_are_measured_as_an_array_is(monkeypatch):
    held, decoded = np.repeat(images("data", 3)[:70], 3, axis=1)[:, :, :8, :8], []

    def decode(row: int) -> np.ndarray:
        decoded.append(row)
        return held[row]

    looked_at = Pictures(decode, np.arange(70), 8)
    means = channel_means()
    assert np.array_equal(extract(looked_at, means).values, extract(held, means).values) and sorted(
        decoded
    ) == list(range(70))
    monkeypatch.setattr(reference, "BLOCK", 32)
    assert (
        reference._checksum(looked_at)
        == reference._checksum(held)
        == hashlib.sha256(held.tobytes()).hexdigest()[:16]
    )


def images(kind: str, seed: int) -> np.ndarray:
    """200 digits, or 200 images of noise."""
    generator = torch.Generator().manual_seed(seed)
    if kind == "data":
        return digits.SOURCE.to_uint8(digits.SOURCE.sample(200, generator)).numpy()
    return torch.randint(0, 17, (200, 1, 8, 8), generator=generator, dtype=torch.uint8).numpy()


@pytest.fixture
def drawn(tmp_path, root, monkeypatch):
    """A folder of samples: the teacher draws digits at its reference steps and noise at two; LMD digits at
    one step.
    """
    monkeypatch.chdir(root)
    rows, steps = [], 4
    for method, n, kind in (("si", steps, "data"), ("si", 2, "noise"), ("lmd", 1, "data")):
        for seed in SEEDS:
            file = f"{method}{n}-{seed}.npy"
            np.save(tmp_path / file, images(kind, 10 * n + seed))
            rows.append(
                dict(
                    method=method,
                    network=method,
                    sampler="euler" if method == "si" else "jumps",
                    steps=n,
                    train_seed=0,
                    sample_seed=seed,
                    nfe=n,
                    count=200,
                    file=file,
                )
            )
    return pd.DataFrame(rows), tmp_path


def evaluate(settings, drawn, measured_in, smoke) -> pd.DataFrame:
    index, folder = drawn
    (folder / "scratch").mkdir(exist_ok=True)
    against = Comparison(settings, data=measured_in)
    return measure.evaluate(index, folder, against, folder / "scratch", smoke.compute)


def test_every_measure_is_what_the_metrics_say_of_the_files(settings, drawn, measured_in, smoke):
    rows = evaluate(settings, drawn, measured_in, smoke)
    assert set(rows.metric) == {"FID", "T-FID", "KID", "precision", "recall"} and len(rows) == 5 * 6
    features = {
        file: extract(np.load(drawn[1] / file), measured_in.extractor).values for file in drawn[0].file
    }
    cell = rows.set_index(["method", "nfe", "sample_seed", "metric"]).value
    for seed in SEEDS:
        fid = frechet(moments(features[f"lmd1-{seed}.npy"]), moments(measured_in.values))
        assert cell["lmd", 1, seed, "FID"] == pytest.approx(fid, rel=1e-4)
        # the teacher's samples from the other noise: from the same one, the teacher would be at zero from
        # itself
        taught = (
            frechet(moments(features["lmd1-0.npy"]), moments(features[f"si4-{1 - seed}.npy"]))
            if seed == 0
            else None
        )
        if taught is not None:
            assert cell["lmd", 1, seed, "T-FID"] == pytest.approx(taught, rel=1e-4)
    assert cell["si", 4, 0, "T-FID"] > 0.1
    assert (
        cell["si", 2, 0, "FID"] > 5 * cell["si", 4, 0, "FID"]
        and cell["si", 2, 0, "precision"] < cell["si", 4, 0, "precision"]
    )


def test_a_measure_can_be_taken_of_some_rows_alone(settings, drawn, measured_in, smoke):
    both = settings.metrics.model_copy(update={"measures": ["fid", "kid"]})
    whole, some = (
        evaluate(
            settings.model_copy(update={"metrics": both.model_copy(update={"only": only})}),
            drawn,
            measured_in,
            smoke,
        )
        for only in ({}, {"kid": ["lmd"]})
    )
    assert set(some[some.metric == "KID"].method) == {"lmd"} and set(some[some.metric == "FID"].method) == {
        "lmd",
        "si",
    }
    left = whole[(whole.metric == "FID") | (whole.method == "lmd")].reset_index(drop=True)
    pd.testing.assert_frame_equal(left, some)
    # an experiment that takes every measure of every row is dumped as it was before there was a choice: its
    # hash stays
    assert "only" not in both.model_dump()


def test_a_number_carries_its_protocol_and_reads_back(settings, measured_in):
    found = measure.protocols_by_name(Comparison(settings, data=measured_in))
    assert set(found) == {name for m in settings.metrics.measures for name in measure.METRICS[m].names}
    for protocol in found.values():
        assert parse(str(protocol)) == protocol and protocol.samples == settings.sampling.count
    assert (
        "si at 4 Euler steps" in found["T-FID"].split
        and found["FID"].split == "all 1797 training images of digits"
    )


def test_a_notebook_shows_every_mean_and_leaves_blank_what_was_not_measured():
    """More metrics, steps and methods than pandas would print: two seeds each, value 10 metric + method +
    seed.
    """
    rows = pd.DataFrame(
        [
            {"method": f"m{m}", "metric": f"k{k:02}", "nfe": n, "value": 10 * k + m + seed}
            for m in range(30)
            for k in range(20)
            for n in (1, 2, 4, 8)
            for seed in (0, 1)
            if (m, n) != (3, 8)
        ]
    )
    table = ElementTree.fromstring(display.show_table(measure.means(rows)).data)
    shown = [[cell.text or "" for cell in row.findall("td")] for row in table.find("tbody")]
    assert [cell.text for cell in table.find("thead").find("tr").findall("th")][-30:] == [
        f"m{m}" for m in range(30)
    ]
    assert len(shown) == 80 and all(len(row) == 30 for row in shown)
    assert shown[4 * 7 + 1][5] == "75.5", "k07 in two steps of m5"
    assert [row[3] for row in shown].count("") == 20 and sum(row.count("") for row in shown) == 20


def test_calls_that_do_not_fit_the_steps_are_refused(settings, drawn, measured_in, smoke):
    drawn[0].loc[4, "nfe"] = 3
    with pytest.raises(ValueError, match="lmd took 3 network calls for 1 steps"):
        evaluate(settings, drawn, measured_in, smoke)


def test_fewer_samples_than_features_are_refused(settings, drawn, measured_in, smoke):
    for file in drawn[0].file:
        np.save(drawn[1] / file, np.load(drawn[1] / file)[:64])
    few = settings.sampling.model_copy(update={"count": 64})
    settings = settings.model_copy(update={"sampling": few})
    with pytest.raises(ValueError, match="64 samples of 64 features .* measure more than 64"):
        evaluate(settings, drawn, measured_in, smoke)


def test_the_reference_is_what_prepare_wrote(bench, measured_in, root, monkeypatch):
    monkeypatch.chdir(root)
    again = extract(digits.pixels(), measured_in.extractor).values
    assert np.allclose(again, measured_in.values, atol=1e-5) and again.shape == (1797, 64)
    with pytest.raises(
        SettingsError,
        match="there is no 'cifar' among the `features` of tier 'smoke'; there are cifar10, imagenet32",
    ):
        reference.FeaturePreparation.open("smoke", "cifar")
    (bench.workspace.pipeline / "features/cifar10/described.json").rename(bench.workspace.pipeline / "moved")
    with pytest.raises(
        FileNotFoundError, match="described.json is not there: run `dvc repro` at tier 'smoke'"
    ):
        reference.load(bench)
    (bench.workspace.pipeline / "moved").rename(bench.workspace.pipeline / "features/cifar10/described.json")


def test_self_checks_know_the_data_from_noise(smoke, measured_in, root, monkeypatch):
    monkeypatch.chdir(root)
    experiment = type(
        "Experiment",
        (),
        {"experiment": smoke.experiment(NAME), "compute": smoke.compute, "source": digits.SOURCE},
    )
    found = measures.fid_self_checks(experiment, measured_in).fid
    assert found["noise"].iloc[0] > 20 * found["split in two"].iloc[0]
    bias = found["bias"]
    assert list(bias.index) == sorted(bias.index) and bias.is_monotonic_decreasing


# Sampling


def test_solvers_are_rows_of_their_own(settings):
    draws = sample.plan(settings)
    heun = [d for d in draws if d.method == "si-heun"]
    assert {(d.network, d.sampler, d.steps) for d in heun} == {("si", "heun", 1)} and len(heun) == len(SEEDS)
    assert sample.labels(settings)["si-adaptive"] == "SI, adaptive" and len({d.name for d in draws}) == len(
        draws
    )


def test_samples_are_stored_as_the_images_that_are_measured(settings, tmp_path, root, monkeypatch, smoke):
    monkeypatch.chdir(root)
    flow_map = type("Map", (), {})
    monkeypatch.setattr(sample, "load_flow_map", lambda *_: flow_map)
    drawn = torch.linspace(-1.5, 1.5, 200 * 64).reshape(200, 1, 8, 8)
    monkeypatch.setattr(sample, "sample", lambda *_: sample.samplers.Samples(drawn, 2))
    row = sample.draw_one(
        settings, sample.Draw("si", "si", "euler", 2, 0, 0), tmp_path / "w", tmp_path, "cpu", None
    )
    kept = np.load(tmp_path / row["file"])
    assert kept.dtype == np.uint8 and kept.max() == 16 and kept.min() == 0 and row["count"] == 200
    assert np.array_equal(kept, ((drawn.clamp(-1, 1) + 1) * 8).round().to(torch.uint8).numpy())


def test_calls_of_an_adaptive_solver_are_averaged_over_the_chunks(monkeypatch):
    calls = iter((8, 14, 14))
    monkeypatch.setitem(
        sample.samplers.SAMPLERS, "adaptive", lambda _, x, digits: sample.samplers.Samples(x, next(calls))
    )
    drawn = sample.sample(None, "adaptive", torch.zeros(300, 1, 4, 4), 2)
    assert drawn.nfe == round((125 * 8 + 175 * 14) / 300) and drawn.points.shape == (300, 1, 4, 4)


# What a sample costs


def test_seconds_are_calls_times_the_median_call(settings, smoke, monkeypatch, root):
    timed = pd.DataFrame(
        [
            {"call": kind, "batch": batch, "repeat": k, "seconds": base * (1 + k) / batch**0.5}
            for kind, base in (("velocity", 1.0), ("jump", 2.0))
            for batch in (1, 4)
            for k in range(3)
        ]
    )
    trace = {"notebook": "n", "revision": "r", "parameters": "p", "hardware": "h", "software": "s"}
    rows = [
        {
            "method": method,
            "metric": "FID",
            "nfe": nfe,
            "train_seed": 0,
            "sample_seed": k,
            "value": value,
            "samples": 200,
            "protocol": "p",
        }
        | trace
        for method, nfe, value in (
            ("si", 2, 200.0),
            ("si", 4, 100.0),
            ("si", 8, 50.0),
            ("lmd", 2, 100.0),
            ("si-heun", 2, 90.0),
        )
        for k in SEEDS
    ]
    monkeypatch.setattr(speed.measure, "load", lambda _: pd.DataFrame(rows))
    experiment = type(
        "Experiment",
        (),
        {
            "settings": settings,
            "name": NAME,
            "tier": "smoke",
            "data_folder": None,
            "compute": smoke.compute,
            "workspace": Workspace(root, "smoke"),
        },
    )
    table = speed.table(experiment, timed, "fmm-speed", "4-speed").set_index(["metric", "method", "nfe"])
    assert list(table.columns) and set(table.index.get_level_values(0)) == {"FID", speed.ONE, speed.BEST}
    assert table.value[speed.ONE, "SI", 4] == 4 * 2.0 and table.value[speed.ONE, "LMD", 2] == 2 * 4.0
    assert table.value[speed.BEST, "SI, heun", 2] == 2 * 1.0 and (table.samples[speed.BEST] == 4).all()
    assert set(table.table) == {"fmm-speed"} and set(table.seeds[speed.ONE]) == {
        f"{settings.speed.repeats} timings"
    }
    own = settings.model_copy(
        update={
            "sampling": settings.sampling.model_copy(update={"steps": {"si": [2], "lmd": [2]}}),
            "methods": {k: settings.methods[k] for k in ("si", "lmd")},
        }
    )
    faster = speed.at_equal_quality(type("Experiment", (), {"settings": own}), timed).loc["LMD", 2]
    # the teacher reaches 100 with four calls; a jump takes twice the time of a velocity here
    assert (faster["teacher's calls"], faster["fewer calls"], faster["less time"]) == (4.0, 2.0, 1.0)


# The report


SETTINGS, OVER = {"seed": 1}, "3 sampling seeds of one training"


def _part(workspace: Workspace, name: str, value: float, revision: str = "x", folder: str = "") -> None:
    from matplotlib.figure import Figure

    row = {c: "x" for c in tables.COLUMNS} | {
        "table": name,
        "metric": "FID",
        "nfe": 1,
        "value": value,
        "sd": 0.1,
        "sd_sampling": 0.1,
        "published": None,
        "samples": 3,
        "revision": revision,
        "parameters": provenance.parameters(SETTINGS),
    }
    claim = dict.fromkeys(claims.COLUMNS, "x") | {"statistic": "x; claimed > 0", "over": OVER}
    claim |= {"verdict": "supported", "table": name, "effect": 2.0, "effect_low": 0.0, "effect_high": 4.0}
    claim |= {"sign_p": 0.125}
    ledger = pd.DataFrame([claim | {"value": value, "low": 0.0, "high": 1.0}])
    picture = Picture(Figure(figsize=(1, 1)), {}, f"of {name}")
    report.write(
        workspace,
        name,
        f"5-figures-{name}",
        report.Results(
            {name: pd.DataFrame([row])}, ledger, {f"{name}-a": picture}, {row["parameters"]: SETTINGS}
        ),
        folder,
    )


TOUR_ALONE = """
stages:
  tour:
    matrix: {tier: ["${tier}"]}
    cmd: python -m fewstep run 0-tour --tier ${item.tier}
    deps: []
    outs: ["artifacts/${item.tier}/notebooks/0-tour.ipynb"]
"""


def test_parts_of_the_report_are_put_together(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    workspace = Workspace(tmp_path, "smoke")
    (tmp_path / "dvc.yaml").write_text(TOUR_ALONE, encoding="utf-8")
    with pytest.raises(FileNotFoundError, match="holds no part of a report: run `dvc repro`"):
        report.publish(workspace)
    for k, name in enumerate(("another", report.FIRST)):
        _part(workspace, name, float(k))
    (workspace.pipeline / "notebooks").mkdir()
    (workspace.pipeline / "notebooks" / "0-tour.ipynb").write_text("{}", encoding="utf-8")
    (workspace.pipeline / "notebooks" / "0-tour.failed.ipynb").write_text("{}", encoding="utf-8")
    (workspace.pipeline / "notebooks" / "of-an-earlier-pipeline.ipynb").write_text("{}", encoding="utf-8")
    foreign = tmp_path / "results/smoke/tables/foreign.csv"
    foreign.parent.mkdir(parents=True)
    foreign.touch()
    _part(workspace, "renamed later", 2.0)
    report.publish(workspace)
    assert (tmp_path / "results/smoke/tables/renamed later.csv").is_file()
    shutil.rmtree(workspace.pipeline / "report" / "renamed later")
    report.publish(workspace)
    foreign.unlink()  # somebody else's is left alone
    results = tmp_path / "results/smoke"
    assert sorted(p.name for p in (results / "tables").iterdir()) == ["another.csv", f"{report.FIRST}.csv"]
    assert [p.name for p in (results / "notebooks").iterdir()] == ["0-tour.ipynb"]
    assert pd.read_csv(results / "claims.csv").value.to_list() == [1.0, 0.0]
    assert set(json.loads((results / "metrics.json").read_text(encoding="utf-8"))) == {
        "another",
        report.FIRST,
    }
    page = (results / "report.md").read_text(encoding="utf-8")
    assert (
        page.index(f"## {report.FIRST}") < page.index("## another")
        and "(figures/another-a.png)" in page
        and OVER in page
        and "supported in this training" in page
    )


def test_results_are_published_whole_or_not_at_all(tmp_path, monkeypatch):
    """Where a part, a picture or a notebook is missing or damaged, nothing is replaced or removed."""
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    workspace, drawn = Workspace(tmp_path, "smoke"), ["artifacts/${item.tier}/report/" + n for n in "ab"]
    outs = json.dumps(["artifacts/${item.tier}/notebooks/0-tour.ipynb", *drawn])
    plan = TOUR_ALONE.replace('["artifacts/${item.tier}/notebooks/0-tour.ipynb"]', outs)
    (tmp_path / "dvc.yaml").write_text(plan, encoding="utf-8")
    for k, name in enumerate("ab"):
        _part(workspace, name, float(k))
    notebook = workspace.pipeline / "notebooks" / "0-tour.ipynb"
    notebook.parent.mkdir()
    notebook.write_text("{}", encoding="utf-8")
    report.publish(workspace)
    before = {p: p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file()}
    picture, table = (
        workspace.pipeline / "report" / name for name in ("b/figures/b-a.png", "a/tables/a.csv")
    )
    cut = table.read_bytes()[:-3]
    for path, content, said in (
        (picture, None, "b-a.png is missing: restore it, or delete .*report/b and run"),
        (table, cut, "a.csv is not what was written .*written.json has another checksum"),
        (picture.parents[1] / "part.json", None, "results/smoke stays as it was: run `dvc repro tour@smoke`"),
        (notebook, None, "0-tour.ipynb is missing, .* run `dvc repro tour@smoke` first"),
    ):
        whole = path.read_bytes()
        path.unlink()
        if content is not None:
            path.write_bytes(content)
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            report.publish(workspace)
        assert {p: p.read_bytes() for p in (tmp_path / "results").rglob("*") if p.is_file()} == before
        path.write_bytes(whole)
    report.publish(workspace)


def test_the_settings_behind_a_number_are_found_by_their_hash(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    workspace = Workspace(tmp_path, "smoke")
    _part(workspace, report.FIRST, 1.0)
    (tmp_path / "dvc.yaml").write_text(TOUR_ALONE, encoding="utf-8")
    report.publish(workspace)
    results = tmp_path / "results/smoke"
    (code,) = set(pd.read_csv(results / "tables" / f"{report.FIRST}.csv").parameters)
    kept = json.loads((results / "settings" / f"{code}.json").read_text(encoding="utf-8"))
    assert kept == SETTINGS and provenance.parameters(kept) == code
    assert f"(settings/{code}.json)" in (results / "report.md").read_text(encoding="utf-8")


def test_numbers_of_other_settings_than_those_written_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("FEWSTEP_PIPELINE", "1")
    table = pd.DataFrame([dict.fromkeys(tables.COLUMNS, "x")])
    results = report.Results({"a": table}, claims.ledger([], "smoke"), {}, {"another": SETTINGS})
    with pytest.raises(provenance.ProvenanceError, match="the table 'a' was measured with settings x"):
        report.write(Workspace(tmp_path, "smoke"), "a", "5-figures", results)


def test_an_experiments_settings_have_the_hash_of_its_rows(smoke, settings, root):
    experiment = SimpleNamespace(settings=settings, workspace=Workspace(root, "smoke"), compute=smoke.compute)
    found = provenance.settings_by_hash(experiment)
    assert list(found) == [provenance.of_experiment(experiment, "n").parameters]
    (kept,) = json.loads(json.dumps(found)).values()
    assert [provenance.parameters(kept)] == list(found)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("conv_in.bias", torch.nan, r"'network.model.conv_in.bias' in .*seed-0.* not finite: train"),
        # finite weights whose samples are not
        ("conv_out.weight", 3e38, r"seed-0\.safetensors gives samples that are not finite: its training div"),
    ],
)
def test_nan_in_a_checkpoint_is_named_before_anything_is_measured(
    settings, smoke, tmp_path, root, monkeypatch, name, value, said
):
    monkeypatch.chdir(root)
    network = settings.training.network.model_dump()
    flow_map = networks.build(network, (1, 8, 8))
    weights = {f"weights.{name}": value for name, value in flow_map.state_dict().items()}
    name = f"weights.network.model.{name}"
    weights[name] = torch.full_like(weights[name], value)
    path = tmp_path / "seed-0.safetensors"
    save_checkpoint(path, weights, {"network": network, "shape": [1, 8, 8], "fingerprint": "x"})
    draw = sample.Draw("lmd", "lmd", "jumps", 1, 0, 0)
    with pytest.raises(CheckpointError, match=said):
        sample.draw_one(settings, draw, path, tmp_path, "cpu", None)
    assert not list(tmp_path.glob("*.npy"))


def test_one_step_is_one_network_call(smoke, tmp_path):
    """The steps of an adaptive solver are digits of its tolerance, and a step of Heun's takes two calls:
    neither has an image of one step.
    """
    settings = smoke.experiment("scflow-celebahq")
    rows = [
        ("si", 2, 2),
        ("si", 4, 4),
        ("si-heun", 1, 2),
        ("si-adaptive", 1, 14),
        ("si-adaptive", 2, 20),
        ("lmd", 1, 1),
        ("lmd", 4, 4),
    ]
    index = pd.DataFrame(
        [
            {"method": m, "steps": n, "nfe": calls, "train_seed": 0, "sample_seed": 0, "file": f"{m}-{n}.npy"}
            for m, n, calls in rows
        ]
    )
    cells = measure._cells(settings, index, tmp_path, tmp_path / "scratch")
    assert [cell.one_step for cell in cells] == [None] * 6 + [tmp_path / "lmd-1.npy"]
    assert {teacher.same_noise for cell in cells for teacher in cell.teachers} == {tmp_path / "si-4.npy"}
    # the teacher's own images are not compared with themselves
    assert measures._teacher_images(cells[1], None) == measures._one_step(cells[5], None) == []
