"""A rehearsal: what it makes small and what it leaves alone, what it runs, and that it passes for no run."""

from __future__ import annotations

import copy
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from fewstep import data
from fewstep.data import afhq64, celeba64, celebahq, cifar10, imagenet32
from fewstep.data.formats import archives
from fewstep.evaluation import provenance, published
from fewstep.flows.conditioning import Conditions, conditioned
from fewstep.networks import clip_files as clip
from fewstep.networks import load_flow_map
from fewstep.pipeline import stages as pipeline
from fewstep.rehearsal import rehearse, tiny_archives, tiny_networks
from fewstep.rehearsal.rehearse import NARROWER, RehearsalError
from fewstep.settings import tiers
from fewstep.storage import stand_in
from fewstep.storage.checkpoint import load_checkpoint
from fewstep.storage.workspace import Workspace
from fewstep.training import features, published_weights

PAPER = {
    "cifar10": cifar10,
    "imagenet32": imagenet32,
    "celeba64": celeba64,
    "afhq64": afhq64,
    "celebahq": celebahq,
}
# what a rehearsal may change, by the end of its path in the settings
SMALL = (
    r"compute\.(device|workers)",
    r"training\.(batch|seeds)",
    r"methods\.[\w-]+\.steps",
    r"sampling\.(count|seeds|steps\.[\w-]+|solvers\.\w+\.\w+)",
    r"sampling\.solvers\.\w+\.(stochastic|guided)-[\d.]+",
    r"self_correction\.\w+\.warmup",
    r"metrics\.(w2_samples|reference\.steps)",
    r"speed\.(batches|repeats)",
    r"features\.\w+\.reference",
)


@pytest.fixture(scope="module")
def paper(root) -> dict:
    """The settings of tier paper, resolved and not validated."""
    return tiers.section(root / "params.yaml", "paper")


@pytest.fixture(scope="module")
def tier(root) -> tiers.Tier:
    return tiers.load(root / "params.yaml", "paper")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory) -> Path:
    """A folder of tiny archives."""
    folder = tmp_path_factory.mktemp("archives")
    tiny_archives.write(folder)
    tiny_archives.laion(folder / "laion")
    tiny_archives.coco(folder / "coco")
    return folder


@pytest.fixture
def archive_folder(tiny, tmp_path, monkeypatch) -> Path:
    """A copy of the tiny archives to spoil, to which FEWSTEP_DATA points."""
    shutil.copytree(tiny, tmp_path / "archives")
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path / "archives"))
    return tmp_path / "archives"


@pytest.fixture
def clone(root, tmp_path) -> Path:
    """What a rehearsal needs of a repository, and nothing else."""
    here = tmp_path / "clone"
    shutil.copytree(
        root / "notebooks", here / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints")
    )
    for name in ("params.yaml", "dvc.yaml", pipeline.PAPER_ONLY):
        (here / name).parent.mkdir(exist_ok=True)
        shutil.copy(root / name, here / name)
    return here


def leaves(tree: object, path: str = "") -> dict[str, object]:
    """Every value below `tree` by its dotted path; a list is a value."""
    if isinstance(tree, dict):
        return {k: v for name, part in tree.items() for k, v in leaves(part, f"{path}.{name}").items()}
    return {path: tree}


# What is made small


@pytest.mark.parametrize("device, narrow", [("cpu", True), ("cuda", False)])
def test_only_amounts_are_made_small(paper, device, narrow):
    before = copy.deepcopy(paper)
    small = rehearse.small(paper, device, 1)
    assert paper == before, "the argument is left alone"
    was, now = leaves(paper), leaves(small)
    # how many images are encoded and measured is said where tier paper leaves it open
    assert was.keys() <= now.keys() and all(
        re.fullmatch(r"\.latents\.\w+\.(count|measured)", path) for path in now.keys() - was.keys()
    )
    changed = {path for path in was if was[path] != now[path]}
    narrowed = {path for path in changed if path.endswith("network.channels")}
    assert narrowed == (
        {f".experiments.scflow-{name}.training.network.channels" for name in ("coco2017", "coco2014")}
        if narrow
        else set()
    )
    changed -= narrowed
    assert all(re.search(rf"\.({'|'.join(SMALL)})$", path) for path in changed), changed
    assert now[".compute.device"] == device
    assert {now[path] for path in now if re.search(r"methods\.[\w-]+\.steps$", path)} == {2}
    assert not [
        path
        for path in changed
        if "network" in path or "optimiser" in path or "terms" in path or "doublings" in path
    ]
    # no loss of SCFlow waits longer than the rehearsal lasts
    assert {now[path] for path in now if path.endswith("warmup") and "self_correction" in path} == {0}


def test_small_settings_are_valid_and_every_term_gets_a_sample(paper, tier):
    small = tiers.Tier.model_validate(rehearse.small(paper, "cpu", 1))
    assert small.experiments.keys() == tier.experiments.keys()
    for name, own in small.experiments.items():
        network = tier.experiments[name].training.network
        # heads of 8 and groups of 32 divide what is left of the widths
        if network.kind == "published_unet":
            assert own.training.network == network.model_copy(
                update={"channels": [width // NARROWER for width in network.channels]}
            )
            assert not any(
                width % network.groups or width % network.heads for width in own.training.network.channels
            )
        else:
            assert own.training.network == network
        assert own.training.seeds == [0]
        needs_two = {"t_fid", "w2_teacher"} & set(own.metrics.measures) or name == "selfdistill-checkerboard"
        assert own.sampling.seeds == ([0, 1] if needs_two else [0])
        assert own.training.batch == 8
        for method in own.methods.values():
            shares = [round(8 * term.share) for term in method.terms]
            assert min([*shares[:-1], 8 - sum(shares[:-1])]) >= 1
            assert all(8 % term.options.get("times", 1) == 0 for term in method.terms)
    named = small.experiments["selfdistill-afhq64"].sampling.steps
    assert set(map(tuple, named.values())) == {(1, 2, 4, 8, 16)}
    taught = small.experiments["fmm-cifar10"]
    assert (
        taught.sampling.steps["si"] == taught.sampling.steps["lmd"] == [1, 2, 4, 8]
        and taught.metrics.reference.steps == 8
    )
    assert taught.sampling.solvers == {"si": {"heun": [2], "adaptive": [2]}} and taught.sampling.count == 4
    assert (
        small.experiments["fmm-checkerboard"].sampling.steps
        == tier.experiments["fmm-checkerboard"].sampling.steps
    ), "points cost nothing"
    assert (
        small.features["imagenet32"].reference == tiny_archives.COUNT
        and small.features["cifar10"].reference is None
    )
    captioned, again = small.experiments["scflow-coco2017"], small.experiments["scflow-coco2014"]
    assert (
        captioned.sampling.steps == dict.fromkeys(("si", "instaflow", "scflow"), [1, 2, 4])
        and captioned.metrics.reference.steps == 4
    )
    assert captioned.sampling.solvers == {
        "si": {"guided-1": [2], "guided-3": [2], "guided-5": [2]},
        "scflow": {"guided-1.5": [1], "guided-3": [1]},
    }
    # no row is left without samples, in however many steps it is drawn in earnest
    assert again.sampling.steps == {"si": [2], "instaflow": [1, 4], "scflow": [1, 2, 4]}
    for name in ("coco2017", "coco2014"):
        assert (
            small.experiments[f"scflow-{name}"].sampling.count
            <= small.features[name].reference
            == tiny_archives.OF_COCO
        )


def test_a_cpu_is_spared_what_only_a_gpu_takes(paper):
    fast = copy.deepcopy(paper)
    fast["compute"]["processes"] = 4
    fast["experiments"]["fmm-cifar10"]["training"] |= {
        "precision": "tf32",
        "channels_last": True,
        "compile": True,
        "cuda_graphs": True,
    }
    fast["experiments"]["selfdistill-cifar10"]["training"] |= {"precision": "bf16", "processes": 8}
    small = tiers.Tier.model_validate(rehearse.small(fast, "cpu", 16))
    own = small.experiments["fmm-cifar10"].training
    assert (own.precision, own.channels_last, own.compile, own.cuda_graphs) == (None, True, None, None)
    assert (small.compute.processes, small.compute.workers) == (1, 4)
    assert small.experiments["selfdistill-cifar10"].training.precision == "bf16" and small.processes == 1
    two = tiers.Tier.model_validate(rehearse.small(fast, "cuda", 2))
    assert (
        two.compute.processes == 2
        and two.compute.workers == 1
        and two.experiments["fmm-cifar10"].training.compile
        and two.experiments["fmm-cifar10"].training.precision == "tf32"
    )
    assert two.experiments["selfdistill-cifar10"].training.processes == 2
    assert two.experiments["fmm-cifar10"].training.batch == 16 == two.tour.training.batch, (
        "a process without a sample would be refused"
    )
    assert rehearse.narrow({"channels": [320, 1280, 48], "heads": 8, "groups": 32}) == [64, 256, 32]


# Tiny archives


@pytest.mark.parametrize("name", PAPER)
def test_tiny_archives_are_read_by_the_real_readers_and_refused_without_their_word(archive_folder, name):
    source, folder = replace(PAPER[name].SOURCE), archive_folder / name
    assert source.pixels.shape == (tiny_archives.COUNT, *data.load(name).shape) and 0.3 < source.scale < 0.7
    assert len({image.tobytes() for image in source.pixels}) == tiny_archives.COUNT
    with pytest.raises(
        archives.ArchiveError,
        match=f"{name} holds a rehearsal's tiny archives .rehearsal.json says so.: put .* from https://",
    ):
        PAPER[name].check()
    (folder / stand_in.FILE).unlink()
    with pytest.raises(
        archives.ArchiveError,
        match=r"has md5 \w+ instead of c32a1d4|holds 40 images .*instead of [\d,]+.*: get",
    ):
        _ = replace(PAPER[name].SOURCE).scale


def test_published_files_beside_a_rehearsals_word_are_told_from_damaged_ones(archive_folder):
    stand_in.mark(archive_folder / "cifar10", stand_in.StandIn({"train": 40}, "0" * 32))
    with pytest.raises(
        archives.ArchiveError,
        match=r"instead of 0{32}: .*cifar10/rehearsal.json says what .* delete it if these are the published",
    ):
        cifar10.pixels()
    stand_in.mark(archive_folder / "afhq64", stand_in.StandIn({"train": 41}))
    with pytest.raises(
        archives.ArchiveError, match="holds 40 images instead of 41.*: .*afhq64/rehearsal.json says what"
    ):
        afhq64.FOLDER.pixels()
    with pytest.raises(ValueError, match="hold train and not 'val': run `python -m fewstep rehearse` again"):
        stand_in.StandIn({"train": 40}).count("val")


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"images": 3, "md5": null}', '{"images": {"train": "many"}, "md5": null}']
)
def test_a_broken_word_is_one_sentence(tmp_path, text):
    (tmp_path / stand_in.FILE).write_text(text, encoding="utf-8")
    with pytest.raises(
        ValueError, match=r"rehearsal.json cannot be read \(\w+\): delete it and the archives beside it"
    ):
        stand_in.read(tmp_path)


# Which stages


@pytest.fixture(scope="module")
def plan(root) -> tuple[pipeline.Stage, ...]:
    return pipeline.plan(root, "paper")


def names(stages) -> list[str]:
    return [stage.name.replace("@paper-", "@").removesuffix("@paper") for stage in stages]


def test_a_named_stage_brings_what_it_needs_and_nothing_else(plan):
    everything = set(names(plan))
    preparations = {name for name in everything if name.startswith("prepare")}
    found = names(rehearse.chosen(plan, ["students@fmm-imagenet32"]))
    assert found == ["check", "teacher@fmm-imagenet32", "students@fmm-imagenet32"]
    found = names(rehearse.chosen(plan, ["sample-captions@paper-scflow-coco2014"]))
    assert found == [
        "check",
        "prepare-captions@laion",
        "teacher-captions@scflow-coco2017",
        "students-captions@scflow-coco2017",
        "sample-captions@scflow-coco2014",
    ]
    found = names(rehearse.chosen(plan, ["measure@selfdistill-afhq64"]))
    own = [
        "prepare@afhq64",
        "students@selfdistill-afhq64",
        "sample@selfdistill-afhq64",
        "measure@selfdistill-afhq64",
    ]
    assert found == ["check", *own]
    assert rehearse.chosen(plan, []) == list(plan)
    assert set(names(rehearse.chosen(plan, ["publish"]))) == everything and len(preparations) == 6
    with pytest.raises(
        RehearsalError,
        match="there is no stage 'students@fmm-cifar' at tier paper; there are students@fmm-cifar10, ",
    ):
        rehearse.chosen(plan, ["students@fmm-cifar"])


# The tree


def test_nothing_but_a_rehearsal_is_replaced(clone):
    (clone / "artifacts" / "rehearsal").mkdir(parents=True)
    (clone / "artifacts" / "rehearsal" / "thesis.txt").touch()
    with pytest.raises(
        RehearsalError,
        match="artifacts/rehearsal holds something that is no rehearsal's: move it away or delete it",
    ):
        rehearse.rehearse(clone, "cpu", ["prepare@cifar10"])
    assert (clone / "artifacts" / "rehearsal" / "thesis.txt").exists()


def test_no_number_of_a_rehearsal_passes_for_a_real_one(clone, root, monkeypatch):
    tree = rehearse.lay_out(clone, "cpu", 1)
    assert provenance.revision(tree) == "rehearsal" != provenance.revision(root)
    monkeypatch.setenv(archives.ENVIRONMENT, str(tree / "data" / "paper"))
    for module in PAPER.values():
        monkeypatch.setattr(module, "SOURCE", replace(module.SOURCE))
    settings = tiers.load(tree / "params.yaml", "paper")
    bench = features.FeaturePreparation(
        "cifar10", Workspace(tree, "paper"), settings.features["cifar10"], "cpu"
    )
    images, split = features._images(bench.settings)
    extractor = features._extractor(bench, None)
    assert (
        len(images) == 40
        and split == "all 40 training images of a rehearsal's stand-in for cifar10"
        and "stand-in" in extractor.name
    )
    drawn = features._images(settings.features["imagenet32"])[1]
    assert drawn == "40 images drawn from a rehearsal's stand-in for imagenet32, as in training"
    real = (
        "extractor=inception-2015-12-05 (sha256 f58cb9b6); split=all 50000 training images of cifar10; "
        "samples=50000; "
    )
    numbers = published.load()
    assert published.lookup(numbers, "selfdistill-cifar10", "LSD", "FID", 1, real)[0] is not None
    for old, new in (
        ("all 50000 training images of cifar10", split),
        ("inception-2015-12-05 (sha256 f58cb9b6)", extractor.name),
    ):
        assert (
            published.lookup(numbers, "selfdistill-cifar10", "LSD", "FID", 1, real.replace(old, new))[1]
            == published.OTHER_PROTOCOL
        )


def running(monkeypatch, work) -> None:
    """Have stages run as `work(words, folder, environment)`, which returns their exit status."""

    def run(words, cwd, env, stdout):
        return subprocess.CompletedProcess(words, work(words, cwd, env))

    monkeypatch.setattr(rehearse.subprocess, "run", run)


def test_the_first_failure_names_its_stage_and_a_later_rehearsal_begins_afresh(clone, monkeypatch, capsys):
    calls = []

    def work(words, folder, environment):
        calls.append(words)
        assert folder == clone / "artifacts" / "rehearsal"
        assert environment[archives.ENVIRONMENT] == str(folder / "data" / "paper")
        assert not {"FEWSTEP_PIPELINE", "FEWSTEP_SCRATCH", "FEWSTEP_PROGRESS"} & set(environment)
        (folder / "artifacts" / "paper" / "states").mkdir(parents=True)
        assert not (folder / "half").exists()
        if "3-sample" in words:
            (folder / "half").mkdir()
        return int("3-sample" in words)

    monkeypatch.chdir(clone)
    monkeypatch.setenv("FEWSTEP_SCRATCH", "elsewhere")
    running(monkeypatch, work)
    stopped = "^the rehearsal stopped at the stage 'sample@paper-fmm-cifar10': see above$"
    with pytest.raises(RehearsalError, match=stopped):
        rehearse.rehearse(clone, "cpu", ["measure-images@fmm-cifar10"])
    out = capsys.readouterr().out
    assert "[5/6] sample@paper-fmm-cifar10" in out and "measure-images@paper-fmm" not in out
    assert "Its numbers mean nothing" in out and "about a fifth of their channels" in out
    assert calls[0][1:4] == ["-m", "fewstep", "check"] and len(calls) == 5
    everything = {path.relative_to(clone).parts[0] for path in clone.rglob("*") if path.is_file()}
    assert everything == {"artifacts", "notebooks", "params.yaml", "dvc.yaml", "paper"}
    assert {path.name for path in (clone / "artifacts").iterdir()} == {"rehearsal"}
    rehearse.rehearse(clone, "cpu", ["teacher@fmm-cifar10"])
    assert [words[3] for words in calls[5:]] == ["check", "run"]
    assert not (clone / rehearse.TREE / "artifacts" / "paper" / "states").exists()


def test_a_second_rehearsal_leaves_the_first_alone(clone, monkeypatch):
    """Else it would delete the tree under a stage that runs."""
    running_now, said = [], []

    def work(words, folder, environment):
        assert not running_now, "the second one runs"
        running_now.append(words)
        half = folder / "half"
        half.write_text("of a stage", encoding="utf-8")
        with pytest.raises(
            RehearsalError, match="^another rehearsal is running in .*: wait for its end"
        ) as e:
            rehearse.rehearse(clone, "cpu", ["check"])
        said.append(str(e.value))
        assert half.read_text(encoding="utf-8") == "of a stage"
        running_now.clear()
        return 1

    monkeypatch.chdir(clone)
    running(monkeypatch, work)
    for _ in range(2):  # the tree is free again, however a rehearsal ended
        with pytest.raises(RehearsalError, match="stopped at the stage 'check@paper'"):
            rehearse.rehearse(clone, "cpu", ["check"])
    assert len(said) == 2


def test_cuda_is_refused_where_there_is_none(clone):
    import torch

    if torch.cuda.is_available():
        return
    with pytest.raises(RuntimeError, match="no CUDA device is visible"):
        rehearse.rehearse(clone, "cuda")


def test_a_small_rehearsal_runs_and_keeps_to_its_tree(clone):
    """Features in the published format and a training, as anybody would start them."""
    before = {path: path.stat().st_mtime_ns for path in clone.rglob("*")}
    stages = ["prepare@cifar10", "teacher@fmm-checkerboard"]
    words = [sys.executable, "-m", "fewstep", "rehearse", "--device", "cpu", *stages]
    source = str(Path(rehearse.__file__).parents[2])
    done = subprocess.run(
        words, cwd=clone, env=os.environ | {"PYTHONPATH": source}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "[2/3] prepare@paper-cifar10" in done.stdout and "3 stages ran in" in done.stdout
    outside = [path for path in clone.rglob("*") if clone / "artifacts" not in [path, *path.parents]]
    now = {path: path.stat().st_mtime_ns for path in outside}
    assert {path: time for path, time in before.items() if path != clone} == {
        path: time for path, time in now.items() if path != clone
    }
    made = clone / "artifacts" / "rehearsal" / "artifacts" / "paper"
    described = json.loads((made / "features" / "cifar10" / "described.json").read_text(encoding="utf-8"))
    assert described["features"] == 3 and described["images"].endswith("a rehearsal's stand-in for cifar10")
    log, info = load_checkpoint(made / "fmm-checkerboard" / "teacher" / "si" / "seed-0.safetensors")
    assert info["steps"] == 2 and (log["log.gradient_norm"] > 0).all() and info["network"]["width"] == 512
    assert not (made / "states").exists()
    timings = pd.read_csv(clone / "artifacts" / "rehearsal" / "results" / "paper" / "timings.csv")
    assert timings.stage.tolist() == ["0-prepare-cifar10", "1-teacher-fmm-checkerboard"]


# Untrained networks in the place of published ones


@pytest.mark.parametrize("channels", [tiny_networks.AUTOENCODER, tiny_networks.NARROW_AUTOENCODER])
def test_the_stand_in_autoencoder_makes_latents_of_the_published_spread(tmp_path, channels):
    """Else a rehearsal stops at its first latents, which would be taken for those of another scale."""
    from diffusers import AutoencoderKL

    from fewstep.data.latents import DEVIATION
    from fewstep.settings.prepared import SCALE

    tiny_networks.autoencoder(tmp_path, channels)
    assert stand_in.is_marked(tmp_path)
    model = AutoencoderKL.from_pretrained(tmp_path)
    assert model.config.block_out_channels == list(channels)
    pictures = tiny_archives.levels(2, (64, 64), 400) / 127.5 - 1
    with torch.no_grad():
        found = model.encode(pictures).latent_dist
    deviation = SCALE * (found.mean.var(unbiased=False) + found.std.square().mean()).sqrt()
    assert DEVIATION[0] < deviation < DEVIATION[1]


@pytest.fixture
def home(tmp_path, monkeypatch) -> Path:
    """A folder to which FEWSTEP_DATA points."""
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("towers", ["both", "text"])
def test_the_stand_in_clip_is_read_as_the_published_one_and_refused_as_one(home, towers, capfd):
    repository = "openai/clip-vit-large-patch14"
    tiny_networks.clip(home / "clip-vit-large-patch14", 24, towers)
    capfd.readouterr()
    found, described = clip.published(repository, towers)
    assert capfd.readouterr().err == "" and described["clip"] == f"a rehearsal's stand-in for {repository}"
    captions = tiny_archives.captions()[:3]
    captioned = found.text([*captions, ""])
    assert (
        captioned.hidden.shape == (4, 77, 24)
        and captioned.hidden.std() > 0.1
        and not torch.allclose(captioned.hidden[0], captioned.hidden[1], atol=0.01)
    )
    assert (captioned.mask.sum(1) > 2).tolist() == [True] * 3 + [False]
    if towers == "both":
        scores = found.score(torch.randint(0, 256, (3, 3, 512, 512), dtype=torch.uint8), captions)
        assert scores.shape == (3,) and scores.isfinite().all()
    with pytest.raises(ValueError, match="holds a rehearsal's CLIP"):
        clip.repository_of(repository, towers).check(True)


def test_stand_in_weights_are_those_of_a_conversion_and_no_two_methods_the_same(tmp_path):
    network = {
        "kind": "published_unet",
        "channels": [8, 16],
        "layers": 1,
        "attention": [True, False],
        "heads": 2,
        "groups": 4,
        "width": 12,
        "checkpointing": True,
    }
    paths = [tmp_path / "instaflow" / f"{name}.safetensors" for name in ("si", "instaflow")]
    for seed, path in enumerate(paths):
        tiny_networks.weights(path, network, (4, 8, 8), seed)
    assert stand_in.is_marked(tmp_path / "instaflow")
    flow_map, other = (load_flow_map(path) for path in paths)
    info = published_weights.header(paths[0])
    assert (
        info["network"] == network
        and info["shape"] == [4, 8, 8]
        and info["steps"] == 0
        and info["source"]["file"] == stand_in.FILE
    )
    tensors = load_checkpoint(paths[0])[0]
    assert len(tensors["log.loss"]) == len(tensors["log.gradient_norm"]) == 0
    captioned = Conditions(torch.randn(2, 5, 12), torch.ones(2, 5, dtype=torch.bool))
    x, t = torch.randn(2, 4, 8, 8), torch.tensor([0.2, 0.7])
    velocities = [conditioned(flow, captioned).velocity(t, x) for flow in (flow_map, other)]
    # an untrained network has a last layer of zeros, and would teach its students nothing
    assert velocities[0].std() > 0.01 and not torch.allclose(*velocities, atol=0.01)


def test_networks_are_written_where_a_chosen_stage_takes_them(clone, monkeypatch):
    made = []
    monkeypatch.setattr(
        tiny_networks, "autoencoder", lambda place, channels: made.append((place.name, channels))
    )
    monkeypatch.setattr(
        tiny_networks, "clip", lambda place, width, towers: made.append((place.name, width, towers))
    )

    def weights(path, network, shape, seed):
        made.append((path.name, network["channels"][0], shape, seed))

    monkeypatch.setattr(tiny_networks, "weights", weights)
    tier = tiers.load(clone / "params.yaml", "paper")
    plan = pipeline.plan(clone, "paper")
    rehearse._write_networks(
        tier, clone, True, rehearse.chosen(plan, ["prepare@cifar10", "students@fmm-cifar10"])
    )
    assert made == [], "no stage takes a published network"
    stages = rehearse.chosen(plan, ["students-captions@scflow-coco2017"])
    names = ("2_rectified_flow", "instaflow")
    files = [(f"{name}.safetensors", 320, (4, 64, 64), k) for k, name in enumerate(names)]
    for narrow, channels in ((True, tiny_networks.NARROW_AUTOENCODER), (False, tiny_networks.AUTOENCODER)):
        made.clear()
        rehearse._write_networks(tier, clone, narrow, stages)
        assert made == [("sd-vae-ft-mse", channels), ("clip-vit-large-patch14", 768, "both"), *files]
