"""Before a tier is run: is everything there that it needs, and how long and how large will it be?"""

import shutil
from math import prod
from pathlib import Path

import pandas as pd
import torch

from .. import data
from ..evaluation import provenance, sample
from ..pipeline.stages import plan
from ..settings.base import SettingsError
from ..settings.prepared import Latents
from ..settings.tiers import Tier
from ..training.processes import require_cuda
from .forecast import Row, Timings, forecast, token_states
from .missing import missing_files, said

FLOAT, GB = 4, 10**9


class PreflightError(RuntimeError):
    """Something that a tier needs is missing."""


def images(name: str) -> int:
    """How many training images the data set `name` has."""
    return getattr(data.module(name), "COUNT", None) or len(data.load(name).pixels)


def encoded(latents: Latents) -> int:
    """How many images an entry of a tier's `latents` encodes, mirror images apart."""
    return min(latents.count or images(latents.data), images(latents.data))


def needs(tier: Tier) -> dict[str, int]:
    """Bytes that a whole run of `tier` writes, by what they are, from its settings alone.

    Networks, states of trainings, features and decoded archives are a few hundredths of the whole at tier
    paper, and are not counted.
    """
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


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def missing_space(root: Path, tier_name: str, wanted: int) -> list[str]:
    """A sentence where fewer than `wanted` bytes, less what earlier runs have left, are free at `root`."""
    wanted, free = wanted - _size(root / "artifacts" / tier_name), shutil.disk_usage(root).free
    there = f"{root} has {free / GB:,.0f} GB free, and tier {tier_name} writes about {wanted / GB:,.0f} GB"
    return [f"{there} there: make room, or move the clone"] if free < wanted else []


def table(rows: list[Row]) -> str:
    """The forecast as a table for people, with its total."""
    cells = [
        [row.stage, row.work, row.seconds / 3600, f"{(row.gpu_bytes or 0) / GB:.1f} GB", row.problem or ""]
        for row in rows
    ]
    cells.append(["all of these", "", sum(row.seconds for row in rows) / 3600, "", ""])
    columns = ["stage", "work", "hours", "on GPU", ""]
    return pd.DataFrame(cells, columns=columns).to_string(index=False, float_format="{:,.2f}".format)


def preflight(root: Path, tier_name: str, tier: Tier) -> None:
    """Print what `tier` lacks on this machine, and how long it will train and sample here.

    A step and a network call are timed at the true batch, on the tier's own device, and not where that is
    missing. Raises PreflightError when anything is.
    """
    if not tier.experiments:
        raise SettingsError(f"tier '{tier_name}' has no experiments: there is nothing to look ahead to")
    lacking = said(require_cuda, tier.processes) if tier.compute.device == "cuda" else []
    device, wanted = "cpu" if lacking else tier.compute.device, needs(tier)
    print(f"Preflight of tier {tier_name} on {provenance.hardware(device)}")
    sizes = ", ".join(f"{what} {size / GB:,.1f} GB" for what, size in wanted.items() if size)
    print(f"Disk: {sizes}; {shutil.disk_usage(root).free / GB:,.0f} GB free here")
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {free / GB:,.0f} of {total / GB:,.0f} GB free")
    files = missing_files(tier, True)
    missing = [*lacking, *files, *missing_space(root, tier_name, sum(wanted.values()))]
    for sentence in missing:
        print(f"missing: {sentence}", flush=True)
    if files:
        print("`fewstep fetch` says which of these have a public address, and fetches them.")
    if lacking:
        print("Hours are measured on the machine that will run the tier, and not on this one.")
    else:
        rows = forecast(plan(root, tier_name), tier, Timings(tier, device))
        missing += [row.problem for row in rows if row.problem]
        print(table(rows))
        print("Preparing, measuring and drawing figures come on top of these hours.")
    if missing:
        count = f"{len(missing)} thing{'s' if len(missing) > 1 else ''} missing"
        raise PreflightError(f"tier {tier_name} cannot run here as it is: {count}, listed above")
    print(f"nothing is missing for tier {tier_name}")
