"""How much disk a tier takes, from its settings alone: nothing is opened, and networks are only counted."""

from __future__ import annotations

import json
from functools import cache
from math import prod

import torch
from torch import nn

from .. import data, networks
from ..evaluation import sample
from ..networks.classifier import FEATURES
from ..networks.discriminator import discriminator
from ..networks.text_discriminator import TextDiscriminator
from ..settings.latents import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method

# features of an image, by extractor
DIMENSIONS = {"inception": 2048, "classifier": FEATURES}
# numbers that an optimiser keeps for each weight; SOAP's are those of a square matrix
MOMENTS = {"adam": 2, "radam": 2, "soap": 6}
FLOAT, LOG = 4, 2 * 4
# what OpenAI's CLIPs read of a text, and how wide the states of the one in Stable Diffusion are, for a CLIP that no network is told by
TOKENS, WIDTH = 77, 768


def images(name: str) -> int:
    """How many training images the data set `name` has: as published, or as they ship with the project."""
    published = getattr(data.module(name), "COUNT", None)
    return published or len(data.load(name).images.pixels)


def is_fetched(name: str) -> bool:
    """Whether the data set `name` is read from published archives, which somebody has to fetch."""
    return hasattr(data.module(name), "check")


def dimension(tier: Tier, experiment: ExperimentSettings) -> int:
    """The number of features that the images of an experiment are measured in."""
    return DIMENSIONS[tier.features[experiment.metrics.features].extractor]


def measured_against(tier: Tier, features: str) -> int:
    """How many images the entry `features` of a tier measures against."""
    return tier.features[features].reference or images(tier.features[features].data)


def is_decoded(name: str) -> bool:
    """Whether the images of a data set are kept decoded beside its archives: those with captions are decoded whenever they are looked at."""
    return is_fetched(name) and not data.offers(name, "captions")


def encoded(own: Latents) -> int:
    """How many images an entry of a tier's `latents` encodes, mirror images apart."""
    return min(own.count or images(own.data), images(own.data))


def reading(tier: Tier, clip: str) -> tuple[int, int]:
    """The tokens of every text, and the numbers a token, as the entry `clip` of a tier reads it."""
    own = tier.clip[clip]
    if own.kind == "trained":
        return own.tokens, own.width
    told = [
        experiment
        for experiment in tier.experiments.values()
        if (latents := tier.latents.get(experiment.training.latents)) and latents.clip == clip
    ]
    return TOKENS, told[0].training.network.width if told else WIDTH


def texts(tier: Tier, experiment: ExperimentSettings) -> tuple[int, int] | None:
    """`reading` of the texts that an experiment's networks are told, or None where they are told none."""
    latents = tier.latents.get(experiment.training.latents)
    return reading(tier, latents.clip) if latents and latents.clip else None


def _of_texts(count: int, tokens: int, width: int) -> int:
    """Bytes of so many texts as they are read: their states, and a mask."""
    return count * tokens * (FLOAT * width + 1)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@cache
def _counted(network: str, shape: tuple[int, ...], head: int | None) -> int:
    """The weights of the network of settings `network`, JSON, or of the discriminator that is made of it with a `head`; they are nowhere."""
    with torch.device("meta"):
        flow_map = networks.build(json.loads(network), shape)
        return _count(flow_map) if head is None else _count(TextDiscriminator(flow_map.network, head))


def _settings(experiment: ExperimentSettings, method: Method) -> str:
    """The settings of a method's network, as JSON."""
    return (method.network or experiment.training.network).model_dump_json()


def weights(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """The number of weights of a method's network for points of `shape`."""
    return _counted(_settings(experiment, method), shape, None)


def judging(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """The number of weights of a method's discriminator, if it has one."""
    if method.self_correction is None or method.self_correction.adversarial is None:
        return 0
    own = method.self_correction.adversarial
    if own.head is not None:
        return _counted(_settings(experiment, method), shape, own.head)
    with torch.device("meta"):
        return _count(discriminator(shape, own.channels))


def stored(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """Bytes of the networks and moments in the state of one training of a method."""
    optimiser = method.optimiser or experiment.training.optimiser
    # one more for what stands in for a staged teacher, and for SCFlow's target
    copies = 2 + MOMENTS[optimiser.kind] + (method.teacher_as == "stages") + (method.loop == "scflow")
    return FLOAT * (
        copies * weights(experiment, method, shape)
        + (1 + MOMENTS["adam"]) * judging(experiment, method, shape)
    )


def held(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """Bytes that a step of a method's training holds at the least: its state, the gradients and the teacher."""
    numbers, critic = weights(experiment, method, shape), judging(experiment, method, shape)
    return stored(experiment, method, shape) + FLOAT * (numbers * (1 + (method.teacher is not None)) + critic)


def needs(tier: Tier) -> dict[str, int]:
    """Bytes that a whole run of `tier` writes, by what they are.

    What is removed again counts at its highest. DVC keeps a copy of what the stages hand on, unless the file system can
    share it. Decoded images lie beside the archives; all else below the repository.
    """
    handed_on = ("latents", "captions", "trained networks", "samples", "features of the data")
    found = dict.fromkeys(
        (*handed_on, "states of trainings", "features of samples, while measured", "decoded images"), 0
    )
    for experiment in tier.experiments.values():
        shape, told = tier.shape(experiment), texts(tier, experiment)
        picture = (
            data.load(tier.latents[experiment.training.latents].data).shape
            if experiment.training.latents
            else shape
        )
        # what another experiment has trained is there already
        for method in experiment.methods.values() if not experiment.students_of else ():
            trained, steps = len(experiment.training.seeds), 0 if method.weights else method.steps
            found["trained networks"] += trained * (FLOAT * weights(experiment, method, shape) + LOG * steps)
            found["states of trainings"] += (
                0 if method.weights else trained * (stored(experiment, method, shape) + LOG * steps)
            )
        draws, count, of_images = (
            len(sample.plan(experiment)),
            experiment.sampling.count,
            experiment.metrics.of_images,
        )
        found["samples"] += draws * count * prod(picture) * (1 if of_images else FLOAT) + (
            _of_texts(count, *told) if told else 0
        )
        if of_images:
            kept = FLOAT * draws * count * dimension(tier, experiment)
            found["features of samples, while measured"] = max(
                found["features of samples, while measured"], kept
            )
    for name, own in tier.features.items():
        found["features of the data"] += FLOAT * measured_against(tier, name) * DIMENSIONS[own.extractor]
    for own in tier.latents.values():
        # mean and deviation, of every image and, where the data set draws it, its mirror image
        found["latents"] += FLOAT * encoded(own) * prod(own.shape) * 2 * (1 + data.load(own.data).flip)
        # and one more text, the empty one
        found["captions"] += _of_texts(encoded(own) + 1, *reading(tier, own.clip)) if own.clip else 0
    for name in {own.data for own in (*tier.features.values(), *tier.latents.values())}:
        found["decoded images"] += images(name) * prod(data.load(name).shape) if is_decoded(name) else 0
    return found | {"DVC's copies": sum(found[what] for what in handed_on)}
