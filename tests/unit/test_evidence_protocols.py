"""Each protocol's numbers, from made samples with known answers; what is drawn, and where it comes from."""

import subprocess
import time
from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from fewstep.evaluation import csv_files, measure, measures, provenance, published, sample, speed, tables
from fewstep.evaluation.metric import Cell, Comparison, Teacher
from fewstep.flows.conditioning import Conditions
from fewstep.flows.exact.checkerboard import CheckerboardMap
from fewstep.metrics.points import kl_to_checkerboard, squared_w2
from fewstep.settings.tiers import Compute
from fewstep.storage import stand_in
from fewstep.storage.workspace import Workspace

FMM = "fmm-checkerboard"
# published numbers: how many of each kind, and their sum
SUMS = [
    ["f2d2", "CIFAR-10", "FID", "second-hand", 7, 557.0],
    ["generator", "CIFAR-10", "FID", "confirmed", 3, 20.12],
    ["generator", "ImageNet-32", "FID", "confirmed", 3, 43.01],
    ["meanflow", "CIFAR-10", "FID", "confirmed", 1, 2.92],
    ["scflow", "COCO-2014-30k", "CLIP", "second-hand", 10, 2.868],
    ["scflow", "COCO-2014-30k", "FID", "second-hand", 19, 392.56],
    ["scflow", "COCO-2017-5k", "CLIP", "confirmed", 2, 0.619],
    ["scflow", "COCO-2017-5k", "CLIP", "second-hand", 11, 3.215],
    ["scflow", "COCO-2017-5k", "FID", "confirmed", 2, 44.9],
    ["scflow", "COCO-2017-5k", "FID", "second-hand", 11, 424.07],
    ["scflow", "CelebA-HQ-256", "FID", "confirmed", 18, 153.85],
    ["scflow", "CelebA-HQ-256", "FID", "second-hand", 2, 15.73],
    ["scflow", "CelebA-HQ-256", "Recall", "confirmed", 11, 4.5],
    ["selfdistill", "AFHQ-64", "FID", "confirmed", 15, 169.52],
    ["selfdistill", "CIFAR-10", "FID", "confirmed", 15, 97.69],
    ["selfdistill", "CelebA-64", "FID", "confirmed", 15, 124.64],
    ["selfdistill", "checker", "KL", "confirmed", 20, 1.696],
]


@pytest.fixture
def settings(smoke):
    """The smallest experiment on the checkerboard: 40 points, W2 on 20 of them, two of each kind of seed."""
    own = smoke.experiment(FMM)
    sampling = own.sampling.model_copy(
        update={"count": 40, "seeds": [3, 5], "steps": {"si": [4, 8], "lmd": [1], "exact": [1]}}
    )
    reference = own.metrics.reference.model_copy(update={"steps": 8})
    metrics = own.metrics.model_copy(update={"w2_samples": 20, "bins": 4, "reference": reference})
    methods = {name: own.methods[name] for name in ("si", "lmd")}
    return own.model_copy(update={"sampling": sampling, "metrics": metrics, "methods": methods})


@pytest.fixture
def drawn(settings, tmp_path):
    """Points of every draw, each another array, the index, and sixty points of the target."""
    generator, rows = np.random.default_rng(0), []
    for draw in sample.plan(settings):
        np.save(tmp_path / draw.name, generator.uniform(-0.9, 0.9, (40, 2)).astype(np.float32))
        rows.append(asdict(draw) | {"nfe": draw.steps, "count": 40, "file": draw.name})
    np.save(tmp_path / "target.npy", generator.uniform(-1, 1, (60, 2)).astype(np.float32))
    pd.DataFrame(rows).to_csv(tmp_path / "index.csv", index=False)
    return tmp_path


def measured(settings, folder: Path) -> pd.DataFrame:
    index = sample.read_index(folder, settings)
    against = Comparison(settings, target=folder / "target.npy")
    return measure.evaluate(index, folder, against, folder, Compute(device="cpu", workers=1))


def test_points_are_measured_as_their_protocols_say(settings, drawn):
    rows = measured(settings, drawn).set_index(["method", "nfe", "metric", "train_seed", "sample_seed"])
    rows = rows.sort_index()

    def points(name: str, train: int, seed: int) -> np.ndarray:
        return np.load(drawn / f"{name}-train{train}-sample{seed}.npy")

    own, target = points("lmd-jumps1", 1, 3), np.load(drawn / "target.npy")
    cell = rows.value["lmd", 1]
    assert cell["KL to target", 1, 3] == kl_to_checkerboard(own, 4).value
    # every sampling seed meets its own part of the target
    assert cell["W2^2 to target", 1, 3] == squared_w2(own[:20], target[:20])
    assert cell["W2^2 to target", 1, 5] == squared_w2(points("lmd-jumps1", 1, 5)[:20], target[20:40])
    # the teacher of the same training: its other noise for W2, the same for the map's distance
    assert cell["W2^2 to teacher samples", 1, 3] == squared_w2(own[:20], points("si-euler8", 1, 5)[:20])
    assert cell["W2^2 to teacher samples", 0, 5] == squared_w2(
        points("lmd-jumps1", 0, 5)[:20], points("si-euler8", 0, 3)[:20]
    )
    apart = np.square(own.astype(float) - points("si-euler8", 1, 3)).sum(1).mean() ** 0.5
    assert cell["L2 to teacher map", 1, 3] == pytest.approx(apart)
    # the teacher itself is as far from its own other noise as from anybody's, and at its own map
    assert (
        rows.value["si", 8, "W2^2 to teacher samples", 0, 3]
        > 0
        == rows.value["si", 8, "L2 to teacher map", 0, 3]
    )
    # the exact map is held against the teacher of every training
    assert set(rows.loc["exact", 1, "L2 to teacher map"].index.get_level_values("train_seed")) == {0, 1}
    assert set(rows.loc["exact", 1, "KL to target"].index.get_level_values("train_seed")) == {-1}
    assert (
        rows.samples["lmd", 1, "W2^2 to target", 1, 3] == 20
        and rows.samples["lmd", 1, "KL to target", 1, 3] == 40
    )
    assert rows.label["lmd", 1, "KL to target", 1, 3] == "LMD"
    protocols = rows.protocol.groupby("metric").agg(set)
    assert protocols.to_dict() == {
        "KL to target": {"KL(target || histogram), 40 samples, 4x4 bins on [-1,1]^2, exact quadrature"},
        "W2^2 to target": {"exact assignment, 20 samples against 20 of data/checkerboard.npy"},
        "W2^2 to teacher samples": {
            "exact assignment, 20 samples against 20 of si at 8 Euler steps, independent noise"
        },
        "L2 to teacher map": {
            "root mean square over 40 noises, against si at 8 Euler steps, same noise and training seed"
        },
    }  # fmt: skip


def test_empty_cells_and_means_are_those_of_all_seeds(settings, drawn):
    rows = measured(settings, drawn)
    kl = rows[rows.metric == "KL to target"]
    lmd = kl[kl.method == "lmd"]
    assert measure.means(rows).loc[("KL to target", 1), "lmd"] == pytest.approx(lmd.value.mean())
    assert (
        measure.empty_cells(rows).loc["lmd", 1] == lmd["empty"].max()
        and lmd["empty"].max() > lmd["empty"].min()
    )


@pytest.mark.parametrize(
    "sampler, steps, nfe, right",
    [
        ("jumps", 4, 4, True), ("jumps", 4, 5, False), ("euler", 2, 2, True), ("euler", 2, 1, False),
        ("heun", 2, 4, True), ("heun", 2, 2, False), ("guided-1.5", 3, 6, True), ("guided-1.5", 3, 3, False),
        ("guided-1", 3, 3, True), ("stochastic-0.5", 2, 2, True), ("stochastic-0.5", 2, 4, False),
        ("adaptive", 2, 17, True),
    ],
)  # fmt: skip
def test_counted_calls_are_compared_with_those_of_the_steps(sampler, steps, nfe, right):
    index = pd.DataFrame([{"method": "m", "sampler": sampler, "steps": steps, "nfe": nfe}])
    if right:
        measure.check_calls(index)
    else:
        with pytest.raises(ValueError, match=f"m took {nfe} network calls for {steps} steps"):
            measure.check_calls(index)


def test_adaptive_calls_stand_at_their_mean_over_seeds(settings, drawn):
    rows = pd.read_csv(drawn / "index.csv")
    own = rows[rows.method == "lmd"].assign(sampler="adaptive", nfe=[14, 20, 20, 20])
    against = Comparison(settings, target=drawn / "target.npy")
    index = pd.concat([rows[rows.method == "si"], own])
    found = measure.evaluate(index, drawn, against, drawn, Compute(device="cpu", workers=1))
    assert set(found.nfe[found.method == "lmd"]) == {round(74 / 4)}


def test_what_is_better_is_known_of_every_metric():
    assert measure.HIGHER_IS_BETTER == {
        "precision", "recall", "PSNR to N = 1", "SSIM to N = 1", "PSNR to the teacher", "SSIM to the teacher",
        "CLIP score", "attribute accuracy", "shape accuracy", "colour accuracy", "place accuracy",
        "caption accuracy",
    }  # fmt: skip


# What is drawn


def test_noise_is_one_stream_a_seed_scaled_as_the_data(settings):
    for seed in (0, 3):
        expected = torch.randn(40, 2, generator=torch.Generator().manual_seed(1_000_003 + seed)) * 0.57735
        assert torch.allclose(sample.noise(settings, seed), expected, atol=1e-4)


def test_the_plan_is_every_array_once_and_the_exact_map_has_no_training(settings):
    plan = sample.plan(settings)
    assert [draw.name for draw in plan] == [
        *(f"si-euler{n}-train{k}-sample{j}.npy" for n in (4, 8) for k in (0, 1) for j in (3, 5)),
        *(f"lmd-jumps1-train{k}-sample{j}.npy" for k in (0, 1) for j in (3, 5)),
        *(f"exact-jumps1-train-1-sample{j}.npy" for j in (3, 5)),
    ]
    many = settings.sampling.model_copy(update={"steps": {"exact": [1, 80]}})
    assert [d.sampler for d in sample.plan(settings.model_copy(update={"sampling": many}))] == [
        "jumps"
    ] * 2 + ["euler"] * 2


def test_what_is_drawn_is_the_map_from_the_noise_of_its_seed(settings, tmp_path):
    draw = sample.Draw("exact", "exact", "euler", 4, -1, 5)
    row = sample.draw_one(settings, draw, None, tmp_path, "cpu", None)
    expected = sample.samplers.euler(CheckerboardMap(), sample.noise(settings, 5), 4).points
    assert np.allclose(np.load(tmp_path / draw.name), expected.numpy(), atol=1e-6)
    assert (row["nfe"], row["count"], row["file"], row["sample_seed"]) == (4, 40, draw.name, 5)


def test_a_stochastic_sampler_adds_noise_of_its_own_seed(monkeypatch):
    seen = []
    monkeypatch.setattr(
        sample.samplers, "named", lambda name, generator, scale: seen.append(generator.initial_seed())
    )
    for seed in (0, 4):
        with pytest.raises(TypeError):
            sample.sample(None, "stochastic-1", torch.zeros(2, 2), 1, seed)
    assert seen == [6_000_011, 6_000_015]


@pytest.mark.parametrize(
    "shape, conditions, device, expected",
    [
        (1, False, "cpu", 500), (3, False, "cpu", 125), (3, True, "cpu", 125), (3, False, "cuda", 1000),
        (3, True, "cuda", 64), (1, False, "cuda", 500),
    ],
)  # fmt: skip
def test_samples_go_through_a_network_some_at_a_time(shape, conditions, device, expected):
    assert sample.together(shape, conditions, device) == expected


def test_each_sample_keeps_its_own_caption_in_every_chunk(monkeypatch):
    seen = []
    monkeypatch.setattr(sample, "IMAGES", 2)
    monkeypatch.setattr(sample, "conditioned", lambda flow_map, captions, empty: captions)
    monkeypatch.setitem(
        sample.samplers.SAMPLERS,
        "jumps",
        lambda captions, x, n: (seen.append(captions), sample.samplers.Samples(x, n))[1],
    )
    texts = Conditions(torch.arange(5.0)[:, None, None], torch.ones(5, 1, dtype=torch.bool))
    sample.sample(None, "jumps", torch.zeros(5, 1, 2, 2), 1, conditions=texts)
    assert [part.hidden.flatten().tolist() for part in seen] == [[0, 1], [2, 3], [4]]


def test_one_step_images_are_of_the_same_training_and_noise(settings, tmp_path):
    index = pd.DataFrame(
        [
            {
                "method": "lmd",
                "steps": n,
                "nfe": n,
                "train_seed": k,
                "sample_seed": j,
                "file": f"{n}{k}{j}.npy",
            }
            for n in (1, 4)
            for k in (0, 1)
            for j in (3, 5)
        ]
    )
    own = settings.model_copy(update={"metrics": settings.metrics.model_copy(update={"reference": None})})
    cells = measure._cells(own, index, tmp_path, None)
    assert [cell.one_step and cell.one_step.name for cell in cells] == [None] * 4 + [
        "103.npy", "105.npy", "113.npy", "115.npy",
    ]  # fmt: skip


def test_t_fid_is_against_the_teachers_other_noise(tmp_path):
    generator = np.random.default_rng(0)
    arrays = {name: generator.normal(k, 1, (50, 3)) for k, name in enumerate(("own", "same", "other"))}
    for name, values in arrays.items():
        np.save(tmp_path / f"{name}.npy", values)
    teacher = Teacher(0, tmp_path / "same.npy", tmp_path / "other.npy")
    cell = Cell(tmp_path / "own.npy", tmp_path / "own.npy", 0, None, (teacher,))
    ((row),) = measures._t_fid(cell, None)
    own, other = (measures.moments(arrays[name]) for name in ("own", "other"))
    assert row["value"] == pytest.approx(measures.frechet(own, other))


def test_every_metric_of_points_has_its_own_function():
    of_points = ("kl", "w2_target", "w2_teacher", "map_teacher")
    assert [measures.METRICS[name].needs for name in of_points] == [(), ("target",), (), ()]


# Published numbers


def test_published_numbers_are_those_of_the_papers():
    numbers = published.load()
    found = numbers.set_index(["paper", "dataset", "method", "metric", "nfe"]).value
    for cell, value in {
        ("selfdistill", "checker", "LSD", "KL", 1): 0.086,
        ("selfdistill", "checker", "PSD-U", "KL", 16): 0.068,
        ("selfdistill", "CIFAR-10", "LSD", "FID", 1): 8.10,
        ("selfdistill", "CIFAR-10", "PSD-M", "FID", 1): 12.81,
        ("selfdistill", "CIFAR-10", "LSD", "FID", 8): 3.33,
    }.items():  # fmt: skip
        assert found[cell] == value, cell
    kinds = numbers.groupby(["paper", "dataset", "metric", "status"]).value.agg(["size", "sum"]).round(4)
    assert kinds.reset_index().to_numpy().tolist() == SUMS


@pytest.mark.parametrize(
    "table, method, metric, nfe, protocol, expected",
    [
        ("selfdistill-cifar10", "LSD", "FID", 1,
         ["samples=50000; ", "extractor=inception", "training images of cifar10;"],
         (8.1, "confirmed, best of several checkpoints")),
        ("selfdistill-checkerboard", "LSD", "KL to target", 1,
         ["KL(target || histogram), 64000 samples, 50x50 bins on [-1,1]^2, exact quadrature"],
         (0.086, "confirmed")),
        ("selfdistill-afhq64", "LSD", "FID", 1,
         ["samples=10000; ", "extractor=inception", "training images of afhq64;"],
         (None, "confirmed, best of several checkpoints")),
    ],
)  # fmt: skip
def test_a_published_number_stands_beside_its_own_protocol_alone(
    table, method, metric, nfe, protocol, expected
):
    numbers = published.load()
    value, status, source = published.lookup(numbers, table, method, metric, nfe, " ".join(protocol))
    assert status == expected[1] and value in (expected[0], value) and source == "arXiv 2505.18825 Table 1"
    assert expected[0] is None or value == expected[0]
    fewer = " ".join(protocol).replace("000", "00", 1)
    assert published.lookup(numbers, table, method, metric, nfe, fewer)[:2] == (None, "other protocol")
    for piece in protocol:
        others = " ".join(p for p in protocol if p != piece)
        assert published.lookup(numbers, table, method, metric, nfe, others)[:2] == (None, "other protocol")
    absent = (None, "not on file", "")
    assert published.lookup(numbers, table, method, "recall", nfe, " ".join(protocol)) == absent
    assert published.lookup(numbers, table, "LMD", metric, nfe, " ".join(protocol)) == absent
    assert published.lookup(numbers, table, method, metric, nfe + 100, " ".join(protocol)) == absent


CIFAR = "extractor=inception-2015-12-05; split=all 50000 training images of cifar10; samples=50000; "


@pytest.mark.parametrize(
    "table, method, nfe, expected",
    [
        # another paper's number is not said to be of the best checkpoint
        ("selfdistill-cifar10", "MeanFlow", 1, (2.92, "confirmed", "arXiv 2505.13447")),
        ("selfdistill-cifar10", "MeanFlow", 4,
         (5.14, "second-hand", "kellyyutonghe.github.io/f2d2 (a third party)")),
        ("fmm-cifar10", "SI", 8, (20.63, "second-hand",
         "kellyyutonghe.github.io/f2d2 (a third party), flow matching by Euler steps")),
        ("fmm-cifar10", "SI", 16, (None, "not on file", "")),
        ("fmm-cifar10", "SI, heun", 8, (None, "not on file", "")),
        ("fmm-imagenet32", "SI", 1, (None, "not on file", "")),
    ],
)  # fmt: skip
def test_numbers_of_other_papers_stand_beside_the_same_method(table, method, nfe, expected):
    assert published.lookup(published.load(), table, method, "FID", nfe, CIFAR) == expected


@pytest.mark.parametrize("tier", ["laptop", "smoke"])
@pytest.mark.parametrize("name", ["fmm-cifar10", "fmm-imagenet32", "selfdistill-cifar10"])
def test_digits_and_crops_stand_beside_no_published_number(root, tier, name):
    numbers = published.load()
    table = pd.read_csv(root / "results" / tier / "tables" / f"{name}.csv")
    for row in table.itertuples():
        assert published.lookup(numbers, name, row.method, row.metric, row.nfe, row.protocol)[0] is None


def test_clip_scores_of_papers_stand_beside_none_of_ours():
    assert all("CLIP score" not in own["metrics"] for own in published._tables().values())
    assert {name for name, own in published._tables().items() if own.get("chosen")} == {
        "selfdistill-cifar10", "selfdistill-celeba64", "selfdistill-afhq64",
    }  # fmt: skip


def test_the_papers_table_says_the_status_of_each_number():
    found = published.as_table("selfdistill-cifar10")
    assert found.columns.name == "CIFAR-10, best of several checkpoints but for SI, MeanFlow"
    assert found.loc[("FID", "MeanFlow")].to_list() == [
        "2.92 confirmed", "2.84 second-hand", "5.14 second-hand", "4.34 second-hand", "",
    ]  # fmt: skip
    faces = published.as_table("selfdistill-celeba64")
    assert faces.columns.name == "CelebA-64, best of several checkpoints"
    others = published.as_table("fmm-imagenet32")
    assert others["N = 1"].to_dict() == {
        ("FID", "iCT"): "14.89 confirmed", ("FID", "iCT-OT"): "14.13 confirmed",
        ("FID", "iCT-GC"): "13.99 confirmed",
    }  # fmt: skip
    assert list(found.columns) == [f"N = {n}" for n in (1, 2, 4, 8, 16)]
    assert found.loc[("FID", "LSD"), "N = 1"] == "8.1 confirmed"
    assert published.as_table("selfdistill-checkerboard").columns.name == "checker"
    assert published.as_table("fmm-checkerboard").empty
    faces = published.as_table("scflow-celebahq")
    assert "N not said" in faces.columns and faces.to_numpy().astype(str).ravel().tolist().count("") > 0


@pytest.mark.parametrize("status, mark", [("confirmed", "c"), ("second-hand", "s")])
def test_a_table_says_ours_theirs_and_the_difference(status, mark):
    row = {
        "method": "A",
        "metric": "FID",
        "nfe": 2,
        "value": 5.126,
        "sd": 0.25,
        "published": 6.5,
        "status": status,
    }
    shown = tables.shown(pd.DataFrame([row, row | {"method": "B", "published": np.nan, "sd": np.nan}]), "FID")
    assert shown.loc["A"].to_list() == ["5.13 ± 0.25", f"6.50 {mark} (-1.37)"]
    assert shown.loc["B"].to_list() == ["5.13", ""] and list(shown.columns) == ["N = 2", "N = 2, published"]


# Where a number comes from


@pytest.fixture
def tree(tmp_path, monkeypatch) -> Path:
    """A committed tree with a source, params.yaml and results."""
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    (tmp_path / "src").mkdir()
    (tmp_path / "results").mkdir()
    for name, text in (
        ("src/a.py", "x = 1\n"),
        ("params.yaml", "tier: smoke\nlr: 1\n"),
        ("results/r", "1\n"),
    ):
        (tmp_path / name).write_text(text, encoding="utf-8")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "-A"], [*who, "commit", "-qm", "a"]):
        subprocess.run(["git", "-C", str(tmp_path), *words], check=True)
    return tmp_path


def test_a_clean_tree_has_its_commit(tree):
    head = subprocess.run(
        ["git", "-C", str(tree), "rev-parse", "HEAD"], capture_output=True, text=True
    ).stdout
    assert provenance.revision(tree) == head[:12]
    # what a run writes and which tier it runs is no other code
    (tree / "results" / "r").write_text("2\n", encoding="utf-8")
    (tree / "params.yaml").write_text("tier: laptop\nlr: 1\n", encoding="utf-8")
    assert provenance.revision(tree) == head[:12]
    # nor is a commit that changes neither code nor settings
    (tree / "README.md").write_text("text\n", encoding="utf-8")
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["checkout", "-q", "params.yaml"], ["add", "-A"], [*who, "commit", "-qm", "results"]):
        subprocess.run(["git", "-C", str(tree), *words], check=True)
    assert provenance.revision(tree) == head[:12]


@pytest.mark.parametrize(
    "name, text",
    [
        ("src/a.py", "x = 2\n"), ("src/new.py", ""), ("params.yaml", "tier: smoke\nlr: 2\n"),
        ("params.yaml", "tier: smoke\nlr: 1\nmore: 1\n"), ("notebooks/1.ipynb", "{}"),
        ("dvc.yaml", "a: 1\n"), ("pyproject.toml", ""), ("data.dvc", ""),
    ],
)  # fmt: skip
def test_a_changed_tree_says_so(tree, name, text):
    clean = provenance.revision(tree)
    (tree / name).parent.mkdir(exist_ok=True)
    (tree / name).write_text(text, encoding="utf-8")
    assert provenance.revision(tree) == clean + "+"


def test_a_staged_change_is_a_change_and_a_rehearsal_no_commit(tree):
    clean = provenance.revision(tree)
    (tree / "src" / "a.py").write_text("x = 2\n", encoding="utf-8")
    subprocess.run(["git", "-C", str(tree), "add", "-A"], check=True)
    assert provenance.revision(tree) == clean + "+"
    stand_in.mark(tree)
    assert provenance.revision(tree) == "rehearsal"


def test_a_tree_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert provenance.revision(tmp_path) == "unversioned"


def test_equal_settings_have_equal_hashes_whatever_their_order():
    assert provenance.parameters({"a": 1, "b": [1, 2]}) == provenance.parameters({"b": [1, 2], "a": 1})
    assert provenance.parameters({"a": 1}) != provenance.parameters({"a": 2})
    assert len(provenance.parameters({})) == 12


def test_a_number_names_its_notebook_settings_machine_and_versions(smoke, settings, root):
    own = SimpleNamespace(settings=settings, workspace=Workspace(root, "smoke"), compute=smoke.compute)
    found = provenance.of_experiment(own, "4-measure")
    assert found.notebook == "4-measure" and found.parameters == provenance.parameters(settings.model_dump())
    assert found.revision == provenance.revision(root)
    assert f"torch {torch.__version__}" in found.software and "cores, Linux" in found.hardware


# What it costs


def test_seconds_are_counted_calls_times_the_median_and_a_decoding(smoke, root):
    own = smoke.experiment("scflow-celebahq")
    timed = pd.DataFrame(
        [
            {"call": call, "batch": batch, "repeat": k, "seconds": base * factor / batch}
            for call, base in (("velocity", 1.0), ("jump", 2.0), ("decoding", 0.5))
            for batch in (1, 4)
            for k, factor in enumerate((1, 2, 9))
        ]
    )
    cells = [("SI", 4), ("LMD", 1)]
    blank = dict.fromkeys(tables.COLUMNS, "x")
    table = pd.DataFrame([blank | {"method": m, "nfe": n, "metric": "FID", "value": 9.0} for m, n in cells])
    experiment = SimpleNamespace(
        settings=own,
        data_folder=Path("x"),
        workspace=Workspace(root, "smoke"),
        compute=smoke.compute,
        name="x",
    )
    one, best = speed.seconds(experiment, timed, table, "n")
    # the median of 1, 2, 9 is 2; a decoding of 0.5, 1, 4.5 at the median once an image
    assert one.value.to_list() == [4 * 2 + 1, 1 * 4 + 1] and best.value.to_list() == [
        (4 * 2 + 1) / 4,
        (4 + 1) / 4,
    ]
    deviation = np.std([1, 2, 9], ddof=1)
    assert one.sd.to_list() == pytest.approx(
        [np.hypot(4 * deviation, deviation / 2), np.hypot(2 * deviation, deviation / 2)]
    )
    assert set(one.samples) == {1} and set(best.samples) == {4} and set(one.status) == {"not on file"}
    assert set(best.protocol) == {
        f"calls counted x median of {own.speed.repeats} timed calls and one decoding, seconds of one core, "
        "one image's share, batch that takes least"
    }


def test_a_call_on_a_cpu_is_timed_by_its_own_core():
    """What else the machine is at, such as the experiment beside this one, makes no call slower."""
    waiting = speed._seconds(lambda: time.sleep(0.03), 3, "cpu")
    assert len(waiting) == 3 and max(waiting) < 0.01
    busy = speed._seconds(lambda: sum(range(300_000)), 3, "cpu")
    assert min(busy) > 0


@pytest.mark.parametrize("kind", ["read", "load"])
def test_samples_of_another_count_are_not_measured(settings, drawn, kind):
    name = "si-euler4-train0-sample3.npy"
    np.save(drawn / name, np.load(drawn / name)[:39])
    with pytest.raises(
        csv_files.DamagedFileError, match=rf"{name} has the shape \(39, 2\), and `sampling.count` is 40"
    ):
        if kind == "read":
            measured(settings, drawn)
        else:
            own = SimpleNamespace(
                name=FMM, settings=settings, workspace=SimpleNamespace(read=lambda _: drawn)
            )
            sample.points(own, "si", 4)


def test_an_array_that_is_drawn_twice_is_refused_before_anything_is_drawn(settings):
    for change in ({"seeds": [0, 0]}, {"steps": {"si": [4, 4]}}):
        twice = settings.sampling.model_copy(update=change)
        with pytest.raises(
            ValueError, match="si at 4 steps, sampling seed ., would be drawn twice: name it once"
        ):
            sample.plan(settings.model_copy(update={"sampling": twice}))
    none = settings.sampling.model_copy(update={"steps": {"si": [0, 4]}})
    with pytest.raises(ValueError, match="si at 0 steps, .* give 1 or more in `sampling.steps`"):
        sample.plan(settings.model_copy(update={"sampling": none}))


def test_what_cannot_be_drawn_leaves_earlier_samples_as_they_are(settings, tmp_path):
    (tmp_path / "kept.npy").touch()
    none = settings.sampling.model_copy(update={"steps": {"si": [0]}})
    own = SimpleNamespace(
        settings=settings.model_copy(update={"sampling": none}),
        workspace=SimpleNamespace(read=None),
        data_folder=None,
    )
    with pytest.raises(ValueError, match="cannot be drawn"):
        sample.draw(own)
    assert [path.name for path in tmp_path.iterdir()] == ["kept.npy"]


def test_a_number_about_images_says_all_that_it_depends_on(smoke):
    settings = smoke.experiment("fmm-cifar10")
    extractor = SimpleNamespace(name="an extractor", resize="bilinear")
    data = SimpleNamespace(extractor=extractor, split="all images", checksum="abc", values=np.empty(9))
    found = {k: str(v) for k, v in measure.protocols_by_name(Comparison(settings, data=data)).items()}
    rest = "samples=200; format=uint8; resize=bilinear; reference=sha256 abc; "
    rest += "weights=average over training, at its end"
    whole = f"metric={{}}; extractor=an extractor; split=all images; {rest}; seeds=0 1"
    assert found["FID"] == whole.format("FID")
    assert found["KID"] == whole.format("KID, unbiased, over all pairs of samples")
    for name in ("precision", "recall"):
        assert found[name] == whole.format(f"improved {name}, 3 neighbours")
    assert found["T-FID"] == whole.format("FID against the teacher's samples").replace(
        "split=all images", "split=200 samples of si at 4 Euler steps"
    ).replace("sha256 abc", "same training seed and other noise")
    large = SimpleNamespace(extractor=extractor, split="s", checksum="c", values=np.empty(10_001))
    many = measure.protocols_by_name(Comparison(settings, data=large))
    assert many["KID"].metric == "KID, 100 subsets of 1000"


@pytest.mark.parametrize("lost", [0, 5, 13])
def test_an_index_that_lacks_an_array_is_not_measured(settings, drawn, lost):
    index = pd.read_csv(drawn / "index.csv")
    index.drop(index=lost).to_csv(drawn / "index.csv", index=False)
    said = f"lacks {index.file[lost]}, which the settings ask for"
    with pytest.raises(csv_files.DamagedFileError, match=said):
        measured(settings, drawn)
