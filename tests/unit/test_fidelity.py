"""docs/fidelity.md: every number in the columns of the tiers is in params.yaml, or is named here."""

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from fewstep.settings import tiers

ROOT = Path(__file__).parents[2]
COLUMNS = {"paper": 3, "overnight": 4}
NUMBER = re.compile(r"(?<![\w-])(\d+(?:,\d{3})*(?:\.\d+)?(?:e-?\d+)?)M?(?![\w])( %)?")
LOSSES = ("reflow", "adversarial", "bidirectional")
SCFLOW = "methods.scflow.self_correction"
OPTIMISER = ["training.optimiser.lr", "training.optimiser.warmup"]
N = ["sampling.steps.*", "sampling.solvers.*.*"]

# by row: where its numbers stand in an experiment's settings; a cell may say fewer of them, and says no other
HELD = {
    "perceptron": ["training.network.width", "training.network.depth", "training.network.frequencies",
                   "training.network.time_frequencies"],
    "hidden layers": ["training.network.depth"],
    "width": ["training.network.width"],
    "inputs": ["training.network.frequencies", "training.network.time_frequencies"],
    "network": ["training.network.channels", "training.network.groups", "training.network.width",
                "training.network.multipliers"],
    "blocks a level": ["training.network.blocks"],
    "attention": ["training.network.heads"],
    "heads": ["training.network.heads"],
    "times": ["training.network.time_scale"],
    "dropout": ["training.network.dropout"],
    "optimiser": [*OPTIMISER, "methods.scflow.optimiser.lr", "methods.scflow.optimiser.warmup"],
    "optimiser, lr": [*OPTIMISER, "methods.esd.optimiser.lr"],
    "schedule": OPTIMISER,
    "clip": ["training.optimiser.clip_norm", "methods.esd.optimiser.clip_norm"],
    "EMA": ["training.optimiser.ema"],
    "sampling EMA": ["training.optimiser.ema"],
    "batch": ["training.batch"],
    "steps": ["methods.*.steps"],
    "batch, steps": ["training.batch", "methods.*.steps"],
    "training seeds": ["training.seeds.count"],
    "sampling seeds": ["sampling.seeds.count"],
    "KL": ["sampling.seeds.count"],
    "measured": ["sampling.count", "metrics.bins", "metrics.w2_samples", "sampling.seeds.count",
                 "metrics.reference.steps", *N],
    "FID": ["sampling.count", "metrics.reference.steps", "sampling.seeds.count"],
    "N": N,
    "share on the diagonal": ["methods.lsd.terms.0.share"],
    "weight of the terms": ["methods.lsd.terms.*.weight"],
    "weight of the terms, stop-gradient": ["methods.lsd.terms.*.weight"],
    "weight of (s, t)": ["methods.lmd.terms.*.weight"],
    "teacher: epochs": ["methods.si.steps", "training.batch"],
    "teacher: lr, batch, EMA, times": [*OPTIMISER, "training.optimiser.ema", "training.batch"],
    "δ": [f"{SCFLOW}.threshold"],
    "t_trunc": [f"{SCFLOW}.truncation"],
    "δ, t_trunc": [f"{SCFLOW}.threshold", f"{SCFLOW}.truncation"],
    "weights of the losses": [f"{SCFLOW}.{loss}.weight" for loss in LOSSES],
    "R1, γ": [f"{SCFLOW}.adversarial.r1"],
    "warm-ups": [f"{SCFLOW}.{loss}.warmup" for loss in LOSSES],
    "target EMA": [f"{SCFLOW}.target_ema"],
    "discriminator": [f"{SCFLOW}.adversarial.channels", f"{SCFLOW}.adversarial.head"],
    "discriminator's Adam": [f"{SCFLOW}.adversarial.lr", f"{SCFLOW}.adversarial.beta1"],
    "discriminator's beta2": [f"{SCFLOW}.adversarial.beta2"],
    "every row starts and trains alike": ["methods.scflow.steps"],
    "rows": ["methods.scflow.guidance_scale"],
    "samples": ["sampling.count", "sampling.seeds"],
    "prompts": ["sampling.count"],
    "sampler, N": N,
    "stochastic sampler": [],
    "timing": ["speed.batches", "speed.repeats"],
    "autoencoder": ["latents.celebahq.autoencoder.steps", "latents.celebahq.autoencoder.latent_channels"],
    "FID's reference": ["features.celebahq.reference"],
    "FID's reference, CLIP": ["features.coco2017.reference", "features.coco2014.reference"],
}  # fmt: skip

# numbers of code, of the data, of mathematics, and of words: no setting has them
OTHER = {
    "data": {2, 8, 16, 32, 140, 1, 50_000, 1_281_167, 202_599, 15_803, 8_000, 12_000},
    "PFMM": {2, 1, 32}, "(s, t)": {0, 1}, "(s, t) off the diagonal": {0}, "learned weight": {0, 1},
    "its output": {0},
    "start of weights": {0}, "optimiser": {35_000, 0, 0.9, 0.99}, "optimiser, lr": {35_000, 0},
    "schedule": {0}, "EMA": {0.999, 9_000, 0.9999, 90_000}, "sampling EMA": {0.9999, 90_000, 0.9995},
    "batch, steps": {200}, "measured": {50_000}, "N": {1}, "attention": {4, 16, 64}, "times": {1},
    "blocks a level": {1, 2, 4, 5}, "teacher: epochs": {480},
    "teacher: lr, batch, EMA, times": {0, 0.0593, 0.99996}, "autoencoder": {8, 4}, "Heun": set(),
    "discriminator": {32, 16, 8, 4}, "minibatch deviation": {4}, "discriminator's Adam": {0.99},
    "discriminator's beta2": {0.99}, "rows of the losses": {0}, "stochastic sampler": {0.25, 0.5, 1},
    "timing": {3}, "law of t": {0, 1}, "latents and texts": set(), "rows": {2}, "network": {54.7, 124.3},
    "FID's reference": {27_000}, "R1, γ": set(), "precision": set(), "network, training": set(),
}  # fmt: skip


@cache
def settings(tier: str) -> dict[str, Any]:
    return tiers.load(ROOT / "params.yaml", tier).model_dump()


def found(value: Any, path: list[str]) -> Iterator[float]:
    """The numbers at `path`, if any; its `*` is every key, and its `count` a length."""
    if not path or isinstance(value, int | float):
        for own in value if isinstance(value, list | tuple) else [value]:
            if isinstance(own, int | float) and not isinstance(own, bool):
                yield float(own)
    elif path[0] == "count" and isinstance(value, list | tuple):
        yield float(len(value))
    elif value is not None:
        items = value if isinstance(value, dict) else dict(enumerate(value))
        for key, own in items.items():
            if path[0] in ("*", str(key)):
                yield from found(own, path[1:])


def rows() -> Iterator[tuple[str, str, str, str]]:
    """Experiment, setting, tier and cell, of every cell of the tiers' columns."""
    experiment = ""
    for line in (ROOT / "docs" / "fidelity.md").read_text(encoding="utf-8").splitlines():
        if line.startswith("## "):
            experiment = line[3:]
        cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        if len(cells) == 6 and re.match("(fmm|selfdistill|scflow)-", experiment) and cells[0] != "setting":
            for tier, column in COLUMNS.items():
                yield experiment, cells[0], tier, cells[column]


def said(cell: str) -> set[float]:
    """The numbers of a cell, without those of links and of names."""
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", cell)
    return {round(float(m[1].replace(",", "")) / (100 if m[2] else 1), 6) for m in NUMBER.finditer(text)}


@pytest.mark.parametrize("experiment, setting, tier, cell", list(rows()))
def test_a_number_of_the_page_is_that_of_the_settings(experiment, setting, tier, cell):
    whole = settings(tier)
    known = whole["experiments"].get(experiment, {}) | {key: whole[key] for key in ("features", "latents")}
    numbers = {round(x, 6) for path in HELD.get(setting, ()) for x in found(known, path.split("."))}
    unknown = said(cell) - numbers - OTHER.get(setting, set())
    assert not unknown, (
        f"{experiment}, {setting}, tier {tier}: {sorted(unknown)} in '{cell}', not in {sorted(numbers)}"
    )


def test_a_changed_setting_is_noticed():
    cells = {(e, s, t): c for e, s, t, c in rows()}
    for experiment, setting, tier, path in (
        ("fmm-checkerboard", "steps", "overnight", "methods.lmd.steps"),
        ("scflow-celebahq", "t_trunc", "paper", f"{SCFLOW}.truncation"),
        ("selfdistill-cifar10", "dropout", "paper", "training.network.dropout"),
    ):
        (value,) = found(settings(tier)["experiments"][experiment], path.split("."))
        assert value in said(cells[experiment, setting, tier]) and value not in OTHER.get(setting, set())
