"""The settings of a rehearsal: those of tier paper, made small.

What is made small is the amount: batches, steps, seeds, samples; networks only on a CPU, where they would
not fit. All of it works on resolved settings as plain values, before they are validated.
"""

import json
from collections.abc import Mapping
from math import lcm
from typing import Any

from ..evaluation.measures import NEIGHBOURS
from ..evaluation.sample import POINTS
from . import tiny_archives

TIER = "paper"
STEPS = 2
# of each process: a sample for every term of every method, and samples that share a teacher's solution
BATCH = 8
# on a CPU, where each has a network and its batch in memory
MOST_WORKERS = 4
# points: enough for a histogram's divergence to be positive; images: the neighbours that precision asks for
FEW_POINTS, FEW_PAIRS, FEW_IMAGES = 8 * POINTS, 100, NEIGHBOURS + 1
# of 256 x 256 pixels, each a minute of a CPU through the published autoencoder
FEW_LATENTS = 4
# network calls a sample: the most that claims name with captions, in distillation and in self-distillation;
# and those of a row that is drawn in more alone
WITH_CAPTIONS, DISTILLED, SELF_DISTILLED, FEW = 4, 8, 16, 2
# the network of 860M weights, whose step takes more than 30 GB: on a CPU its levels have a NARROWER-th of
# the channels
WIDE, NARROWER = "published_unet", 5


def narrow(network: Mapping[str, Any]) -> list[int]:
    """The channels of a network with about a fifth of them, as its heads and groups divide them."""
    unit = lcm(network["heads"], network["groups"])
    return [max(round(width / NARROWER / unit), 1) * unit for width in network["channels"]]


def _draw_less(experiment: dict[str, Any]) -> None:
    """Draw images in few steps, those that the claims name among them."""
    sampling, reference = experiment["sampling"], experiment["metrics"].get("reference")
    most = WITH_CAPTIONS if "prompts" in sampling else DISTILLED if reference else SELF_DISTILLED
    drawn = sampling["steps"].items()
    sampling["steps"] = {method: [n for n in steps if n <= most] or [FEW] for method, steps in drawn}
    for solvers in sampling.get("solvers", {}).values():
        solvers.update({solver: [min(n, FEW) for n in steps[:1]] for solver, steps in solvers.items()})
    if reference:
        reference["steps"] = max(sampling["steps"][reference["method"]])
    if "speed" in experiment:
        experiment["speed"] = {"batches": [1, 2], "repeats": 2}


def _make_small(experiment: dict[str, Any], processes: int) -> None:
    training, sampling, metrics = (experiment[key] for key in ("training", "sampling", "metrics"))
    training["batch"], training["seeds"] = BATCH * processes, training["seeds"][:1]
    for method in experiment["methods"].values():
        method["steps"] = STEPS
        # a loss that waits for its first step would not be rehearsed
        for loss in method.get("self_correction", {}).values():
            if isinstance(loss, dict) and "warmup" in loss:
                loss["warmup"] = 0
    images = "features" in metrics
    sampling["count"] = FEW_IMAGES if images else FEW_POINTS
    # two where a measure compares one noise with another; sampling self-distillation's networks takes longest
    sampling["seeds"] = sampling["seeds"][: 2 if "t_fid" in metrics["measures"] or not images else 1]
    if "w2_samples" in metrics:
        metrics["w2_samples"] = min(metrics["w2_samples"], FEW_PAIRS)
    if images:
        _draw_less(experiment)


def small(paper: Mapping[str, Any], device: str, devices: int) -> dict[str, Any]:
    """The settings `paper`, which are left alone, made small for `device` ("cpu" or "cuda").

    `devices` is the number of GPUs, or of a CPU's cores. `processes` are no more than the GPUs (on a CPU, 1),
    `workers` no more than the cores can keep busy.
    """
    # through JSON, where what two experiments share in the file becomes two
    settings = json.loads(json.dumps(paper))
    compute, experiments = settings["compute"], [settings["tour"], *settings["experiments"].values()]
    compute["device"] = device
    if device == "cpu":
        compute["workers"] = min(devices, MOST_WORKERS)
    for place in (compute, *(experiment["training"] for experiment in experiments)):
        if "processes" in place:
            place["processes"] = 1 if device == "cpu" else min(place["processes"], devices)
    for experiment in experiments:
        training = experiment["training"]
        _make_small(experiment, training.get("processes", compute.get("processes", 1)))
        if device == "cpu":
            only = ("compile", "cuda_graphs", "precision" if training.get("precision") == "tf32" else "")
            experiment["training"] = {k: v for k, v in training.items() if k not in only}
            for place in (experiment["training"], *experiment["methods"].values()):
                if place.get("network", {}).get("kind") == WIDE:
                    place["network"]["channels"] = narrow(place["network"])
    for features in settings.get("features", {}).values():
        if features.get("reference"):
            features["reference"] = tiny_archives.OF_COCO if "prompts" in features else tiny_archives.COUNT
    for latents in settings.get("latents", {}).values():
        latents |= {"count": FEW_LATENTS, "measured": FEW_IMAGES}
    return settings
