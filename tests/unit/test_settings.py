"""Every mistake in params.yaml is one sentence that names the key, and comes before anything runs."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
import yaml
from dvc.utils.hydra import apply_overrides

from fewstep.settings import tiers
from fewstep.settings.tiers import SettingsError

LMD = "      lmd:\n        label: LMD\n        steps: 120\n"


@pytest.fixture
def params(root, tmp_path):
    """A copy of params.yaml to spoil."""
    shutil.copy(root / "params.yaml", tmp_path / "params.yaml")
    return tmp_path / "params.yaml"


def spoil(path, old: str, new: str) -> None:
    text = path.read_text()
    start = text.index("\nsmoke:")
    assert old in text[start:], f"params.yaml no longer holds {old!r}"
    path.write_text(text[:start] + text[start:].replace(old, new, 1))


@pytest.mark.parametrize(
    "old, new, sentence",
    [
        ("steps: 120", "stepz: 120", r"unknown key 'smoke\.tour\.methods\.si\.stepz'"),
        ("        steps: 120\n", "", r"the key 'smoke\.tour\.methods\.si\.steps' is missing"),
        ("steps: 120", "steps: ten", r"smoke\.tour\.methods\.si\.steps: .*valid integer, not 'ten'"),
        ("steps: 120", "steps: 0", r"smoke\.tour\.methods\.si\.steps: .*greater than or equal to 1, not 0"),
        ("device: cpu", "device: tpu", r"smoke\.compute\.device: .*'cpu' or 'cuda', not 'tpu'"),
        ("batch: 128", "batch: 128.5", r"smoke\.tour\.training\.batch: .*integer"),
        (
            "batch: 128",
            "batch: 8\n      processes: 9",
            r"9 processes cannot share a batch of 8: lower `processes`, or raise `batch`",
        ),
        (
            "batch: 128",
            "batch: 128\n      processes: 0",
            r"smoke\.tour\.training\.processes: .*greater than or equal to 1, not 0",
        ),
        (
            "data: checkerboard",
            "data: chessboard",
            r"there is no data set 'chessboard'; there are .*checkerboard",
        ),
        ("interpolant: linear", "interpolant: cubic", r"there is no interpolant 'cubic'; there are linear"),
        (
            "kind: mlp",
            "kind: resnet",
            r"smoke\.tour\.training\.network: there is no network 'resnet'; there are mlp, unet, adm",
        ),
        (
            "kind: mlp, width: 32",
            "kind: mlp, widht: 32",
            r"unknown key 'smoke\.tour\.training\.network\.widht'",
        ),
        (
            "terms: *lmd",
            "terms: [{objective: lmdd, times: {region: forward}}]",
            r"there is no objective 'lmdd'; there are .*lmd",
        ),
        (
            "terms: *lmd",
            "terms: [{objective: lmd, times: {region: forward}, options: {gradiant: semi}}]",
            r"the objective 'lmd' has no setting 'gradiant'; it has gradient",
        ),
        (
            "terms: *lmd",
            "terms: [{objective: lmd, share: 0.5, times: {region: forward}}]",
            r"shares of the terms must add up to 1, not 0\.5",
        ),
        (
            "terms: *lmd",
            "terms: [{objective: lmd, times: {region: forward, strip: 0.0}}]",
            r"strip: .*greater than 0",
        ),
        ("teacher: si", "teacher: se", r"names the teacher 'se', which is not a method here"),
        ("        teacher: si\n", "", r"the objective 'lmd' distils a teacher; name one under `teacher`"),
        ("seeds: [0, 1]", "seeds: [0, 0]", r"training seeds must differ"),
        (
            "lmd: jumps}",
            "lmd: hops}",
            r"samplers\.lmd: .*'jumps', 'euler', 'heun' or 'guided-<scale>', not 'hops'",
        ),
        (
            "si: [1, 4, 16], lmd",
            "sy: [1, 4, 16], lmd",
            r"`sampling` must give the steps and the sampler of the method 'si'",
        ),
        ("w2_samples: 256", "w2_samples: 5000", r"w2_samples \(5000\) exceeds the samples drawn \(4000\)"),
        (
            "reference: {method: si, steps: 16}",
            "reference: {method: si, steps: 17}",
            r"si at 17 steps, which `sampling` does not draw",
        ),
        ("{measures: [kl], bins: 20}", "{measures: [kl]}", r"the measure 'kl' needs `metrics\.bins`"),
        (
            "[fid, t_fid, kid, precision, recall]",
            "[fid, kl]",
            r"measures points \(kl, .*\) or images \(fid, .*\), not both",
        ),
        ("[fid, t_fid, kid, precision, recall]", "[fid, frechet]", r"measures\.1: .*'fid'.*not 'frechet'"),
        (
            "        features: cifar10\n",
            "",
            r"the measure 'fid' needs `metrics\.features`: the name of an entry of the tier's `features`",
        ),
        (
            "features: cifar10",
            "features: cifar",
            r"measured in the features 'cifar'; there are cifar10, imagenet32, celebahq",
        ),
        ("features: cifar10", "features: imagenet32", r"models 'digits' and its features are of 'patches'"),
        (
            "{data: digits, extractor",
            "{data: digit, extractor",
            r"there is no data set 'digit'; there are .*digits",
        ),
        (
            "extractor: classifier",
            "extractor: resnet",
            r"features\.cifar10\.extractor: .*'classifier' or 'inception', not 'resnet'",
        ),
        (
            "solvers: {si: {heun",
            "solvers: {sy: {heun",
            r"`sampling\.solvers` names 'sy', which is not a method here",
        ),
        (
            "solvers: {si: {heun: [1]",
            "solvers: {si: {heun: [0]",
            r"`sampling\.solvers\.si\.heun` must be positive whole numbers",
        ),
        (
            "solvers: {si: {heun",
            "solvers: {si: {rk4",
            r"solvers\.si\.rk4.*'heun', 'adaptive', 'guided-<scale>' or 'stochastic-<beta>', not 'rk4'",
        ),
        (
            "steps: {si: [2, 4], lmd",
            "steps: {exact: [2], si: [2, 4], lmd",
            r"the exact velocity of 'digits' is not known: remove 'exact'",
        ),
        (
            "reflow: {weight: 0.1",
            "reflow: {weight: -0.1",
            r"self_correction\.reflow\.weight: .*greater than or equal to 0, not -0\.1",
        ),
        ("threshold: 0.1", "threshold: 0.0", r"self_correction\.threshold: .*greater than 0, not 0\.0"),
        (
            "truncation: 0.4",
            "truncaton: 0.4",
            r"unknown key 'smoke\.experiments\.scflow-celebahq\.methods\.scflow\.self_correction\.truncaton'",
        ),
        (
            "          start: teacher\n          self_correction:",
            "          self_correction:",
            r"`self_correction` starts from its teacher: .*`start: teacher`",
        ),
        (
            "          self_correction:",
            "          terms: *si\n          self_correction:",
            r"give a method either `terms` or `self_correction`",
        ),
        (
            "        latents: celebahq\n",
            "",
            r"`data: latents` and `latents`, which of the tier's they are, go together",
        ),
        (
            "        latents: celebahq\n",
            "        latents: celeba\n",
            r"models the latents 'celeba'; there are celebahq",
        ),
        (
            "stochastic-0.5: [2]",
            "stochastic-1.5: [2]",
            r"there is no sampler 'stochastic-1\.5'; .*beta from 0 to 1",
        ),
        (
            "scflow-ablation: [consistency",
            "scflow-ablation: [consistence",
            r"`tables\.scflow-ablation` names 'consistence', which is not a row here",
        ),
        (
            "only: {fid_jpeg: *own_rows}",
            "only: {fid_jpeg: [sy]}",
            r"`metrics\.only\.fid_jpeg` names 'sy', which is not a row here",
        ),
        (
            "only: {fid_jpeg:",
            "only: {fid_jepg:",
            r"`metrics\.only` names 'fid_jepg', which is not among the measures fid, precision, recall, fid_jpeg",
        ),
        (
            "[kl], bins: 20}",
            "[kl], bins: 20, only: {kl: [lmd]}}",
            r"`metrics\.only` is for measures of images: remove it",
        ),
        (
            "autoencoder: {kind: trained",
            "autoencoder: {kind: train",
            r"smoke\.latents\.celebahq\.autoencoder",
        ),
        ("batches: [1, 8]", "batches: []", r"speed\.batches: .*at least 1 item"),
    ],
)
def test_a_mistake_is_one_sentence_that_names_the_key(params, old, new, sentence):
    spoil(params, old, new)
    with pytest.raises(SettingsError) as caught:
        tiers.load(params, "smoke")
    message = str(caught.value)
    assert re.search(sentence, message), message
    assert "\n" not in message and str(params) in message


def test_unknown_tiers_experiments_and_methods_are_named(params, smoke):
    with pytest.raises(SettingsError, match="there is no tier 'huge'; there are smoke, laptop, paper"):
        tiers.load(params, "huge")
    with pytest.raises(SettingsError, match="there is no experiment 'mnist'; there are fmm-checkerboard"):
        smoke.experiment("mnist")
    with pytest.raises(SettingsError, match="there is no method 'ldm' in this experiment; there are si, lmd"):
        smoke.experiment("fmm-checkerboard").method("ldm")


def test_a_broken_or_missing_file_is_one_sentence(params, tmp_path):
    params.write_text("tier: laptop\n  smoke: [")
    with pytest.raises(SettingsError, match="is not valid YAML"):
        tiers.load(params, "smoke")
    params.write_text("tier: lapptop\n")
    with pytest.raises(SettingsError, match="`tier` must be one of smoke, laptop, paper, not 'lapptop'"):
        tiers.load(params, "smoke")
    with pytest.raises(SettingsError, match="is not there: restore it"):
        tiers.load(tmp_path / "absent.yaml", "smoke")


def test_dvc_can_override_a_setting_in_the_file(params):
    """`dvc exp run -S` rewrites params.yaml; a comment in the wrong place would come out as broken YAML."""
    before = yaml.safe_load(params.read_text())
    apply_overrides(params, ["tier=smoke", "smoke.experiments.fmm-checkerboard.methods.lmd.steps=100"])
    before["tier"] = "smoke"
    before["smoke"]["experiments"]["fmm-checkerboard"]["methods"]["lmd"]["steps"] = 100
    assert yaml.safe_load(params.read_text()) == before
    assert tiers.load(params, "smoke").experiment("fmm-checkerboard").method("lmd").steps == 100


def test_settings_are_frozen(smoke):
    with pytest.raises(Exception, match="frozen"):
        smoke.compute.workers = 3


def test_the_paper_tier_without_a_gpu_is_refused_in_one_sentence(root):
    import torch

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
