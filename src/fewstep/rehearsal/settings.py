"""The settings of a rehearsal: those of tier paper, made small.

What is made small is the amount: batches, steps, seeds, samples; networks only where they would not fit. All
of it works on resolved settings as plain values, before they are validated.
"""

import json
from collections.abc import Mapping, Sequence
from math import lcm
from pathlib import Path
from typing import Any

from ..evaluation.measure_images import NEIGHBOURS
from ..evaluation.sample import POINTS
from ..settings import tiers
from . import tiny_archives, tiny_captioned

TIER = "paper"
STEPS = 2
# on a CPU, where each has a network and its batch in memory
MOST_WORKERS = 4
# points: enough for a histogram's divergence to be positive; images: the neighbours that precision asks for
FEW_POINTS, FEW_PAIRS, FEW_IMAGES = 8 * POINTS, 100, NEIGHBOURS + 1
# of 256 x 256 pixels, each a minute of a CPU through the published autoencoder
FEW_LATENTS = 4
# the methods whose every number of steps the claims about self-distillation name
CLAIMED = ("lsd", "esd", "psd-m", "psd-u")
# the steps that the claims about SCFlow name, without captions and with them; FEW where a row has none
CORRECTED, CONDITIONAL, FEW = (1, 4, 8), (1, 4), 2
# the network of 860M weights, whose step takes more than 30 GB: with less than LARGE, its levels have a
# NARROWER-th of the channels
WIDE, LARGE, NARROWER = "published_unet", 40 * 10**9, 5


def read(root: Path) -> dict[str, Any]:
    """The settings of tier paper in params.yaml, resolved and not validated; raises SettingsError."""
    return tiers.section(root / "params.yaml", TIER)


def smallest_batch(shares: Sequence[Sequence[float]], processes: int = 1) -> int:
    """The smallest batch, 2 or more, with a sample for every term of every method and for every process.

    `shares` holds the shares of a batch of each method's terms, which add up to 1, rounded as in training.
    """

    def fits(batch: int, own: Sequence[float]) -> bool:
        first = [round(share * batch) for share in own[:-1]]
        sizes = [*first, batch - sum(first)]
        return min(sizes) >= 1 and max(sizes) >= processes

    return next(batch for batch in range(2, 10_000) if all(fits(batch, own) for own in shares))


def multiple(batch: int, shared: Sequence[int]) -> int:
    """`batch`, or the next number that all of `shared` divide: samples that share a teacher's solution."""
    common = lcm(*shared)
    return -(-batch // common) * common


def _all(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [settings["tour"], *settings["experiments"].values()]


def _wide_networks(settings: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The settings of every network of the kind that may be made narrow."""
    places = [place for own in _all(settings) for place in (own["training"], *own["methods"].values())]
    return [place["network"] for place in places if place.get("network", {}).get("kind") == WIDE]


def narrow(network: Mapping[str, Any]) -> list[int]:
    """The channels of a network with about a fifth of them, as its heads and groups divide them."""
    unit = lcm(network["heads"], network["groups"])
    return [max(round(width / NARROWER / unit), 1) * unit for width in network["channels"]]


def too_small(settings: Mapping[str, Any], device: str, memory: int | None) -> str | None:
    """Why large networks are rehearsed at reduced width; None where they are not, or there are none.

    `memory` is the GPU's, in bytes; None on a CPU.
    """
    if not _wide_networks(settings) or device == "cuda" and (memory is None or memory >= LARGE):
        return None
    if device == "cpu":
        return "a CPU would take hours for them"
    return f"the GPU has {memory / 10**9:.0f} GB, and a step takes more than 30 GB"


def _fewer_steps(experiment: dict[str, Any]) -> None:
    """Draw images in few steps: those that the claims name."""
    sampling, reference = experiment["sampling"], experiment["metrics"].get("reference")
    corrected = any("self_correction" in method for method in experiment["methods"].values())
    for method, steps in sampling["steps"].items():
        if "prompts" in sampling:
            fewer = [n for n in steps if n in CONDITIONAL] or [min(n, FEW) for n in steps[:1]]
        elif corrected:
            fewer = [n for n in steps if n in CORRECTED]
        elif method in CLAIMED and not reference:
            fewer = steps
        else:
            fewer = [n for n in steps if n <= FEW] or steps[:1]
        sampling["steps"][method] = fewer
    for solvers in sampling.get("solvers", {}).values():
        solvers.update({solver: [min(n, FEW) for n in steps[:1]] for solver, steps in solvers.items()})
    if reference:
        reference["steps"] = max(sampling["steps"][reference["method"]])


def _make_small(experiment: dict[str, Any], processes: int) -> None:
    methods, sampling, metrics = (experiment[key] for key in ("methods", "sampling", "metrics"))
    training, images = experiment["training"], "features" in metrics
    terms = [method.get("terms", [{}]) for method in methods.values()]
    least = smallest_batch([[term.get("share", 1.0) for term in own] for own in terms], processes)
    times = [term.get("options", {}).get("times", 1) for own in terms for term in own]
    training["batch"], training["seeds"] = multiple(least, times), training["seeds"][:1]
    for method in methods.values():
        method["steps"] = STEPS
        # a loss that waits for its first step would not be rehearsed
        for loss in method.get("self_correction", {}).values():
            if isinstance(loss, dict) and "warmup" in loss:
                loss["warmup"] = 0
    sampling["count"] = FEW_IMAGES if images else FEW_POINTS
    # two where a measure compares one noise with another; sampling self-distillation's networks takes longest
    sampling["seeds"] = sampling["seeds"][: 2 if "t_fid" in metrics["measures"] or not images else 1]
    if "w2_samples" in metrics:
        metrics["w2_samples"] = min(metrics["w2_samples"], FEW_PAIRS)
    if images:
        _fewer_steps(experiment)
        if "speed" in experiment:
            experiment["speed"] = {"batches": [1, 2], "repeats": 2}


def small(paper: Mapping[str, Any], device: str, devices: int, memory: int | None = None) -> dict[str, Any]:
    """The settings `paper`, which are left alone, made small for `device` ("cpu" or "cuda").

    `devices` is the number of GPUs, or of a CPU's cores, and `memory` a GPU's bytes. `processes` are no more
    than the GPUs (on a CPU, 1), `workers` no more than the cores can keep busy.
    """
    # through JSON, where what two experiments share in the file becomes two
    settings = json.loads(json.dumps(paper))
    compute, experiments = settings["compute"], _all(settings)
    compute["device"] = device
    if device == "cpu":
        compute["workers"] = min(devices, MOST_WORKERS)
    for place in (compute, *(experiment["training"] for experiment in experiments)):
        if "processes" in place:
            place["processes"] = 1 if device == "cpu" else min(place["processes"], devices)
    for experiment in experiments:
        training = experiment["training"]
        if device == "cpu":
            only = ("compile", "cuda_graphs", "precision" if training.get("precision") == "tf32" else "")
            training = experiment["training"] = {k: v for k, v in training.items() if k not in only}
        _make_small(experiment, training.get("processes", compute.get("processes", 1)))
    if too_small(settings, device, memory):
        for network in _wide_networks(settings):
            network["channels"] = narrow(network)
    for features in settings.get("features", {}).values():
        if features.get("reference"):
            features["reference"] = tiny_captioned.OF_COCO if "prompts" in features else tiny_archives.COUNT
    for latents in settings.get("latents", {}).values():
        latents |= {"count": FEW_LATENTS, "measured": FEW_IMAGES}
    return settings
