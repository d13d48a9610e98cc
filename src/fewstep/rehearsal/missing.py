"""What a tier needs and this machine lacks: data sets and published weights.

`check` asks at the start of every run: diffusers, seconds to load, is imported where something needs it.
"""

from collections.abc import Callable

from .. import data
from ..data.formats.archives import folder_of
from ..metrics.features import INCEPTION, INCEPTION_SHA256, verify
from ..settings.tiers import Tier
from ..training import published_weights


def said(check: Callable[..., None], *arguments: object) -> list[str]:
    """What a check raises, as a sentence, or nothing."""
    try:
        check(*arguments)
    except (OSError, ValueError, RuntimeError) as error:
        return [str(error)]
    return []


def missing_files(tier: Tier, checksums: bool) -> list[str]:
    """A sentence for each data set and each weights file of `tier` that is not the published one.

    Nothing is unpacked or decoded, and no network is loaded. `checksums` says whether weights are held
    against theirs too.
    """
    trainings = (experiment.training for experiment in tier.experiments.values())
    used = {own.data for own in (*tier.features.values(), *tier.latents.values(), *trainings)}
    archives = [data.module(name).check for name in sorted(used) if data.offers(name, "check")]
    found, checks = [sentence for check in archives for sentence in said(check)], []
    coders = [own.autoencoder for own in tier.latents.values()]
    if published := [own.repository for own in coders if own.kind == "pretrained"]:
        from ..networks import autoencoder

        checks += [autoencoder.published(name).check for name in dict.fromkeys(published)]
    if readers := [own for own in tier.clip.values() if own.kind == "published"]:
        from ..networks import clip_files as clip

        pairs = dict.fromkeys((own.repository, own.towers) for own in readers)
        checks += [clip.repository_of(*pair).check for pair in pairs]
    # what several entries share is said once
    for check in dict.fromkeys(checks):
        found += said(check, checksums)
    found += published_weights.missing(tier, checksums)
    if any(own.extractor == "inception" for own in tier.features.values()):
        found += said(verify, folder_of("inception") / INCEPTION, INCEPTION_SHA256 if checksums else None)
    return found
