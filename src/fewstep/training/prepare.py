"""What the experiments on a data set need beforehand, its parts side by side where none waits for another."""

from typing import Any

from ..settings import tiers
from ..settings.base import SettingsError
from ..settings.tiers import Tier
from ..storage.workspace import Workspace
from .pool import run_after

# the parts of a preparation as they run one after the other
ORDER = ("clip", "autoencoder", "features", "latents")


def prepared(tier: Tier, name: str) -> dict[str, list[str]]:
    """The entries of `features`, `clip` and `latents` prepared with the data set of the entry `name`.

    Raises SettingsError, naming those there are, where neither `features` nor `latents` has that entry.
    """
    entries = {**tier.features, **tier.latents}
    if name not in entries:
        raise SettingsError(f"there is no data set '{name}' to prepare; there are {', '.join(entries)}")
    data = entries[name].data
    latents = [key for key, own in tier.latents.items() if own.data == data]
    readers = [tier.latents[key].clip for key in latents if tier.latents[key].clip]
    features = [key for key, own in tier.features.items() if own.data == data]
    # a classifier that another entry shares stands before it
    features.sort(key=lambda key: tier.features[key].classifier_of is not None)
    return {"features": features, "clip": list(dict.fromkeys(readers)), "latents": latents}


def _part(tier: str, part: str, name: str) -> dict[str, Any]:
    # here, and not above: diffusers and transformers take seconds to load, and a classifier needs neither
    if part == "features":
        from . import features

        return features.prepare(features.FeaturePreparation.open(tier, name))
    if part == "clip":
        from . import clip

        return clip.train(clip.ClipPreparation.open(tier, name))
    from . import autoencoder, latents

    opened = autoencoder.LatentPreparation.open(tier, name)
    return autoencoder.train(opened) if part == "autoencoder" else latents.encode_all(opened)


def prepare(tier: str, name: str) -> dict[str, dict[str, Any]]:
    """Prepare the data set of the entry `name` of `features` or `latents` at `tier`.

    Returns what each part says of itself, by part ("features", "clip", "autoencoder", "latents") and entry.
    """
    settings = tiers.load(Workspace.here(tier).params, tier)
    entries = prepared(settings, name)
    entries["autoencoder"] = entries["latents"]
    jobs = {(part, key): (tier, part, key) for part in ORDER for key in entries[part]}
    after: dict[tuple[str, str], list[tuple[str, str]]] = {}
    for key in entries["features"]:
        after["features", key] = [("features", settings.features[key].classifier_of)]
    for key in entries["latents"]:
        after["latents", key] = [("autoencoder", key), ("clip", settings.latents[key].clip)]
    after = {job: [other for other in others if other[1]] for job, others in after.items()}
    workers = 1 if settings.compute.device == "cuda" else settings.compute.workers
    found: dict[str, dict[str, Any]] = {part: {} for part in ORDER}
    for (part, key), described in run_after(_part, jobs, after, workers).items():
        found[part][key] = described
    return found
