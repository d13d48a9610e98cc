"""How much disk a tier takes, from its settings alone: samples and what is encoded.

Networks, states of trainings, features and decoded archives are a few hundredths of the whole at tier paper,
and are not counted.
"""

from math import prod

from .. import data
from ..evaluation import sample
from ..settings.prepared import Latents
from ..settings.tiers import ExperimentSettings, Tier

FLOAT = 4
# the tokens of OpenAI's CLIPs, and the width of their states in Stable Diffusion, where no network says it
TOKENS, WIDTH = 77, 768


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


def needs(tier: Tier) -> dict[str, int]:
    """Bytes that a whole run of `tier` writes, by what they are."""
    found = {"latents": 0, "captions": 0, "samples": 0}
    for experiment in tier.experiments.values():
        latents = tier.latents.get(experiment.training.latents)
        size = prod(data.load(latents.data).shape if latents else tier.shape(experiment))
        size *= 1 if experiment.metrics.of_images else FLOAT
        found["samples"] += len(sample.plan(experiment)) * experiment.sampling.count * size
    for own in tier.latents.values():
        # mean and deviation, of every image and, where the data set draws it, its mirror image
        found["latents"] += FLOAT * encoded(own) * prod(own.shape) * 2 * (1 + data.load(own.data).flip)
        if own.clip:
            tokens, width = token_states(tier, own.clip)
            found["captions"] += encoded(own) * tokens * (FLOAT * width + 1)
    # unless the file system can share them
    return found | {"DVC's copies": sum(found.values())}
