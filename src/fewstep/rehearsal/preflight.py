"""Before a tier is run: is everything there that it needs, and how long will it take?"""

import os
import shutil
from pathlib import Path

import torch

from ..data.formats.archives import ENVIRONMENT, folder_of
from ..evaluation import provenance
from ..pipeline.stages import plan
from ..settings.base import SettingsError
from ..settings.tiers import Tier
from ..training.processes import require_cuda
from . import disk
from .forecast import Row, forecast
from .missing import missing_files, said
from .timing import GB, Timings


class PreflightError(RuntimeError):
    """Something that a tier needs is missing."""


def _disk(place: Path) -> int:
    return os.stat(place).st_dev


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) if folder.is_dir() else 0


def missing_space(root: Path, tier_name: str, needs: dict[str, int]) -> list[str]:
    """A sentence for each disk that has less than `needs`, the bytes by kind that a run writes there.

    What earlier runs have left below artifacts/<tier> counts as written.
    """
    decoded, written = needs["decoded images"], _size(root / "artifacts" / tier_name)
    below = max(sum(needs.values()) - decoded - written, 0)
    places = {root: below}
    # the nearest folder that exists
    archives = next(folder for folder in folder_of("any").parents if folder.exists())
    own = root if _disk(archives) == _disk(root) else archives
    places[own] = places.get(own, 0) + decoded
    found = []
    for place, wanted in places.items():
        free = shutil.disk_usage(place).free
        if free < wanted:
            cure = f"make room, or move the clone (for the archives: set {ENVIRONMENT})"
            there = f"tier {tier_name} writes about {wanted / GB:,.0f} GB there"
            found.append(f"{place} has {free / GB:,.0f} GB free, and {there}: {cure}")
    return found


def missing_device(tier: Tier) -> list[str]:
    """The sentence about GPUs that `tier` asks for and this machine does not have, if any."""
    return said(require_cuda, tier.processes) if tier.compute.device == "cuda" else []


def _hours(rows: list[Row]) -> str:
    """The forecast as a table for people, with its total."""
    width, work = max(len(row.stage) for row in rows), max(len(row.work) for row in rows)
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
    sizes = ", ".join(f"{what} {size / GB:,.1f} GB" for what, size in needs.items() if size)
    print(f"Disk: {sizes}; {shutil.disk_usage(root).free / GB:,.0f} GB free here")
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {free / GB:,.0f} of {total / GB:,.0f} GB free")
    missing = [*missing_device(tier), *missing_files(tier, True), *missing_space(root, tier_name, needs)]
    if times:
        if not there:
            print("Hours on this CPU, from small batches in proportion: a GPU's must be measured there.")
        rows = forecast(plan(root, tier_name), tier, Timings(tier, device, quick or not there))
        # what another device cannot hold says nothing of the tier's own
        missing += [f"{row.stage}: {row.problem}" for row in rows if row.problem and there]
        print(_hours(rows))
    for sentence in missing:
        print(f"missing: {sentence}")
    if missing:
        count = f"{len(missing)} thing{'s' if len(missing) > 1 else ''} missing"
        raise PreflightError(f"tier {tier_name} cannot run here as it is: {count}, listed above")
    print(f"nothing is missing for tier {tier_name}")
