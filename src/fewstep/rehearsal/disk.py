"""How much disk a tier takes, from its settings alone: nothing is opened, and networks are only counted."""

import json
from collections.abc import Iterator
from functools import cache
from math import prod

import torch
from torch import nn

from .. import data, networks
from ..evaluation import sample
from ..networks.classifier import FEATURES
from ..networks.discriminator import Discriminator
from ..networks.text_discriminator import TextDiscriminator
from ..settings.prepared import Latents
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method

# features of an image, by extractor
DIMENSIONS = {"inception": 2048, "classifier": FEATURES}
# numbers that an optimiser keeps for each weight; SOAP's are those of a square matrix
MOMENTS = {"adam": 2, "radam": 2, "soap": 6}
FLOAT, LOG = 4, 2 * 4
# the tokens of OpenAI's CLIPs, and the width of their states in Stable Diffusion, where no network says it
TOKENS, WIDTH = 77, 768
# what stages hand on: DVC keeps a copy, unless the file system can share it
HANDED_ON = ("latents", "captions", "trained networks", "samples", "features of the data")
OTHERS = ("states of trainings", "features of samples, while measured", "decoded images")


def images(name: str) -> int:
    """How many training images the data set `name` has."""
    return getattr(data.module(name), "COUNT", None) or len(data.load(name).pixels)


def measured_against(tier: Tier, features: str) -> int:
    """How many images the entry `features` of a tier measures against."""
    return tier.features[features].reference or images(tier.features[features].data)


def is_decoded(name: str) -> bool:
    """Whether the images of the data set `name` are decoded from published archives before all else."""
    return data.offers(name, "check") and not data.offers(name, "captions")


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


def _of_captions(count: int, tokens: int, width: int) -> int:
    """Bytes of captions as they are read: their states, and a mask."""
    return count * tokens * (FLOAT * width + 1)


def _count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


@cache
def _counted(network: str, shape: tuple[int, ...], head: int | None) -> int:
    """The weights of a network, its settings as JSON, or of the discriminator made of it with a `head`."""
    with torch.device("meta"):
        flow_map = networks.build(json.loads(network), shape)
        return _count(flow_map) if head is None else _count(TextDiscriminator(flow_map.network, head))


def weights(
    experiment: ExperimentSettings, method: Method, shape: tuple[int, ...], head: int | None = None
) -> int:
    """The weights of a method's network for points of `shape`, or of its discriminator with a `head`."""
    return _counted((method.network or experiment.training.network).model_dump_json(), shape, head)


def discriminator_weights(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """The number of weights of a method's discriminator, 0 without one."""
    own = method.self_correction and method.self_correction.adversarial
    if own is None:
        return 0
    if own.head is not None:
        return weights(experiment, method, shape, own.head)
    with torch.device("meta"):
        return _count(Discriminator(shape, own.channels))


def stored(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """Bytes of the networks and moments in the state of one training of a method."""
    optimiser = method.optimiser or experiment.training.optimiser
    # one more for a staged teacher, and for SCFlow's target
    copies = 2 + MOMENTS[optimiser.kind] + (method.teacher_as == "stages") + (method.loop == "scflow")
    critic = (1 + MOMENTS["adam"]) * discriminator_weights(experiment, method, shape)
    return FLOAT * (copies * weights(experiment, method, shape) + critic)


def held(experiment: ExperimentSettings, method: Method, shape: tuple[int, ...]) -> int:
    """Bytes that a training's step holds at the least: its state, the gradients and the teacher."""
    student = weights(experiment, method, shape) * (1 + (method.teacher is not None))
    critic = discriminator_weights(experiment, method, shape)
    return stored(experiment, method, shape) + FLOAT * (student + critic)


def _of_experiment(tier: Tier, experiment: ExperimentSettings) -> Iterator[tuple[str, int]]:
    shape, read, latents = tier.shape(experiment), captions(tier, experiment), experiment.training.latents
    seeds, count, metrics = len(experiment.training.seeds), experiment.sampling.count, experiment.metrics
    # what another experiment has trained is there already
    for method in experiment.methods.values() if not experiment.students_of else ():
        log = 0 if method.weights else LOG * method.steps
        yield "trained networks", seeds * (FLOAT * weights(experiment, method, shape) + log)
        if not method.weights:
            yield "states of trainings", seeds * (stored(experiment, method, shape) + log)
    drawn = len(sample.plan(experiment)) * count
    size = prod(data.load(tier.latents[latents].data).shape if latents else shape)
    yield "samples", drawn * size * (1 if metrics.of_images else FLOAT)
    if read:
        yield "samples", _of_captions(count, *read)
    if metrics.of_images:
        dimension = DIMENSIONS[tier.features[metrics.features].extractor]
        yield "features of samples, while measured", FLOAT * drawn * dimension


def needs(tier: Tier) -> dict[str, int]:
    """Bytes that a whole run of `tier` writes, by what they are; what is removed again counts at its highest.

    Decoded images lie beside the archives; all else below the repository.
    """
    found = dict.fromkeys((*HANDED_ON, *OTHERS), 0)
    for experiment in tier.experiments.values():
        for what, size in _of_experiment(tier, experiment):
            found[what] = max(found[what], size) if what.endswith("while measured") else found[what] + size
    for name, own in tier.features.items():
        found["features of the data"] += FLOAT * measured_against(tier, name) * DIMENSIONS[own.extractor]
    for own in tier.latents.values():
        # mean and deviation, of every image and, where the data set draws it, its mirror image
        found["latents"] += FLOAT * encoded(own) * prod(own.shape) * 2 * (1 + data.load(own.data).flip)
        # and one more caption, the empty one
        found["captions"] += _of_captions(encoded(own) + 1, *token_states(tier, own.clip)) if own.clip else 0
    for name in {own.data for own in (*tier.features.values(), *tier.latents.values())}:
        found["decoded images"] += images(name) * prod(data.load(name).shape) if is_decoded(name) else 0
    return found | {"DVC's copies": sum(found[what] for what in HANDED_ON)}
