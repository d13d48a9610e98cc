"""Settings of experiments on captions: what must go together, and the one sentence for what does not."""

from __future__ import annotations

import copy

import pytest

from fewstep.pipeline import phases
from fewstep.settings import document, tiers
from fewstep.training import prepare

# the smallest settings that every part accepts, on top of tier smoke
CAPTIONS = """
features:
  scenes: {data: scenes, extractor: classifier, steps: 20, reference: 500, prompts: coco2017,
      probe_steps: 20}
latents:
  scenes:
    data: scenes
    count: 512
    clip: scenes
    autoencoder: {kind: trained, channels: [8, 8, 16], layers: 1, groups: 4, latent_channels: 4,
        steps: 24, batch: 8, lr: 4.0e-3, kl_weight: 1.0e-3}
clip:
  scenes: {kind: trained, data: scenes, width: 16, layers: 1, heads: 2, patch: 8, projection: 16,
      vocabulary: 560, tokens: 48, steps: 12, batch: 32, lr: 2.0e-3}
experiments:
  captioned:
    training:
      data: latents
      latents: scenes
      interpolant: linear
      network: {kind: text_unet, channels: [8, 16], layers: 1, attention: [false, true], heads: 2,
          groups: 4, time_scale: 10.0, width: 16}
      optimiser: {kind: adam, lr: 2.0e-3, schedule: linear, warmup: 0.03, clip_norm: 1.0, ema: 0.05}
      batch: 16
      seeds: [0]
    methods:
      si: {label: SI, steps: 20, conditioning_dropout: 0.1, terms: [{objective: si,
          times: {region: diagonal}}]}
      scflow:
        label: SCFlow
        steps: 8
        teacher: si
        start: teacher
        guidance_scale: 1.5
        self_correction: {threshold: 0.1, truncation: 0.1, adversarial: {weight: 0.1, lr: 1.0e-3,
            beta1: 0.0, r1: 0.0, head: 8}}
    sampling:
      prompts: coco2017
      count: 150
      seeds: [0]
      steps: {si: [1, 4], scflow: [1, 4]}
      samplers: {si: guided-1.5, scflow: euler}
      solvers: {scflow: {guided-1.5: [1]}}
    metrics: {measures: [fid, clip, attributes, one_step, teacher_images], features: scenes,
        reference: {method: si, steps: 4}}
    tables: {captioned: [si, scflow]}
"""


@pytest.fixture
def raw(root) -> dict:
    """Tier smoke with an experiment on captions, and one that measures its students on other prompts."""
    path = root / "params.yaml"
    found, added = copy.deepcopy((tiers.section(path, "smoke"), document.parse(CAPTIONS)))
    for section, entries in added.items():
        found[section] = found.get(section, {}) | entries
    other = copy.deepcopy(found["experiments"]["captioned"]) | {"students_of": "captioned"}
    other["sampling"]["prompts"] = "coco2014"
    other["tables"] = {"other": ["si", "scflow"]}
    found["experiments"]["other"] = other
    return found


def test_what_is_prepared_of_texts_and_what_another_experiment_trains(raw):
    tier = tiers.Tier.model_validate(raw)
    entries = prepare.prepared(tier, "scenes")
    assert "scenes" in entries["clip"] and "scenes" in entries["latents"] and "scenes" in entries["features"]
    both = prepare.prepared(tier, "coco2014")["features"]
    assert both.index("coco2017") < both.index("coco2014"), "the classifier stands before who shares it"
    files = phases.settings_files(tier)
    assert {
        "captioned/teacher.json",
        "captioned/students.json",
        "other/sampling.json",
        "other/experiment.json",
    } <= set(files)
    assert not {"other/teacher.json", "other/students.json"} & set(files), "nothing is trained twice"
    assert list(files["captioned/teacher.json"]["methods"]) == ["si"]


def _set(path: str, value):
    def change(raw: dict) -> None:
        *keys, last = path.split("/")
        for key in keys:
            raw = raw[key]
        if value is None:
            del raw[last]
        else:
            raw[last] = value

    return change


CONDITIONAL, PLAIN = "experiments/captioned", "experiments/scflow-celebahq"


@pytest.mark.parametrize(
    "path, value, message",
    [
        ("latents/scenes/clip", "other", "name the clip 'other'; there are captions, scenes"),
        ("latents/scenes/clip", None, "`sampling.prompts` go together: give all or none"),
        (f"{CONDITIONAL}/sampling/prompts", None, "`sampling.prompts` go together: give all or none"),
        (f"{CONDITIONAL}/sampling/prompts", "coco", "has no prompts 'coco'; there are coco2017, coco2014"),
        (f"{CONDITIONAL}/training/network/width", 32, "reads tokens 32 wide, and its CLIP's are 16"),
        ("features/scenes/probe_steps", None, "give the steps of its training under `probe_steps`"),
        (
            "features/celebahq/probe_steps",
            20,
            "'faces' has nothing for `probe_steps`, which asks for its `all_pairs`",
        ),
        ("features/cifar10/prompts", "coco2017", "'digits' has no prompts 'coco2017'; there are none"),
        ("features/scenes/prompts", "coco", "'scenes' has no prompts 'coco'; there are coco2017, coco2014"),
        ("features/scenes/reference", None, "say how many under `reference`"),
        (
            "features/coco2014/classifier_of",
            "cifar",
            "'coco2014' take the classifier of 'cifar', which is no entry that trains one",
        ),
        (
            "features/coco2014/classifier_of",
            "coco2014",
            "'coco2014' take the classifier of 'coco2014', which is no entry that trains one",
        ),
        (
            "features/coco2014/steps",
            21,
            "'coco2014' take the classifier of 'coco2017': their `steps` must be the same",
        ),
        (
            "features/coco2017/probe_steps",
            21,
            "'coco2014' take the classifier of 'coco2017': their `probe_steps` must be the same",
        ),
        (
            "experiments/scflow-celebahq/training/optimiser",
            {
                "kind": "soap",
                "lr": 1e-3,
                "schedule": "linear",
                "warmup": 0.0,
                "clip_norm": 1.0,
                "ema": 0.1,
                "weight_decay": 0.01,
            },
            "`weight_decay` is of Adam alone",
        ),
        ("latents/celebahq/clip", "scenes", "those of 'faces' have none: remove it"),
        (
            f"{PLAIN}/methods/scflow/guidance_scale",
            1.5,
            "`methods.scflow.guidance_scale` needs latents with captions",
        ),
        (
            f"{PLAIN}/methods/si/conditioning_dropout",
            0.1,
            "`methods.si.conditioning_dropout` needs latents with captions",
        ),
        (
            f"{PLAIN}/sampling/samplers/si",
            "guided-2",
            "the guided sampler of 'si' needs latents with captions",
        ),
        (
            f"{PLAIN}/sampling/solvers/si",
            {"heun": [1], "adaptive": [1], "guided-2": [1]},
            "the guided sampler of 'si' needs latents with captions",
        ),
        (
            f"{PLAIN}/metrics/measures",
            ["fid", "fid_jpeg", "clip"],
            "the measure 'clip' needs latents with captions",
        ),
        (f"{PLAIN}/sampling/prompts", "coco2017", "`sampling.prompts` go together: give all or none"),
        (
            "experiments/other/students_of",
            "nobody",
            "measures the students of 'nobody', which is no experiment that trains",
        ),
        ("experiments/other/training/batch", 32, "its `training` and methods must be the same"),
        ("experiments/other/methods/si/steps", 21, "its `training` and methods must be the same"),
    ],
)
def test_what_does_not_go_together_is_one_sentence(raw, path, value, message):
    if not path.startswith("experiments/other"):
        del raw["experiments"]["other"]
    _set(path, value)(raw)
    with pytest.raises(ValueError, match=message):
        tiers.Tier.model_validate(raw)


def test_a_discriminator_of_captions_needs_captions(raw):
    adversary = raw["experiments"]["scflow-celebahq"]["methods"]["scflow"]["self_correction"]["adversarial"]
    del adversary["channels"]
    adversary["head"] = 8
    with pytest.raises(
        ValueError, match="`methods.scflow.self_correction.adversarial.head` needs latents with captions"
    ):
        tiers.Tier.model_validate(raw)
