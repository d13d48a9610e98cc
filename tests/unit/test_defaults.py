"""The value of every setting, option and constant that a number depends on and that nobody wrote down."""

import inspect

import pytest

from fewstep import objectives
from fewstep.evaluation import claims, measures, sample, speed, statistics
from fewstep.metrics import features, points, step_consistency
from fewstep.settings import experiment, laws, networks, prepared, tiers, training

SETTINGS = {
    training.Term: {"share": 1.0, "weight": 1.0, "options": {}, "adaptive": None},
    laws.TimesSettings: {
        "strip": 1.0, "anneal": 0.0, "doublings": 0, "law": None, "mean": None, "deviation": None,
        "levels": None,
    },
    laws.Adaptive: {"power": 1.0, "offset": 0.01},
    laws.GeneratorCoupling: {"share": 0.5},
    laws.EncoderCoupling: {"weight": 20.0},
    laws.Autoguidance: {},
    training.Method: {
        "terms": [], "self_correction": None, "distribution_matching": None, "teacher": None,
        "teacher_as": "velocity", "start": "scratch",
        "stop_gradient": "student", "weights": None, "guidance_scale": None, "conditioning_dropout": None,
        "network": None, "optimiser": None, "autoguidance": None, "coupling": None, "learned_weight": None,
    },
    training.Training: dict.fromkeys(
        ("latents", "processes", "precision", "channels_last", "compile", "cuda_graphs")
    ),
    training.Optimiser: {"decay_after": 1, "weight_decay": None},
    training.DistributionMatching: {"alpha": 1.2, "beta1": 0.9},
    training.WeightedLoss: {"warmup": 0},
    training.AdversarialLoss: {
        "warmup": 0, "schedule": "constant", "beta1": 0.9, "beta2": None, "channels": None, "head": None,
        "released": None,
    },
    training.SelfCorrection: {
        "huber_c": 0.01, "target_ema": 0.9, "time_levels": None, "reflow": None, "adversarial": None,
        "bidirectional": None,
    },
    experiment.Sampling: {"solvers": {}, "prompts": None},
    experiment.Metrics: {
        "bins": None, "w2_samples": 2, "features": None, "reference": None, "only": {}, "sensitivity": None,
    },
    experiment.Speed: {},
    prepared.Features: {
        "steps": 800, "seed": 0, "reference": None, "probe_steps": None, "prompts": None,
        "classifier_of": None,
    },
    prepared.Latents: {"count": None, "measured": None, "clip": None},
    prepared.TrainedAutoencoder: {"latent_channels": 4, "seed": 0},
    prepared.PretrainedAutoencoder: {"scale": 0.18215},
    prepared.TrainedClip: {"pairs": "training", "seed": 0},
    prepared.PublishedClip: {"towers": "both", "data": None},
    networks.MLPSettings: {"predicts": "velocity"},
    networks.UNetSettings: {"dropout": 0.0, "predicts": "velocity"},
    networks.ADMSettings: {"dropout": 0.0, "predicts": "velocity"},
    networks.TextUNetSettings: {"text_layers": 0},
    networks.PublishedUNetSettings: {"checkpointing": True},
    experiment.ExperimentSettings: {"speed": None, "students_of": None, "tables": None},
    tiers.Compute: {"processes": 1},
}  # fmt: skip
OBJECTIVES = {
    "consistency": {"normalise": 0.0, "warmup": 0.0},
    "consistency_training": {"stopped": None, "h": 0.5, "halvings": 7, "c": 0.0},
    "contrastive": {"weight": 0.05}, "ctm": {"stopped": None, "steps": 4},
    "discrete_consistency": {"stopped": None, "h": 0.5, "halvings": 7, "solver": "heun", "c": 0.0},
    "emd": {"gradient": "semi"}, "esd": {"gradient": "semi", "stopped": None},
    "eulerian": {"invertibility": 0.0}, "fmm": {"invertibility": 1.0}, "lmd": {"gradient": "full"},
    "imeanflow": {}, "imm": {"stopped": None, "h": 0.1, "c": 1.0},
    "lsd": {"stopped": None}, "meanflow": {"normalise": 0.0, "warmup": 0.0}, "pfmm": {"jumps": 2},
    "psd": {"split": "midpoint", "stopped": None}, "reflow": {"steps": 8, "times": 1}, "si": {},
    "velocity_consistency": {
        "segments": 2, "delta": 1e-3, "alpha": 1e-5, "threshold": 0.9, "warmup": 1 / 3
    },
}  # fmt: skip


@pytest.mark.parametrize("section", SETTINGS, ids=lambda section: section.__name__)
def test_a_setting_that_is_left_out_has_its_default(section):
    fields = section.model_fields.items()
    found = {name: field.get_default() for name, field in fields if not field.is_required()}
    assert found == SETTINGS[section]


@pytest.mark.parametrize("name", objectives.names())
def test_an_option_that_is_left_out_has_its_default(name):
    parameters = inspect.signature(objectives.load(name)).parameters.values()
    assert {p.name: p.default for p in parameters if p.default is not p.empty} == OBJECTIVES[name]


def test_the_constants_of_protocols_are_those_of_their_papers_and_of_published_tables():
    # clean-fid's KID; improved precision and recall; SCFlow's script stores JPEG at PIL's default
    assert (measures.NEIGHBOURS, measures.SUBSETS, measures.SUBSET_SIZE) == (3, 100, 1000)
    assert (measures.ALL_PAIRS, measures.PAIRS, features.QUALITY) == (10_000, 64, 75)
    assert (step_consistency.K1, step_consistency.K2, step_consistency.CAP) == (0.01, 0.03, 60)
    assert inspect.signature(points.kl_to_checkerboard).parameters["bins"].default == 50
    assert (statistics.CONFIDENCE, claims.FEW, measures.CHECKED) == (0.95, 3, 1000)
    # every sample of a published table comes from these streams
    assert (sample.NOISE, sample.FURTHER_NOISE, measures.NOISE_SEED) == (1_000_003, 6_000_011, 3_000_017)
    assert (sample.POINTS, sample.IMAGES, sample.IMAGES_ON_CUDA, sample.CAPTIONED_ON_CUDA) == (
        500,
        125,
        1000,
        64,
    )
    assert speed.WARM_UP == 3


@pytest.mark.parametrize(
    "samples, against, subsets", [(10_000, 10_000, None), (10_001, 10, 100), (10, 10_001, 100)]
)
def test_kid_takes_all_pairs_of_sets_up_to_ten_thousand(samples, against, subsets):
    assert measures.kid_subsets(samples, against) == subsets
