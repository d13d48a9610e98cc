"""Before a tier is run: is everything there that it needs, and how long will it take?

What is missing is said all at once, each in one sentence that names the cure; the hours come from steps,
network calls and metrics that are really measured here.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from .. import data
from ..data.formats.archives import ENVIRONMENT, folder_of
from ..evaluation import provenance
from ..metrics.features import INCEPTION, INCEPTION_SHA256, INCEPTION_URL, verify
from ..networks import autoencoder
from ..networks.published import clip
from ..pipeline.stages import plan
from ..settings.base import SettingsError
from ..settings.tiers import Tier
from ..training import published_weights
from ..training.devices import require_cuda
from . import disk
from .forecast import Row, forecast
from .measured import GB, Measured, other_process


class PreflightError(RuntimeError):
    """Something that a tier needs is missing."""


def _data_sets(tier: Tier) -> list[str]:
    """The data sets that a tier reads and somebody has to fetch."""
    entries = [*tier.features.values(), *tier.latents.values()]
    used = {experiment.training.data for experiment in tier.experiments.values()} | {
        own.data for own in entries
    }
    return sorted(name for name in used if disk.is_fetched(name))


def _said(check: Callable[..., None], *arguments: object) -> list[str]:
    """What a check raises, as a sentence, or nothing."""
    try:
        check(*arguments)
    except (OSError, ValueError, RuntimeError) as error:
        return [str(error)]
    return []


def _check_inception(checksums: bool) -> None:
    path = folder_of("inception") / INCEPTION
    if not path.is_file():
        raise FileNotFoundError(
            f"the Inception weights {path} are not there: download {INCEPTION_URL} to that path (fewstep "
            "never does)"
        )
    if checksums:
        verify(path, INCEPTION_SHA256)


def missing_files(tier: Tier, checksums: bool) -> list[str]:
    """A sentence for each data set and each weights file of `tier` that is not the published one.

    Nothing is unpacked or decoded, and no network is loaded. `checksums` says whether these are read too.
    """
    found = []
    for name in _data_sets(tier):
        found += _said(data.module(name).check, checksums)
    # what several entries share is said once
    for repository in dict.fromkeys(
        own.autoencoder.repository for own in tier.latents.values() if own.autoencoder.kind == "pretrained"
    ):
        found += _said(autoencoder.check, repository, checksums)
    for repository, towers in dict.fromkeys(
        (own.repository, own.towers) for own in tier.clip.values() if own.kind == "published"
    ):
        found += _said(clip.check, repository, towers, checksums)
    found += published_weights.missing(tier, checksums)
    if any(own.extractor == "inception" for own in tier.features.values()):
        found += _said(_check_inception, checksums)
    return found


def _there(path: Path) -> Path:
    """`path`, or the nearest folder above it that exists."""
    return next(folder for folder in (path, *path.parents) if folder.exists())


def _disk(place: Path) -> int:
    """Which disk `place` is on."""
    return os.stat(place).st_dev


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def missing_space(root: Path, tier_name: str, needs: dict[str, int]) -> list[str]:
    """A sentence for each disk that has less than `needs`, the bytes by kind that a run writes there.

    What earlier runs have left below artifacts/<tier> counts as written.
    """
    decoded, written = needs["decoded images"], _size(root / "artifacts" / tier_name)
    below = max(sum(needs.values()) - decoded - written, 0)
    places = {_there(root): below}
    archives = _there(folder_of("any").parent)
    own = root if _disk(archives) == _disk(root) else archives
    places[own] = places.get(own, 0) + decoded
    found = []
    for place, wanted in places.items():
        free = shutil.disk_usage(place).free
        if free < wanted:
            found.append(
                f"{place} has {free / GB:,.0f} GB free, and tier {tier_name} writes about {wanted / GB:,.0f} "
                f"GB there: make room, or move the clone (for the archives: set {ENVIRONMENT})"
            )
    return found


def missing_device(tier: Tier) -> list[str]:
    """The sentence about GPUs that `tier` asks for and this machine does not have, if any."""
    if tier.compute.device == "cuda":
        try:
            require_cuda(tier.processes)
        except RuntimeError as error:
            return [str(error)]
    return []


def _hours(rows: list[Row]) -> str:
    """The forecast as a table for people, with its total."""
    width = max(len(row.stage) for row in rows)
    work = max(len(row.work) for row in rows)
    lines = [f"{'stage':{width}}  {'work':{work}}  {'hours':>9}  {'on GPU':>8}  basis"]
    for row in rows:
        hours = f"{row.seconds / 3600:9,.2f}" if row.seconds is not None else f"{'-':>9}"
        held = f"{row.device_bytes / GB:5.1f} GB" if row.device_bytes is not None else f"{'-':>8}"
        lines.append(f"{row.stage:{width}}  {row.work:{work}}  {hours}  {held}  {row.problem or row.basis}")
    total = sum(row.seconds or 0 for row in rows) / 3600
    lines.append(f"{'all stages':{width}}  {'':{work}}  {total:9,.2f}")
    return "\n".join(lines)


def preflight(root: Path, tier_name: str, tier: Tier, quick: bool, times: bool) -> None:
    """Print what `tier` lacks on this machine and, with `times`, how long its stages will take.

    The true batch is timed where the tier's own device is there, unless `quick`; elsewhere small ones on the
    CPU, and the table says so. Raises PreflightError when anything is missing.
    """
    if not tier.experiments:
        raise SettingsError(f"tier '{tier_name}' has no experiments: there is nothing to look ahead to")
    there = not missing_device(tier)
    device = tier.compute.device if there else "cpu"
    print(f"Preflight of tier {tier_name} on {provenance.hardware(device)}")
    needs = disk.needs(tier)
    print(
        "Disk: "
        + ", ".join(f"{what} {size / GB:,.1f} GB" for what, size in needs.items() if size)
        + f"; {shutil.disk_usage(root).free / GB:,.0f} GB free here"
    )
    if device == "cuda":
        import torch

        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {free / GB:,.0f} of {total / GB:,.0f} GB free")
    missing = (
        missing_device(tier) + missing_files(tier, checksums=True) + missing_space(root, tier_name, needs)
    )
    if times:
        if not there:
            print(
                "Hours on this CPU, from small batches in proportion: what a GPU takes must be measured "
                "there."
            )
        measured = Measured(tier, device, quick or not there)
        with other_process() as measured.run:
            rows = forecast(plan(root, tier_name), tier, measured)
        missing += [f"{row.stage}: {row.problem}" for row in rows if row.problem]
        print(_hours(rows))
    for sentence in missing:
        print(f"missing: {sentence}")
    if missing:
        raise PreflightError(
            f"tier {tier_name} cannot run here as it is: {len(missing)} "
            f"thing{'s' if len(missing) > 1 else ''} missing, listed above"
        )
    print(f"nothing is missing for tier {tier_name}")
