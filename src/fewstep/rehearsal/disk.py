"""How much disk a tier takes, from its settings alone: nothing is opened, and networks are only counted.

Features, logs and discriminators, a few hundredths of the whole, are not counted.
"""

import json
from functools import cache
from math import prod

import torch

from .. import data, networks
from ..evaluation import sample
from ..settings.latents import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method

# numbers that an optimiser keeps for each weight; SOAP's are those of a square matrix
MOMENTS = {"adam": 2, "radam": 2, "soap": 6}
FLOAT = 4
# the tokens of OpenAI's CLIPs, and the width of their states in Stable Diffusion, where no network says it
TOKENS, WIDTH = 77, 768
# what stages hand on: DVC keeps a copy, unless the file system can share it
HANDED_ON = ("latents", "captions", "trained networks", "samples")


def images(name: str) -> int:
    """How many training images the data set `name` has."""
    return getattr(data.module(name), "COUNT", None) or len(data.load(name).pixels)


def encoded(latents: Latents) -> int:
    """How many images an entry of a tier's `latents` encodes, mirror images apart."""
    return min(latents.count or images(latents.data), images(latents.data))


def token_states(tier: Tier, clip: str) -> tuple[int, int]:
    """The tokens of every caption, and the numbers a token, as the entry `clip` of a tier reads it."""
    own = tier.clip[clip]
    if own.kind == "trained":
        return own.tokens, own.width
    readers = [name for name, latents in tier.latents.items() if latents.clip == clip]
    trainings = (experiment.training for experiment in tier.experiments.values())
    return TOKENS, next((own.network.width for own in trainings if own.latents in readers), WIDTH)


def captions(tier: Tier, experiment: ExperimentSettings) -> tuple[int, int] | None:
    """`token_states` of what an experiment's networks are conditioned on, if they are."""
    latents = tier.latents.get(experiment.training.latents)
    return token_states(tier, latents.clip) if latents and latents.clip else None


@cache
def _count(network: str, shape: tuple[int, ...]) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in networks.build(json.loads(network), shape).parameters())


def weights(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """The number of weights of a method's network for points of `shape`."""
    return _count((method.network or experiment.training.network).model_dump_json(), shape)


def needs(tier: Tier) -> dict[str, int]:
    """Bytes that a whole run of `tier` writes, by what they are; images decoded from archives among them."""
    names = (*HANDED_ON, "states of trainings", "decoded images")
    found = dict.fromkeys(names, 0)
    for experiment in tier.experiments.values():
        shape, latents = tier.shape(experiment), tier.latents.get(experiment.training.latents)
        # what another experiment has trained is there already
        for method in experiment.methods.values() if not experiment.students_of else ():
            size = FLOAT * len(experiment.training.seeds) * weights(experiment, method, shape)
            found["trained networks"] += size
            if not method.weights:
                optimiser = method.optimiser or experiment.training.optimiser
                # weights and their average; one more for a staged teacher, and for SCFlow's target
                more = (method.teacher_as == "stages") + (method.loop == "scflow")
                found["states of trainings"] += (2 + MOMENTS[optimiser.kind] + more) * size
        size = prod(data.load(latents.data).shape if latents else shape)
        size *= 1 if experiment.metrics.of_images else FLOAT
        found["samples"] += len(sample.plan(experiment)) * experiment.sampling.count * size
    for own in tier.latents.values():
        # mean and deviation, of every image and, where the data set draws it, its mirror image
        found["latents"] += FLOAT * encoded(own) * prod(own.shape) * 2 * (1 + data.load(own.data).flip)
        if own.clip:
            tokens, width = token_states(tier, own.clip)
            found["captions"] += encoded(own) * tokens * (FLOAT * width + 1)
    for name in {own.data for own in (*tier.features.values(), *tier.latents.values())}:
        # captioned pictures are decoded as they are read
        if data.offers(name, "check") and not data.offers(name, "captions"):
            found["decoded images"] += images(name) * prod(data.load(name).shape)
    return found | {"DVC's copies": sum(found[what] for what in HANDED_ON)}
