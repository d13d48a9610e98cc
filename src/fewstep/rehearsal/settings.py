"""The settings of a rehearsal: those of tier paper, made small.

What is made small is the amount: batches, steps, seeds, samples. Networks stay, but for those of text-to-image where they
would not fit: see `too_small`.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from math import lcm
from typing import Any

from ..evaluation.measure_images import NEIGHBOURS
from ..evaluation.sample import POINTS
from . import tiny_archives, tiny_captioned

STEPS = 2
# on a CPU, where each has a network and its batch in memory
MOST_WORKERS = 4
# points: several chunks, and enough for a histogram's divergence to be positive; images: as few as have the neighbours
# that precision asks for
FEW_POINTS, FEW_PAIRS, FEW_IMAGES = 8 * POINTS, 100, NEIGHBOURS + 1
# of 256 x 256 pixels, each a minute of a CPU through the published autoencoder
FEW_LATENTS = 4
# the methods whose every number of steps the claims about self-distillation name
CLAIMED = ("lsd", "esd", "psd-m", "psd-u")
# the numbers of steps that the claims about SCFlow name, and those about SCFlow told texts; where a row has none of them, FEW
CORRECTED, CONDITIONAL, FEW = (1, 4, 8), (1, 4), 2
# the network of 860M weights: student, average, target, teacher, gradients, Adam's moments and the discriminator's come to
# 30 GB and more. Where there is less than LARGE, its levels have a NARROWER-th of their channels
WIDE, LARGE, NARROWER = "published_unet", 40 * 10**9, 5


def smallest_batch(shares: Sequence[Sequence[float]], processes: int = 1) -> int:
    """The smallest batch, 2 or more, that gives a sample to every term of every method, and one to each of the `processes`.

    `shares` holds the shares of a batch of each method's terms, which add up to 1; they are rounded as training does.
    """

    def sizes(batch: int, own: Sequence[float]) -> list[int]:
        first = [round(share * batch) for share in own[:-1]]
        return [*first, batch - sum(first)]

    return next(
        batch
        for batch in range(2, 10_000)
        if all(min(s) >= 1 and max(s) >= processes for s in (sizes(batch, own) for own in shares))
    )


def multiple(batch: int, served: Sequence[int]) -> int:
    """`batch`, or the next number of samples that all of `served` divide: as many as share one solution of a teacher's."""
    common = lcm(*served)
    return -(-batch // common) * common


def _networks(paper: Mapping[str, Any]) -> Iterator[dict]:
    """The settings of every network of the kind that may be made narrow."""
    for experiment in (paper["tour"], *paper["experiments"].values()):
        for place in (experiment["training"], *experiment["methods"].values()):
            if place.get("network", {}).get("kind") == WIDE:
                yield place["network"]


def narrow(network: Mapping[str, Any]) -> list[int]:
    """The channels of a network with about a fifth of them, as its heads and groups divide them."""
    unit = lcm(network["heads"], network["groups"])
    return [max(round(width / NARROWER / unit), 1) * unit for width in network["channels"]]


def too_small(paper: Mapping[str, Any], device: str, memory: int | None) -> str | None:
    """Why the large networks of `paper` are rehearsed at reduced width, in words, or None where they are not, or there are none.

    `memory` is the GPU's, in bytes; None on a CPU.
    """
    if not any(True for _ in _networks(paper)):
        return None
    if device == "cpu":
        return "a CPU would take hours for them"
    return (
        None
        if memory is None or memory >= LARGE
        else f"the GPU has {memory / 10**9:.0f} GB, and a step takes more than 30 GB"
    )


def _told_steps(steps: list[int]) -> list[int]:
    return [n for n in steps if n in CONDITIONAL] or [min(n, FEW) for n in steps[:1]]


def _fewer_steps(experiment: dict) -> None:
    """Draw images in few steps: those that the claims name."""
    sampling, reference = experiment["sampling"], experiment["metrics"].get("reference")
    corrected = any("self_correction" in method for method in experiment["methods"].values())
    for method, steps in sampling["steps"].items():
        if "prompts" in sampling:
            sampling["steps"][method] = _told_steps(steps)
        elif corrected:
            sampling["steps"][method] = [n for n in steps if n in CORRECTED]
        else:
            named = method in CLAIMED and not reference
            sampling["steps"][method] = steps if named else [n for n in steps if n <= 2] or steps[:1]
    for solvers in sampling.get("solvers", {}).values():
        solvers.update({solver: [min(n, FEW) for n in steps[:1]] for solver, steps in solvers.items()})
    if reference:
        reference["steps"] = max(sampling["steps"][reference["method"]])


def _make_small(experiment: dict, processes: int) -> None:
    """Shrink one experiment, resolved and not yet validated, in place."""
    methods, sampling, metrics, shared = (
        experiment[key] for key in ("methods", "sampling", "metrics", "training")
    )
    images = "features" in metrics
    shares = [[term.get("share", 1.0) for term in method.get("terms", [{}])] for method in methods.values()]
    served = [
        term.get("options", {}).get("times", 1)
        for method in methods.values()
        for term in method.get("terms", [])
    ]
    shared["batch"] = multiple(smallest_batch(shares, processes), served)
    shared["seeds"] = shared["seeds"][:1]
    for method in methods.values():
        method["steps"] = STEPS
        # a loss that waits for its first step would not be rehearsed
        for loss in method.get("self_correction", {}).values():
            if isinstance(loss, dict) and "warmup" in loss:
                loss["warmup"] = 0
    sampling["count"] = FEW_IMAGES if images else FEW_POINTS
    # two where a measure compares one noise with another; the sampling of self-distillation's large networks takes longest
    sampling["seeds"] = sampling["seeds"][: 2 if "t_fid" in metrics["measures"] or not images else 1]
    if "w2_samples" in metrics:
        metrics["w2_samples"] = min(metrics["w2_samples"], FEW_PAIRS)
    if images:
        _fewer_steps(experiment)
        if "speed" in experiment:
            experiment["speed"] = {"batches": [1, 2], "repeats": 2}


def settings(paper: Mapping[str, Any], device: str, devices: int, memory: int | None = None) -> dict:
    """The settings of tier paper, resolved and not yet validated, made small for `device` ("cpu" or "cuda").

    `devices` is the number of GPUs, or of a CPU's cores, and `memory` a GPU's bytes. Changed are: the device, with `processes`
    no more than the GPUs (on a CPU, 1) or `workers` those that the cores can keep busy; of each training the batch and the
    seeds, and on a CPU the settings that only a GPU takes; the steps of each method; of sampling the count, seeds and, of
    images, the steps; w2_samples, the reference's steps, what is timed, and how many images are drawn to measure against,
    encoded and decoded; and the channels of networks for which the machine is `too_small`. All else is as it was. `paper` is
    left alone.
    """
    small = json.loads(json.dumps(paper))
    compute = small["compute"]
    compute["device"] = device
    if device == "cpu":
        compute["workers"] = min(devices, MOST_WORKERS)
    for place in (
        compute,
        *(experiment["training"] for experiment in (small["tour"], *small["experiments"].values())),
    ):
        if "processes" in place:
            place["processes"] = 1 if device == "cpu" else min(place["processes"], devices)
    for experiment in (small["tour"], *small["experiments"].values()):
        shared = experiment["training"]
        if device == "cpu":
            for key in [k for k in ("compile", "cuda_graphs") if k in shared] + (
                ["precision"] if shared.get("precision") == "tf32" else []
            ):
                del shared[key]
        _make_small(experiment, shared.get("processes", compute.get("processes", 1)))
    if too_small(small, device, memory):
        for network in _networks(small):
            network["channels"] = narrow(network)
    for features in small.get("features", {}).values():
        if features.get("reference"):
            features["reference"] = tiny_captioned.OF_COCO if "prompts" in features else tiny_archives.COUNT
    for latents in small.get("latents", {}).values():
        latents |= {"count": FEW_LATENTS, "measured": FEW_IMAGES}
    return small
