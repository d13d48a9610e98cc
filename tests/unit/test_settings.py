"""params.yaml: what it resolves to, and every mistake in it is one sentence that names the key."""

from __future__ import annotations

import copy
import inspect
import json
import os
import re
import shutil
import subprocess
import sys
from functools import reduce
from pathlib import Path

import pytest
import torch
from dvc.utils.hydra import apply_overrides

from fewstep import __main__ as command_line
from fewstep import objectives
from fewstep.flows.exact.straight import StraightFlow
from fewstep.flows.interpolants import Batch
from fewstep.settings import document, names, prepared, resolve, tiers, training  # fmt: skip
from fewstep.settings.tiers import SettingsError

CELEBA, COCO = "scflow-celebahq", "scflow-coco2017"
GONE = object()
# what ~ stands for below
HERE = "tiers.smoke.experiments"


@pytest.fixture
def params(root, tmp_path) -> Path:
    """A copy of params.yaml to spoil."""
    shutil.copy(root / "params.yaml", tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


def spoil(path: Path, key: str, value: object) -> None:
    """Set the value of the dotted `key`, or take it away."""
    raw = copy.deepcopy(document.parse(path.read_text(encoding="utf-8")))
    *above, last = key.replace("~", HERE).split(".")
    owner = reduce(lambda owner, part: owner.setdefault(part, {}), above, raw)
    if value is GONE:
        del owner[last]
    else:
        owner[last] = value
    # which is YAML, and written faster
    path.write_text(json.dumps(raw), encoding="utf-8")


def leaves(tree: object, path: tuple = ()) -> dict[tuple, object]:
    """Every value below `tree` that is no mapping, and no list of mappings, by its path."""
    if isinstance(tree, list) and any(isinstance(item, dict) for item in tree):
        tree = dict(enumerate(tree))
    if isinstance(tree, dict):
        return {k: v for key, part in tree.items() for k, v in leaves(part, (*path, key)).items()}
    return {path: tree}


def message_of(path: Path, tier: str = "smoke") -> str:
    with pytest.raises(SettingsError) as caught:
        tiers.load(path, tier)
    assert "\n" not in str(caught.value) and str(path) in str(caught.value)
    return str(caught.value)


SI = [{"objective": "si", "times": {"region": "diagonal"}}]


@pytest.mark.parametrize(
    "key, value, sentence",
    [
        ("~.tour.training.stepz", 120, "unknown key '~.tour.training.stepz'"),
        ("tiers.smoke.experimens", {}, "unknown key 'tiers.smoke.experimens'"),
        ("tiers.smoke.compute", GONE, "the key 'tiers.smoke.compute' is missing"),
        ("tiers.small", {}, "tiers.small ... 'smoke', 'laptop', 'overnight' or 'paper'"),
        ("experimens", {}, "unknown key 'experimens'"),
        ("experiments.tour.methods.si.stepz", 120, "unknown key 'experiments.tour.methods.si.stepz'"),
        ("~.tour.training.steps", GONE, "the key '~.tour.training.steps' is missing"),
        ("~.tour.methods.si.steps", "ten", "~.tour.methods.si.steps: ... valid integer, not 'ten'"),
        ("~.tour.training.steps", 0, "~.tour.training.steps: ... greater than or equal to 1, not 0"),
        ("tiers.smoke.compute.device", "tpu", "tiers.smoke.compute.device: ... 'cpu' or 'cuda', not 'tpu'"),
        ("~.tour.training.batch", 128.5, "~.tour.training.batch: ... integer"),
        ("~.tour.training.processes", 129, "processes: ... less than or equal to 64, not 129"),
        (
            "~.tour.training",
            {
                "network": "points",
                "optimiser": "points",
                "batch": 8,
                "seeds": [0],
                "processes": 9,
                "steps": 9,
            },
            "9 processes cannot share a batch of 8: lower `processes`, or raise `batch`",
        ),
        ("~.tour.training.processes", 0, "~.tour.training.processes: ... greater than or equal to 1, not 0"),
        (
            "experiments.tour.training.data",
            "chessboard",
            "there is no data set 'chessboard'; there are ... checkerboard",
        ),
        (
            "experiments.tour.training.interpolant",
            "cubic",
            "there is no interpolant 'cubic'; there are linear",
        ),
        ("~.tour.training", 3, "~.tour.training: this must hold keys, and is"),
        (
            "tiers.smoke.networks.points.kind",
            "resnet",
            "tiers.smoke.networks.points: there is no network 'resnet'; there are mlp, unet, adm",
        ),
        ("tiers.smoke.networks.points.widht", 32, "unknown key 'tiers.smoke.networks.points.widht'"),
        (
            "tiers.smoke.optimisers.tour.lr",
            -1.0,
            "tiers.smoke.optimisers.tour.lr: ... greater than 0, not -1.0",
        ),
        (
            "terms.lmd",
            [{"objective": "lmdd", "times": {"region": "forward"}}],
            "there is no objective 'lmdd'; there are ... lmd",
        ),
        (
            "terms.lmd",
            [{"objective": "lmd", "times": {"region": "forward"}, "options": {"gradiant": "semi"}}],
            "the objective 'lmd' has no setting 'gradiant'; it has gradient",
        ),
        (
            "terms.lmd",
            [{"objective": "lmd", "share": 0.5, "times": {"region": "forward"}}],
            "shares of the terms must add up to 1, not 0.5",
        ),
        (
            "terms.lmd",
            [{"objective": "lmd", "times": {"region": "forward", "strip": 0.0}}],
            "terms.lmd.0.times.strip: ... greater than 0",
        ),
        ("experiments.tour.methods.lmd.teacher", "se", "names the teacher 'se', which is not a method here"),
        (
            "experiments.tour.methods.lmd.teacher",
            GONE,
            "the objective 'lmd' distils a teacher; name one under `teacher`",
        ),
        (
            "~.fmm-checkerboard.training.seeds",
            [0, 0],
            "~.fmm-checkerboard.training.seeds: 0 stands there twice: name each once",
        ),
        (
            "experiments.tour.sampling.samplers.lmd",
            "hops",
            "samplers.lmd: ... 'jumps', 'euler', 'heun' or 'guided-<scale>', not 'hops'",
        ),
        (
            "experiments.tour.sampling.samplers.si",
            GONE,
            "`sampling` must give the steps and the sampler of the method 'si'",
        ),
        (
            "~.tour.sampling.steps.sy",
            [1],
            "`sampling` names 'sy', which is not a method here; there are si, lmd",
        ),
        ("~.fmm-checkerboard.metrics.w2_samples", 5000, "w2_samples (5000) exceeds the samples drawn (4000)"),
        ("~.fmm-checkerboard.metrics.reference.steps", 17, "si at 17 steps, which `sampling` does not draw"),
        ("~.tour.metrics", {}, "the measure 'kl' needs `metrics.bins`"),
        (
            "experiments.fmm-cifar10.metrics.measures",
            ["fid", "kl"],
            "measures points (kl, ... ) or images (fid, ... ), not both",
        ),
        (
            "experiments.fmm-cifar10.metrics.measures",
            ["fid", "frechet"],
            "experiments.fmm-cifar10.metrics.measures.1: ... 'fid' ... not 'frechet'",
        ),
        (
            "experiments.fmm-cifar10.metrics.features",
            GONE,
            "the measure 'fid' needs `metrics.features`: the name of an entry of `features`",
        ),
        (
            "experiments.fmm-cifar10.metrics.features",
            "cifar",
            "measured in the features 'cifar'; there are cifar10, imagenet32, celebahq",
        ),
        (
            "experiments.fmm-cifar10.metrics.features",
            "imagenet32",
            "models 'digits' and its features are of 'patches'",
        ),
        (
            "tiers.smoke.features.cifar10.data",
            "digit",
            "this is a data set of images, and 'digit' is none; there are ... digits",
        ),
        (
            "tiers.smoke.features.cifar10.extractor",
            "resnet",
            "tiers.smoke.features.cifar10.extractor: ... 'classifier' or 'inception', not 'resnet'",
        ),
        (
            "~.fmm-cifar10.sampling.solvers",
            {"sy": {"heun": [1]}},
            "`sampling.solvers` names 'sy', which is not a method here",
        ),
        (
            "~.fmm-cifar10.sampling.solvers.si.heun",
            [0],
            "sampling.solvers.si.heun.0: ... greater than or equal to 1, not 0",
        ),
        (
            "~.fmm-cifar10.sampling.solvers.si.rk4",
            [1],
            "solvers.si.rk4 ... 'heun', 'adaptive', ... 'renoised-<gamma>' or 'sde-<epsilon>', not 'rk4'",
        ),
        (
            "~.fmm-cifar10.sampling.steps.exact",
            [2],
            "the exact velocity of 'digits' is not known: remove 'exact'",
        ),
        (
            "experiments.scflow-celebahq.methods.scflow.self_correction.reflow.weight",
            -0.1,
            "self_correction.reflow.weight: ... greater than or equal to 0, not -0.1",
        ),
        (
            "experiments.scflow-celebahq.methods.scflow.self_correction.threshold",
            0.0,
            "self_correction.threshold: ... greater than 0, not 0.0",
        ),
        (
            "experiments.scflow-celebahq.methods.scflow.self_correction.truncaton",
            0.4,
            "unknown key 'experiments.scflow-celebahq.methods.scflow.self_correction.truncaton'",
        ),
        (
            "experiments.scflow-celebahq.methods.scflow.start",
            GONE,
            "`self_correction` starts from its teacher: ... `start: teacher`",
        ),
        (
            "experiments.scflow-celebahq.methods.scflow.terms",
            "si",
            "give a method either `terms` or `self_correction` or `distribution_matching`",
        ),
        (
            "experiments.zoo-checkerboard.methods.sid.start",
            GONE,
            "`distribution_matching` starts from its teacher: ... `start: teacher`",
        ),
        (
            "experiments.zoo-checkerboard.methods.sid.self_correction",
            {"threshold": 0.1, "truncation": 0.4},
            "give a method either `terms` or `self_correction` or `distribution_matching`",
        ),
        (
            "experiments.zoo-checkerboard.training.interpolant",
            "trigonometric",
            "`methods.sid.distribution_matching` is for the linear interpolant, not for 'trigonometric'",
        ),
        (
            "experiments.scflow-celebahq.training.latents",
            GONE,
            "`data: latents` and `latents`, the entry of the tier, go together",
        ),
        (
            "experiments.scflow-celebahq.training.latents",
            "celeba",
            "models the latents 'celeba'; there are celebahq",
        ),
        (
            "~.scflow-celebahq.sampling.solvers.scflow",
            {"stochastic-1.5": [2]},
            "there is no sampler 'stochastic-1.5'; ... <beta> up to 1",
        ),
        (
            "experiments.scflow-celebahq.tables.scflow-ablation",
            ["consistence"],
            "`tables.scflow-ablation` names 'consistence', which is not a row here",
        ),
        (
            "experiments.scflow-celebahq.metrics.only",
            {"fid_jpeg": ["sy"]},
            "`metrics.only.fid_jpeg` names 'sy', which is not a row here",
        ),
        (
            "experiments.scflow-celebahq.metrics.only",
            {"fid_jepg": ["si"]},
            "`metrics.only` names 'fid_jepg', which is not among the measures fid, precision, recall",
        ),
        (
            "experiments.tour.metrics.only",
            {"kl": ["lmd"]},
            "`metrics.only` is for measures of images: remove it",
        ),
        (
            "tiers.smoke.latents.celebahq.autoencoder.kind",
            "train",
            "latents.celebahq.autoencoder: there is no autoencoder 'train'; there are trained, pretrained",
        ),
        ("~.fmm-cifar10.speed.batches", [], "~.fmm-cifar10.speed.batches: ... at least 1 item"),
        (
            "~.tour.training.network",
            "large",
            "~.tour.training.network: there is no 'large'; there are points, unet, text-unet",
        ),
        (
            "~.tour.methods.si.optimiser",
            "sgd",
            "~.tour.methods.si.optimiser: there is no 'sgd'; there are tour, points, images",
        ),
        (
            "experiments.tour.methods.si.terms",
            "sy",
            "experiments.tour.methods.si.terms: there is no 'sy'; there are si, lmd",
        ),
        (
            "experiments.scflow-celebahq.methods.later.like",
            "sclow",
            "experiments.scflow-celebahq.methods.later.like: there is no 'sclow'; there are si, scflow",
        ),
        (
            "experiments.scflow-celebahq.methods.scflow.like",
            "later",
            "experiments.scflow-celebahq.methods.scflow.like: scflow is like later is like scflow: break",
        ),
        (
            "tiers.smoke.networks.points.like",
            "points",
            "tiers.smoke.networks.points.like: points is like points: break the circle",
        ),
        (
            "experiments.fmm-imagenet32.like",
            "fmm-cifar",
            "experiments.fmm-imagenet32.like: there is no 'fmm-cifar'; there are tour",
        ),
        (
            "experiments.scflow-coco2014.students_of",
            "coco",
            "experiments.scflow-coco2014.students_of: there is no 'coco'",
        ),
        ("~.mnist", {}, "tiers.smoke.experiments: there is no 'mnist'; there are tour"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(params, key, value, sentence):
    """In a sentence, ... stands for any text."""
    spoil(params, key, value)
    message = message_of(params)
    wanted = ".*".join(map(re.escape, sentence.replace("~", HERE).split(" ... ")))
    assert re.search(wanted, message), message


def test_unknown_tiers_experiments_and_methods_are_named(params, smoke):
    with pytest.raises(
        SettingsError, match="there is no tier 'huge'; there are smoke, laptop, overnight, paper"
    ):
        tiers.load(params, "huge")
    with pytest.raises(SettingsError, match="there is no experiment 'mnist'; there are fmm-checkerboard"):
        smoke.experiment("mnist")
    with pytest.raises(SettingsError, match="there is no method 'ldm' in this experiment; there are si, lmd"):
        smoke.experiment("fmm-checkerboard").method("ldm")


def test_a_tier_like_another_is_that_with_what_it_says_itself(params):
    laptop, night = (tiers.load(params, tier) for tier in ("laptop", "overnight"))
    assert night.compute == laptop.compute and night.experiments.keys() == laptop.experiments.keys()
    here, there = (tier.experiment("fmm-checkerboard") for tier in (laptop, night))
    assert there.training.network == here.training.network
    assert night.clip["captions"].steps == 2 * laptop.clip["captions"].steps
    assert night.clip["captions"].width == laptop.clip["captions"].width
    assert there.training.batch == here.training.batch and there.metrics == here.metrics
    # what a neighbour of its own says is merged before `like` among experiments is looked at
    assert night.experiment("fmm-imagenet32").training.seeds == [0, 1, 2]


@pytest.mark.parametrize(
    "key, value, sentence",
    [
        ("tiers.overnight.like", "lapto", "tiers.overnight.like: there is no 'lapto'; there are laptop"),
        ("tiers.laptop.like", "overnight", "overnight is like laptop is like overnight: break the circle"),
        (
            "tiers.laptop.experiments.tour.training.batch", "many",
            "tiers.laptop.experiments.tour.training.batch: ... integer",
        ),
        (
            "tiers.overnight.experiments.tour.methods.si.steps", "ten",
            "tiers.overnight.experiments.tour.methods.si.steps: ... integer",
        ),
        ("tiers.laptop.networks.points.depth", "deep", "tiers.laptop.networks.points.depth: ... integer"),
    ],
)  # fmt: skip
def test_a_mistake_is_named_in_the_tier_that_makes_it(params, key, value, sentence):
    spoil(params, key, value)
    wanted = ".*".join(map(re.escape, sentence.split(" ... ")))
    assert re.search(wanted, message := message_of(params, "overnight")), message


# The document


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("tier: laptop\n  smoke: [", r"is not valid YAML: .* on line 2"),
        ("tier: lapptop\n", r"`tier` must be one of smoke, laptop, overnight, paper, not 'lapptop'"),
        ("- tier\n", r"must hold the keys tier, publish, terms, experiments, tiers"),
        ("", r"must hold the keys tier, publish, terms, experiments, tiers"),
        ("tier: smoke\ntier: smoke\n", r"the key 'tier' stands on line 1 and again on line 2: remove one"),
        (
            "terms: {si: [{a: 1,\n  a: 2}]}\n",
            r"the key 'terms\.si\[0\]\.a' stands on line 1 and again on line 2",
        ),
        ("tier: &t smoke\n", r"line 1 has an anchor, an alias or a merge key: use `like`"),
        ("tier: smoke\nterms: *t\n", r"line 2 has an anchor, an alias or a merge key: use `like`"),
        ("tier: smoke\nterms: {<<: {}}\n", r"line 2 has an anchor, an alias or a merge key: use `like`"),
        ("tier: !!python/tuple [1]\n", r"is not valid YAML: .* on line 1"),
        ("tier: smoke\n---\ntier: smoke\n", r"is not valid YAML: .* on line 2"),
        ("tier: sm\x00oke\n", r"is not valid YAML: "),
    ],
)
def test_a_broken_document_is_one_sentence(params, text, sentence):
    params.write_text(text, encoding="utf-8")
    message = message_of(params)
    assert re.search(sentence, message), message


def test_a_file_that_is_missing_or_not_utf8_is_named(params, tmp_path):
    with pytest.raises(SettingsError, match="absent.yaml: it is not there: restore it"):
        tiers.load(tmp_path / "absent.yaml", "smoke")
    params.write_bytes(
        params.read_bytes().replace(b"# the same students", "# dieselben Schüler".encode("latin-1"))
    )
    assert re.search(r"params\.yaml: it is not UTF-8 from byte \d+ on: save it as UTF-8", message_of(params))


def test_scalars_are_those_of_yaml_1_2(params):
    text = "a: 1e-3\nb: 010\nc: yes\nd: 1:30\ne: 8.0e-3\nf: 'ü'\n"
    found = document.parse(text)
    assert found == {"a": 1e-3, "b": 10, "c": "yes", "d": "1:30", "e": 8e-3, "f": "ü"}
    assert isinstance(found["a"], float)


def test_the_file_has_no_anchor_and_everything_in_it_is_used(root):
    path = root / "params.yaml"
    text, raw = path.read_text(encoding="utf-8"), tiers.read(path)
    assert len(text.splitlines()) < 800
    assert not [event for event in document.YAML(typ="safe").parse(text) if getattr(event, "anchor", None)]
    said = leaves(raw)
    used = {
        key: {v for k, v in said.items() if k[-1] == key and isinstance(v, str)}
        for key in ("network", "optimiser", "terms")
    }
    assert used["terms"] == set(raw["terms"])
    for tier, sizes in raw["tiers"].items():
        for key, section in resolve.NAMED.items():
            below = {v for k, v in said.items() if k[:2] == ("tiers", tier) and k[-1] in (key, "like")}
            # what a tier like another changes of its neighbour's is named there
            own = set(sizes.get(section, {})) - set(raw["tiers"].get(sizes.get("like"), {}).get(section, {}))
            assert own <= below, (tier, section)
    assert set(raw["experiments"]) == {
        name for sizes in raw["tiers"].values() for name in sizes.get("experiments", {})
    }


# Overrides


def other(value: object) -> object:
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, list):
        return [*value, 7]
    return f"other{len(value)}" if isinstance(value, str) else 3 if value is None else value + 1


def override(path: tuple, value: object) -> str:
    """What `dvc exp run -S` takes; a key with a dot is set through the mapping that holds it."""
    said = (
        str(value).lower()
        if isinstance(value, bool)
        else str(value).replace("'", '"')
        if isinstance(value, list)
        else value
    )
    keys = list(map(str, path))
    if "." in keys[-1]:
        return f"{'.'.join(keys[:-1])}={{{keys[-1]}: {said}}}"
    return f"{'.'.join(keys)}={said}"


def test_dvc_can_override_every_setting_in_the_file(params):
    """`dvc exp run -S` rewrites params.yaml: each value alone, and no other through an alias of it."""
    read = document.YAML(typ="safe").load
    before = leaves(read(params.read_text(encoding="utf-8")))
    changed = {path: other(value) for path, value in before.items()}
    apply_overrides(params, [override(path, value) for path, value in changed.items()])
    after = leaves(read(params.read_text(encoding="utf-8")))
    assert after == changed and len(changed) > 600


@pytest.mark.parametrize("k", range(8))
def test_an_override_changes_one_setting_and_nothing_else(params, k):
    read = document.YAML(typ="safe").load
    before = leaves(read(params.read_text(encoding="utf-8")))
    path = list(before)[k * len(before) // 8]
    apply_overrides(params, [override(path, other(before[path]))])
    assert leaves(read(params.read_text(encoding="utf-8"))) == before | {path: other(before[path])}


def test_dvc_can_override_a_setting_that_only_the_experiment_or_the_tier_gives(params):
    key = "tiers.smoke.experiments.fmm-checkerboard.methods.lmd.steps"
    apply_overrides(params, ["tier=smoke", f"++{key}=100", "++tiers.smoke.experiments.tour.metrics.bins=7"])
    settings = tiers.load(params, "smoke")
    methods = settings.experiment("fmm-checkerboard").methods
    assert {name: method.steps for name, method in methods.items()} == dict.fromkeys(methods, 120) | {
        "lmd": 100
    }
    assert settings.tour.metrics.bins == 7 and tiers.read(params)["tier"] == "smoke"


# Resolution


def test_what_a_tier_says_is_merged_over_what_the_experiment_says():
    file = {
        "terms": {"si": ["a term"]},
        "experiments": {
            "tour": {"training": {"data": "a"}},
            "one": {
                "training": {"data": "a"},
                "methods": {
                    "base": {"label": "B", "terms": "si", "loss": {"x": 1, "y": {"z": 2}}},
                    "row": {"like": "base", "label": "R", "loss": {"y": None}},
                },
                "sampling": {
                    "samplers": {"others": "euler", "row": "jumps"},
                    "solvers": {"base": {"heun": [1]}},
                },
                "speed": {"repeats": 3},
            },
            "two": {"like": "one", "sampling": {"solvers": None}, "speed": None},
            "three": {"students_of": "one", "sampling": {"count": 3}},
            "elsewhere": {},
        },
        "tiers": {
            "smoke": {
                "compute": {"device": "cpu"},
                "networks": {"small": {"width": 1, "depth": 2}, "wide": {"like": "small", "width": 9}},
                "optimisers": {"adam": {"lr": 1}},
                "experiments": {
                    "tour": {},
                    "one": {
                        "training": {"network": "wide", "optimiser": {"lr": 2}, "steps": 10},
                        "methods": {"base": {"loss": {"x": 5}, "optimiser": "adam"}, "row": {"steps": 20}},
                        "sampling": {"steps": {"others": [1, 2], "exact": [80]}},
                    },
                    "two": {"training": {"data": "b"}, "methods": {"row": {"steps": 30}}},
                    "three": {},
                },
            }
        },
    }
    before = document.dump(file)
    found = resolve.resolve(file, "smoke")
    assert document.dump(file) == before, "the file is left alone"
    assert found["compute"] == {"device": "cpu"} and found["tour"]["training"] == {"data": "a"}
    one, two, three = (found["experiments"].pop(name) for name in ("one", "two", "three"))
    assert found["experiments"] == {}
    training = {"data": "a", "network": {"width": 9, "depth": 2}, "optimiser": {"lr": 2}}
    shared = {"terms": ["a term"], "optimiser": {"lr": 1}}
    assert one == {
        "training": training,
        "methods": {
            "base": {"label": "B", "steps": 10, "loss": {"x": 5, "y": {"z": 2}}, **shared},
            "row": {"label": "R", "steps": 20, "loss": {"x": 5}, **shared},
        },
        "sampling": {
            "samplers": {"base": "euler", "row": "jumps"},
            "solvers": {"base": {"heun": [1]}},
            "steps": {"base": [1, 2], "row": [1, 2], "exact": [80]},
        },
        "speed": {"repeats": 3},
    }
    assert list(one["methods"]) == ["base", "row"] and list(one["sampling"]["steps"]) == [
        "base",
        "row",
        "exact",
    ]
    assert two["training"] == training | {"data": "b"} and two["methods"]["row"]["steps"] == 30
    assert two["methods"]["base"] == one["methods"]["base"] and not {"speed"} & set(two)
    assert "solvers" not in two["sampling"] and two["sampling"]["steps"] == one["sampling"]["steps"]
    assert (three["training"], three["methods"]) == (one["training"], one["methods"])
    assert three["sampling"] == {"count": 3} and three["students_of"] == "one"


@pytest.mark.parametrize("tier", tiers.TIERS)
def test_resolved_settings_written_as_a_file_resolve_to_themselves(root, tmp_path, tier):
    found = tiers.section(root / "params.yaml", tier)
    (tmp_path / "params.yaml").write_text(document.dump(resolve.as_file(found, tier)), encoding="utf-8")
    assert tiers.section(tmp_path / "params.yaml", tier) == found
    assert tiers.load(tmp_path / "params.yaml", tier) == tiers.load(root / "params.yaml", tier)


# The commands


def run(monkeypatch, capsys, folder: Path, *words: str) -> tuple[int, str, str]:
    """The status, the output and the errors of a command in the repository `folder`."""
    (folder / "dvc.yaml").touch()
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, "argv", ["fewstep", *words])
    return command_line.main(), *capsys.readouterr()


@pytest.mark.parametrize(
    "name", ["fmm-checkerboard", "tour", CELEBA, "features/coco2014", "latents/laion", "clip/captions"]
)
def test_settings_prints_what_an_entry_comes_to(params, monkeypatch, capsys, name):
    status, printed, _ = run(monkeypatch, capsys, params.parent, "settings", name, "--tier", "smoke")
    settings = tiers.load(params, "smoke")
    section, _, entry = name.rpartition("/")
    owner = getattr(settings, section)[entry] if section else settings.every[name]
    assert status == 0 and owner == type(owner).model_validate(document.parse(printed))


def test_settings_names_what_there_is(params, monkeypatch, capsys):
    status, _, said = run(monkeypatch, capsys, params.parent, "settings", "mnist")
    assert status == 1 and said.count("\n") == 1
    assert re.search(
        r"there is no 'mnist'; there are tour, fmm-checkerboard, .*features/cifar10, .*clip/captions", said
    )


@pytest.mark.parametrize(
    "line",
    [
        "tier: laptop",
        '"tier": laptop',
        "'tier': 'laptop'",
        "tier : laptop # mine",
        "tier:\n  laptop",
        'tier: "laptop"',
        "? tier\n: laptop",
    ],
)
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_tier_changes_the_value_and_nothing_else(params, monkeypatch, capsys, line, end):
    text = params.read_text(encoding="utf-8").replace("tier: laptop", line).replace("\n", end)
    params.rename(params.with_name("own.yaml"))
    params.symlink_to("own.yaml")
    params.write_bytes(text.encode())
    status, printed, _ = run(monkeypatch, capsys, params.parent, "tier", "smoke")
    assert status == 0 and printed == "the tier is now smoke\n" and params.is_symlink()
    changed = params.read_bytes().decode()
    assert tiers.read(params)["tier"] == "smoke"
    for bare in ("'laptop'", '"laptop"', "laptop"):
        if bare in line:
            wanted = text.replace(line.replace("\n", end), line.replace("\n", end).replace(bare, "smoke"))
            assert changed == wanted
            break


def test_tier_mends_a_wrong_one_and_says_when_it_cannot(params, monkeypatch, capsys):
    good = params.read_text(encoding="utf-8")
    params.write_text(good.replace("tier: laptop", "tier: lapptop"), encoding="utf-8")
    assert run(monkeypatch, capsys, params.parent, "tier", "laptop")[0] == 0
    assert params.read_text(encoding="utf-8") == good
    for text, words, sentence in (
        (good, "huge", r"there is no tier 'huge'; there are smoke, laptop, overnight, paper"),
        (
            good.replace("tier: laptop\n", ""),
            "smoke",
            r"there is no top-level `tier` whose value could be replaced",
        ),
        (
            good.replace("tier: laptop\n", "tier: |\n  laptop\n"),
            "smoke",
            r"there is no top-level `tier` whose value",
        ),
        (good.replace("tier: laptop\n", "tier: &t laptop\n"), "smoke", r"an anchor, an alias or a merge key"),
        (good.replace("  smoke:\n", "  smok:\n"), "smoke", r"tiers\.smok"),
    ):
        params.write_text(text, encoding="utf-8")
        status, _, said = run(monkeypatch, capsys, params.parent, "tier", words)
        assert status == 1 and said.count("\n") == 1 and re.search(sentence, said), said
        assert params.read_text(encoding="utf-8") == text


def test_settings_are_frozen(smoke):
    with pytest.raises(Exception, match="frozen"):
        smoke.compute.workers = 3


def test_the_paper_tier_without_a_gpu_is_refused_in_one_sentence(root):
    if torch.cuda.is_available():
        return
    done = subprocess.run(
        [sys.executable, "-m", "fewstep", "check", "--tier", "paper"],
        cwd=root,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1 and "no CUDA device is visible" in done.stderr


# What is possible


def test_the_settings_of_objectives_are_what_their_signatures_say():
    """What the schema reads there, each objective takes, and it refuses anything else."""
    x0, times = torch.zeros(4, 2), torch.full((4,), 0.5)
    flow = StraightFlow(torch.eye(2), torch.ones(2))
    batch = Batch(x0, flow.end(x0), times, times, times)
    seen = set()
    for name in objectives.names():
        function = objectives.load(name)
        parameters = inspect.signature(function).parameters
        teacher = {"teacher": flow} if "teacher" in parameters else {}
        for key in parameters.keys() - {"student", "batch", "teacher", "stopped"}:
            default, limits = parameters[key].default, objectives.limits(name, key)
            assert not isinstance(default, str) or default in limits
            if isinstance(default, str):
                refused = ["other"]
            else:
                refused = [limits[0] - 1, limits[1] + 1] if limits else []
            for value in limits:
                found = function(flow, batch, **teacher, **{key: value})
                assert found.shape == (4,) and found.isfinite().all()
                training.Term(objective=name, times={"region": "forward"}, options={key: value})
            for value in refused:
                seen.add((name, key))
                with pytest.raises(ValueError, match=f"{key} must be (one of|a number from)"):
                    function(flow, batch, **teacher, **{key: value})
                with pytest.raises(ValueError, match=f"`options.{key}` must be"):
                    training.Term(objective=name, times={"region": "forward"}, options={key: value})
    assert seen >= {("lmd", "gradient"), ("psd", "split"), ("meanflow", "warmup"), ("imm", "c")}


def test_pairs_need_an_even_share_of_each_process():
    term = training.Term(objective="imm", times={"region": "forward"})
    method = training.Method(label="IMM", steps=1, terms=[term])
    assert [*method.batch_problems(8, 2)] == [*method.batch_problems(6, 1)] == []
    for batch, processes in ((7, 1), (6, 2)):
        (said,) = method.batch_problems(batch, processes)
        assert f"must be a multiple of {2 * processes}: change `batch` or `share`" in said


@pytest.mark.parametrize("name", ["a", "A-1", "psd-m", "stochastic-0.5", "1.b", "a" * 64])
def test_what_can_be_a_name(name):
    assert names.check_name(name) == name


@pytest.mark.parametrize(
    "name", ["", "..", ".a", "-a", "_a", "a/b", "a b", "ä", "a\n", "a;b", "$a", "a" * 65]
)
def test_what_cannot_be_a_name(name):
    with pytest.raises(ValueError, match=r"a name is made of .*a letter or digit first: rename"):
        names.check_name(name)


def test_the_ends_of_what_is_possible_are_taken(params):
    """Each limit is the last number that is allowed."""
    here = "tiers.smoke.experiments.fmm-checkerboard"
    for key, value in (
        (f"{here}.training.seeds", [0, 2**31 - 1]),
        (f"{here}.training.steps", 10_000_000),
        (f"{here}.training.batch", 1_000_000),
        (f"{here}.sampling.count", 10_000_000),
        (f"{here}.sampling.steps.lmd", [1, 10_000]),
        (f"{here}.metrics.bins", 1000),
        ("tiers.smoke.optimisers.points.lr", 1),
        ("tiers.smoke.optimisers.points.clip_norm", 1_000_000),
        ("tiers.smoke.networks.points.width", 65_536),
        ("tiers.smoke.networks.points.depth", 1024),
        ("tiers.smoke.latents.celebahq.count", 8000),
        ("tiers.smoke.features.imagenet32.reference", 65),
        ("experiments.fmm-checkerboard.methods.lmd.label", "ü" * 80),
        ("experiments.fmm-cifar10.sampling.solvers", {"si": {"adaptive": [6], "guided-100": []}}),
    ):
        spoil(params, key, value)
    message = message_of(params)
    assert "solvers.si.guided-100` draws nothing" in message and "more after it" not in message


# The command line


@pytest.mark.parametrize(
    "error, status, sentence",
    [
        (ValueError("no"), 1, "fewstep: no\n"),
        (MemoryError(), 1, "fewstep: there is not enough memory: ask for less at a time\n"),
        (MemoryError("7 GiB"), 1, "fewstep: there is not enough memory: 7 GiB\n"),
        (KeyboardInterrupt(), 130, "fewstep: stopped; the next run goes on from what is on the disk\n"),
    ],
)  # fmt: skip
def test_what_ends_a_command_is_one_sentence(params, monkeypatch, capsys, error, status, sentence):
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(tiers, "show", fail)
    found, printed, said = run(monkeypatch, capsys, params.parent, "settings", "tour", "--tier", "smoke")
    assert (found, printed, said) == (status, "", sentence)


def test_a_wrong_word_is_one_sentence_and_names_the_help(params, monkeypatch, capsys):
    status, printed, said = run(monkeypatch, capsys, params.parent, "trian")
    assert status == 1 and printed == "" and said.count("\n") == 1
    assert "invalid choice: 'trian'" in said and "`fewstep --help` says what there is" in said


def test_a_terminal_that_is_not_utf8_shows_an_escape(params):
    (params.parent / "dvc.yaml").touch()
    text = params.read_text(encoding="utf-8").replace("label: LMD", "label: LMDü")
    params.write_text(text, encoding="utf-8")
    plain = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    words = [sys.executable, "-m", "fewstep", "settings", "tour", "--tier", "smoke"]
    done = subprocess.run(words, cwd=params.parent, env=plain, capture_output=True)
    assert done.returncode == 0 and b"label: LMD\\xfc" in done.stdout


def test_prompts_and_pictures_of_a_published_set_are_counted_before_it_is_opened():
    def message(**changes: object) -> str:
        given = {"data": "laion", "extractor": "inception", "prompts": "coco2017"} | changes
        with pytest.raises(ValueError) as caught:
            prepared.Features.model_validate(given)
        return str(caught.value)

    assert (
        prepared.Features(data="laion", extractor="inception", prompts="coco2017", reference=5000).seed == 0
    )
    assert "`reference` asks for 5001 prompts, and 'coco2017' of 'laion' has 5000" in message(reference=5001)
    assert "`prompts` are measured against their pictures" in message()


@pytest.mark.parametrize("name", ["samples", "notebooks", "settings"])
def test_no_experiment_takes_the_name_of_a_folder_of_the_artifacts(params, name):
    spoil(params, f"experiments.{name}", {"like": "selfdistill-cifar10"})
    spoil(params, f"tiers.smoke.experiments.{name}", {})
    assert f"an experiment called '{name}' would write into artifacts' own folder" in message_of(params)
