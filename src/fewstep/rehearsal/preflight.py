"""Before a tier is run: is everything there that it needs, and how long and how large will it be?"""

import shutil
from pathlib import Path

import torch

from ..evaluation import provenance
from ..pipeline.stages import plan
from ..settings.base import SettingsError
from ..settings.tiers import Tier
from ..training.processes import require_cuda
from . import disk
from .forecast import Row, Timings, forecast
from .missing import missing_files, said

GB = 10**9


class PreflightError(RuntimeError):
    """Something that a tier needs is missing."""


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def missing_space(root: Path, tier_name: str, wanted: int) -> list[str]:
    """A sentence where fewer than `wanted` bytes, less what earlier runs have left, are free at `root`."""
    wanted, free = wanted - _size(root / "artifacts" / tier_name), shutil.disk_usage(root).free
    there = f"{root} has {free / GB:,.0f} GB free, and tier {tier_name} writes about {wanted / GB:,.0f} GB"
    return [f"{there} there: make room, or move the clone"] if free < wanted else []


def missing_device(tier: Tier) -> list[str]:
    """The sentence about GPUs that `tier` asks for and this machine does not have, if any."""
    return said(require_cuda, tier.processes) if tier.compute.device == "cuda" else []


def table(rows: list[Row]) -> str:
    """The forecast as a table for people, with its total."""
    width, work = max(len(row.stage) for row in rows), max(len(row.work) for row in rows)
    lines = [f"{'stage':{width}}  {'work':{work}}  {'hours':>9}  {'on GPU':>8}"]
    for row in rows:
        held = f"{row.gpu_bytes / GB:5.1f} GB" if row.gpu_bytes is not None else "-"
        line = f"{row.stage:{width}}  {row.work:{work}}  {row.seconds / 3600:9,.2f}  {held:>8}"
        lines.append(f"{line}  {row.problem or ''}".rstrip())
    total = sum(row.seconds for row in rows) / 3600
    lines.append(f"{'all of these':{width}}  {'':{work}}  {total:9,.2f}")
    return "\n".join(lines)


def preflight(root: Path, tier_name: str, tier: Tier, times: bool) -> None:
    """Print what `tier` lacks on this machine and, with `times`, how long it will train and sample.

    A step and a network call are timed at the true batch, on the tier's own device, and not where that is
    missing. Raises PreflightError when anything is.
    """
    if not tier.experiments:
        raise SettingsError(f"tier '{tier_name}' has no experiments: there is nothing to look ahead to")
    missing = missing_device(tier)
    device = "cpu" if missing else tier.compute.device
    print(f"Preflight of tier {tier_name} on {provenance.hardware(device)}")
    needs = disk.needs(tier)
    sizes = ", ".join(f"{what} {size / GB:,.1f} GB" for what, size in needs.items() if size)
    print(f"Disk: {sizes}; {shutil.disk_usage(root).free / GB:,.0f} GB free here")
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {free / GB:,.0f} of {total / GB:,.0f} GB free")
    if times and missing:
        print("Hours are measured on the machine that will run the tier, and not on this one.")
    elif times:
        rows = forecast(plan(root, tier_name), tier, Timings(tier, device))
        missing += [f"{row.stage}: {row.problem}" for row in rows if row.problem]
        print(table(rows))
        print("Preparing, measuring and drawing figures come on top of these hours.")
    missing += [*missing_files(tier, True), *missing_space(root, tier_name, sum(needs.values()))]
    for sentence in missing:
        print(f"missing: {sentence}")
    if missing:
        count = f"{len(missing)} thing{'s' if len(missing) > 1 else ''} missing"
        raise PreflightError(f"tier {tier_name} cannot run here as it is: {count}, listed above")
    print(f"nothing is missing for tier {tier_name}")
