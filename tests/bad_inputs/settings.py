"""params.yaml: numbers and seeds out of what is possible."""

import json
from collections.abc import Callable
from functools import cache, reduce
from pathlib import Path
from typing import Any

from fewstep.settings import document, tiers

from .case import Case

PARAMS = Path(__file__).parents[2] / "params.yaml"
GONE = object()
TIER = "tiers.smoke"
# of tier smoke: points, images, latents, captions
POINTS, IMAGES = f"{TIER}.experiments.fmm-checkerboard", f"{TIER}.experiments.fmm-cifar10"
LATENTS, TEXTS = f"{TIER}.experiments.scflow-celebahq", f"{TIER}.experiments.scflow-coco2017"
CORRECTION = f"{LATENTS}.methods.scflow.self_correction"
UNET, MLP, TEXT = (f"{TIER}.networks.{name}" for name in ("unet", "points", "text-unet"))
POSITIVE, MOST = r"greater than (or equal to )?[01]\b.*, not ", r"less than or equal to \d+, not "


@cache
def params() -> str:
    """The shipped file as JSON, which is YAML too, and is read faster."""
    return json.dumps(document.parse(PARAMS.read_text(encoding="utf-8")))


def changed(name: str, key: str, value: Any, says: str) -> Case:
    """params.yaml with `value` under the dotted `key`; the sentence must name the file too."""

    def prepare(folder: Path) -> None:
        raw = json.loads(params())
        *above, last = key.split(".")
        owner = reduce(lambda owner, part: owner.setdefault(part, {}), above, raw)
        if value is GONE:
            del owner[last]
        else:
            owner[last] = value
        # YAML's own words for what JSON has none for
        text = json.dumps(raw).replace("Infinity", ".inf").replace("NaN", ".nan")
        (folder / "params.yaml").write_text(text, encoding="utf-8")

    return Case("params.yaml", name, load("smoke"), rf"params\.yaml: .*{says}", prepare)


def load(tier: str) -> Callable[[Path], object]:
    return lambda folder: tiers.load(folder / "params.yaml", tier)


def _numbers() -> list[Case]:
    """Numbers that are infinite, absurd, negative or none at all."""
    inf, nan = float("inf"), float("nan")
    rate = f"{TIER}.optimisers.points.lr"
    return [
        changed("an infinite rate", rate, inf, rf"points\.lr: .*{MOST}inf"),
        changed("a rate of NaN", rate, nan, r"points\.lr: .* than .*, not nan"),
        changed("a rate of 1e30", rate, 1e30, rf"points\.lr: .*{MOST}1e\+30"),
        changed("a rate of 10**400", rate, 10**400, r"points\.lr: .*number"),
        changed("a negative rate", rate, -1e-3, rf"points\.lr: .*{POSITIVE}-0\.001"),
        changed("a rate that is a text", rate, "fast", r"points\.lr: .*number, not 'fast'"),
        changed("a rate that is true", rate, True, r"points\.lr: .*number, not True"),
        changed("an infinite clip", f"{TIER}.optimisers.points.clip_norm", inf, rf"clip_norm: .*{MOST}inf"),
        changed("a clip of zero", f"{TIER}.optimisers.points.clip_norm", 0, rf"clip_norm: .*{POSITIVE}0"),
        changed(
            "a warm-up that never ends", f"{TIER}.optimisers.points.warmup", 1.0, r"warmup: .*less than 1"
        ),
        changed("an average that never moves", f"{TIER}.optimisers.points.ema", 1.0, r"ema: .*less than 1"),
        changed(
            "a decay of NaN",
            f"{TIER}.optimisers.points.weight_decay",
            nan,
            r"weight_decay: .*than .*, not nan",
        ),
        changed("10**18 steps", f"{POINTS}.training.steps", 10**18, rf"training\.steps: .*{MOST}10{{18}}"),
        changed("zero steps", f"{POINTS}.methods.lmd.steps", 0, rf"methods\.lmd\.steps: .*{POSITIVE}0"),
        changed("half a step", f"{POINTS}.methods.lmd.steps", 0.5, r"methods\.lmd\.steps: .*integer"),
        changed("10**18 samples", f"{POINTS}.sampling.count", 10**18, rf"sampling\.count: .*{MOST}10{{18}}"),
        changed(
            "a batch of 10**18", f"{POINTS}.training.batch", 10**18, rf"training\.batch: .*{MOST}10{{18}}"
        ),
        changed("a batch of one", f"{POINTS}.training.batch", 1, r"training\.batch: .*equal to 2, not 1"),
        changed("a width of 10**18", f"{MLP}.width", 10**18, rf"points\.width: .*{MOST}10{{18}}"),
        changed("a width of zero", f"{MLP}.width", 0, rf"points\.width: .*{POSITIVE}0"),
        changed("a billion layers", f"{MLP}.depth", 10**9, rf"points\.depth: .*{MOST}10{{9}}"),
        changed(
            "an infinite frequency", f"{MLP}.frequencies", [1, inf], rf"points\.frequencies\.1: .*{MOST}inf"
        ),
        changed("a frequency that is a text", f"{MLP}.frequencies", ["a"], r"points\.frequencies\.0: .*'a'"),
        changed("an infinite time scale", f"{UNET}.time_scale", inf, rf"unet\.time_scale: .*{MOST}inf"),
        changed(
            "an infinite weight of a loss",
            f"{CORRECTION}.reflow.weight",
            inf,
            rf"reflow\.weight: .*{MOST}inf",
        ),
        changed(
            "a weight of NaN", f"{CORRECTION}.bidirectional.weight", nan, r"bidirectional\.weight: .*not nan"
        ),
        changed("an infinite penalty", f"{CORRECTION}.adversarial.r1", inf, rf"adversarial\.r1: .*{MOST}inf"),
        changed(
            "discriminators of width 0", f"{CORRECTION}.adversarial.channels", [0, 8], r"channels\.0: .*not 0"
        ),
        changed("a distance's c of 1e30", f"{CORRECTION}.huber_c", 1e30, rf"huber_c: .*{MOST}1e\+30"),
        changed(
            "a guidance of 1e30", f"{TEXTS}.methods.scflow.guidance_scale", 1e30, rf"guidance_scale: .*{MOST}"
        ),
        changed(
            "a million bins along an axis",
            f"{POINTS}.metrics.bins",
            10**6,
            rf"metrics\.bins: .*{MOST}10{{6}}",
        ),
        changed(
            "more pairs than an assignment takes",
            f"{POINTS}.metrics.w2_samples",
            64_001,
            rf"w2_samples: .*{MOST}",
        ),
        changed(
            "more pairs than samples", f"{POINTS}.metrics.w2_samples", 4001, r"w2_samples \(4001\) exceeds"
        ),
        changed("20 million workers", f"{TIER}.compute.workers", 2 * 10**7, rf"compute\.workers: .*{MOST}2"),
        changed(
            "batches of speed at 0", f"{IMAGES}.speed.batches", [0, 1], rf"speed\.batches\.0: .*{POSITIVE}0"
        ),
        changed(
            "speed without a batch of one",
            f"{IMAGES}.speed.batches",
            [8],
            r"speed: .*must begin with 1, .*not 8",
        ),
        changed(
            "batches of speed downwards",
            f"{IMAGES}.speed.batches",
            [8, 1],
            r"speed\.batches: .*must rise, .*sort",
        ),
        changed("one timing", f"{IMAGES}.speed.repeats", 1, r"speed\.repeats: .*equal to 2, not 1"),
        changed(
            "an infinite KL weight",
            f"{TIER}.latents.celebahq.autoencoder.kl_weight",
            inf,
            rf"kl_weight: .*{MOST}",
        ),
        changed(
            "a CLIP's rate of 1e30",
            f"{TIER}.clip.captions.lr",
            1e30,
            rf"smoke\.clip\.captions\.lr: .*{MOST}1e\+30",
        ),
    ]


def _seeds_and_steps() -> list[Case]:
    """Seeds and numbers of steps: negative, huge, repeated, out of order, or none at all."""
    training, sampling = f"{POINTS}.training.seeds", f"{POINTS}.sampling.seeds"
    steps = f"{POINTS}.sampling.steps"
    nothing = dict.fromkeys(("others", "si"), [])
    curved = json.loads(params())["experiments"]["fmm-cifar10"]
    curved["training"]["interpolant"] = "trigonometric"
    return [
        changed("a negative training seed", training, [-1], r"training\.seeds\.0: .*equal to 0, not -1"),
        changed(
            "a training seed of 2**63", training, [2**63], rf"training\.seeds\.0: .*{MOST}9223372036854775808"
        ),
        changed(
            "a repeated training seed",
            training,
            [1, 2, 1],
            r"training\.seeds: 1 stands there twice: name each",
        ),
        changed("no training seed", training, [], r"training\.seeds: .*at least 1 item"),
        changed(
            "repeated sampling seeds", sampling, [0, 0], r"sampling\.seeds: 0 stands there twice: name each"
        ),
        changed("a negative sampling seed", sampling, [0, -1], r"sampling\.seeds\.1: .*equal to 0, not -1"),
        changed("a sampling seed of 1e30", sampling, [0, 10**30], rf"sampling\.seeds\.1: .*{MOST}10{{30}}"),
        changed(
            "a negative seed of a CLIP",
            f"{TIER}.clip.captions.seed",
            -1,
            r"smoke\.clip\.captions\.seed: .*not -1",
        ),
        changed(
            "a seed that is a text",
            f"{TIER}.features.cifar10.seed",
            "0",
            r"cifar10\.seed: .*integer, not '0'",
        ),
        changed("no steps at all", f"{steps}.lmd", [0], rf"sampling\.steps\.lmd\.0: .*{POSITIVE}0"),
        changed("a negative number of steps", f"{steps}.lmd", [-1, 1], rf"steps\.lmd\.0: .*{POSITIVE}-1"),
        changed("a billion steps of sampling", f"{steps}.lmd", [10**9], rf"steps\.lmd\.0: .*{MOST}10{{9}}"),
        changed(
            "steps out of order",
            f"{steps}.lmd",
            [4, 1],
            r"steps\.lmd: the numbers must rise, each once: sort \[4, 1",
        ),
        changed("repeated steps", f"{steps}.lmd", [1, 1], r"steps\.lmd: the numbers must rise, each once"),
        changed("steps that are one number", f"{steps}.lmd", 4, r"steps\.lmd: .*list, not 4"),
        changed(
            "an experiment that draws nothing",
            steps,
            nothing,
            r"fmm-checkerboard: `sampling\.steps` draws no method",
        ),
        changed(
            "a solver that draws nothing",
            f"{IMAGES}.sampling.solvers.si.heun",
            [],
            r"solvers\.si\.heun` draws nothing",
        ),
        changed(
            "99 digits of tolerance",
            f"{IMAGES}.sampling.solvers.si.adaptive",
            [99],
            r"adaptive` holds digits .*6 at most, not 99",
        ),
        changed(
            "a guidance of 1e30 in a name",
            f"{TEXTS}.sampling.solvers.si",
            {"guided-1e30": [1]},
            r"there is no sampler .* guided-<scale> up to 100",
        ),
        changed(
            "a guidance in other digits",
            f"{TEXTS}.sampling.solvers.si",
            {"guided-²": [1]},
            r"there is no sampler .* guided-<scale> up to 100",
        ),
        changed(
            "a gamma of 2 in a name",
            f"{IMAGES}.sampling.solvers.si",
            {"renoised-2": [1]},
            r"there is no sampler 'renoised-2'; .* renoised-<gamma> up to 1",
        ),
        changed(
            "renoised jumps along another path",
            "experiments.fmm-cifar10",
            curved | {"sampling": curved["sampling"] | {"solvers": {"si": {"renoised-1": [2]}}}},
            r"solvers\.si\.renoised-1` is for the linear interpolant, not for 'trigonometric'",
        ),
        changed(
            "a solver's step of zero",
            f"{IMAGES}.sampling.solvers.si.heun",
            [0],
            rf"solvers\.si\.heun\.0: .*{POSITIVE}0",
        ),
        changed(
            "a loss that comes after the end",
            f"{CORRECTION}.reflow.warmup",
            8,
            r"from step 8 on, and training ends after 8: lower",
        ),
    ]


def cases() -> list[Case]:
    """All of them."""
    return [*_numbers(), *_seeds_and_steps()]
