"""How much disk a tier takes, from its settings alone: nothing is opened, and networks are only counted."""

from __future__ import annotations

from importlib import import_module
from math import prod

import torch

from . import data, networks, sampling
from .experiments import Experiment, Tier
from .recipes import Method
from .networks.classifier import FEATURES
from .networks.discriminator import discriminator

# features of an image, by extractor
DIMENSIONS = {"inception": 2048, "classifier": FEATURES}
# numbers that an optimiser keeps for each weight; SOAP's are those of a square matrix
MOMENTS = {"adam": 2, "radam": 2, "soap": 6}
FLOAT, LOG = 4, 2 * 4


def images(name: str) -> int:
    """How many training images the data set `name` has: as published, or as they ship with the project."""
    published = getattr(import_module(f"{data.__name__}.{name}"), "COUNT", None)
    return published or len(data.load(name).images.pixels)


def is_fetched(name: str) -> bool:
    """Whether the data set `name` is read from published archives, which somebody has to fetch."""
    return hasattr(import_module(f"{data.__name__}.{name}"), "check")


def dimension(tier: Tier, experiment: Experiment) -> int:
    """The number of features that the images of an experiment are measured in."""
    return DIMENSIONS[tier.features[experiment.metrics.features].extractor]


def measured_against(tier: Tier, features: str) -> int:
    """How many images the entry `features` of a tier measures against."""
    return tier.features[features].reference or images(tier.features[features].data)


def weights(experiment: Experiment, method: Method, shape: tuple[int, ...]) -> int:
    """The number of weights of a method's network for points of `shape`."""
    settings = method.network or experiment.training.network
    with torch.device("meta"):
        built = networks.build(settings.model_dump(), shape)
    return sum(p.numel() for p in built.parameters())


def judging(method: Method, shape: tuple[int, ...]) -> int:
    """The number of weights of a method's discriminator, if it has one."""
    if method.self_correction is None or method.self_correction.adversarial is None:
        return 0
    with torch.device("meta"):
        return sum(p.numel() for p in discriminator(shape, method.self_correction.adversarial.channels).parameters())


def needs(tier: Tier) -> dict[str, int]:
    """Bytes that a whole run of `tier` writes, by what they are.

    What is removed again counts at its highest. DVC keeps a copy of what the stages hand on, unless the file system can
    share it. Decoded images lie beside the archives; all else below the repository.
    """
    found = dict.fromkeys(("latents", "trained networks", "states of trainings", "samples", "features of the data", "features of samples, while measured", "decoded images"), 0)
    for experiment in tier.experiments.values():
        seeds, shape = len(experiment.training.seeds), tier.shape(experiment)
        picture = data.load(tier.latents[experiment.training.latents].data).shape if experiment.training.latents else shape
        for method in experiment.methods.values():
            numbers, optimiser = weights(experiment, method, shape), method.optimiser or experiment.training.optimiser
            # one more for what stands in for a staged teacher, and for SCFlow's target
            copies = 2 + MOMENTS[optimiser.kind] + (method.teacher_as == "stages") + (method.loop == "scflow")
            found["trained networks"] += seeds * (FLOAT * numbers + LOG * method.steps)
            beside = (1 + MOMENTS["adam"]) * judging(method, shape)
            found["states of trainings"] += seeds * (FLOAT * (copies * numbers + beside) + LOG * method.steps)
        draws, count, of_images = len(sampling.plan(experiment)), experiment.sampling.count, experiment.metrics.of_images
        found["samples"] += draws * count * prod(picture) * (1 if of_images else FLOAT)
        if of_images:
            kept = FLOAT * draws * count * dimension(tier, experiment)
            found["features of samples, while measured"] = max(found["features of samples, while measured"], kept)
    for name, own in tier.features.items():
        found["features of the data"] += FLOAT * measured_against(tier, name) * DIMENSIONS[own.extractor]
    for own in tier.latents.values():
        # mean and deviation, of every image and its mirror image
        found["latents"] += FLOAT * images(own.data) * prod(own.shape) * 2 * 2
    for name in {own.data for own in tier.features.values()}:
        found["decoded images"] += images(name) * prod(data.load(name).shape) if is_fetched(name) else 0
    handed_on = ("latents", "trained networks", "samples", "features of the data")
    return found | {"DVC's copies": sum(found[what] for what in handed_on)}
