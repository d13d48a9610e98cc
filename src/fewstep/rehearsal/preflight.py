"""Before a tier is run: is everything there that it needs, and how long and how large will it be?"""

import shutil
from pathlib import Path

import pandas as pd
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


def missing_space(root: Path, tier_name: str, wanted: int) -> list[str]:
    """A sentence where fewer than `wanted` bytes, less what earlier runs have left, are free at `root`."""
    left = (path for path in (root / "artifacts" / tier_name).rglob("*") if path.is_file())
    wanted, free = wanted - sum(path.stat().st_size for path in left), shutil.disk_usage(root).free
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
    device, needs = "cpu" if lacking else tier.compute.device, disk.needs(tier)
    print(f"Preflight of tier {tier_name} on {provenance.hardware(device)}")
    sizes = ", ".join(f"{what} {size / GB:,.1f} GB" for what, size in needs.items() if size)
    print(f"Disk: {sizes}; {shutil.disk_usage(root).free / GB:,.0f} GB free here")
    if device == "cuda":
        free, total = torch.cuda.mem_get_info()
        print(f"GPU: {free / GB:,.0f} of {total / GB:,.0f} GB free")
    missing = [*lacking, *missing_files(tier, True), *missing_space(root, tier_name, sum(needs.values()))]
    for sentence in missing:
        print(f"missing: {sentence}", flush=True)
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
