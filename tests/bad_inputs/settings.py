"""params.yaml: what `check` is given."""

import re
from collections.abc import Callable
from pathlib import Path

from fewstep.settings import tiers

from .case import Case

PARAMS = Path(__file__).parents[2] / "params.yaml"


def _edited(name: str, old: str, new: str, says: str) -> Case:
    """params.yaml with the first line that `old` matches replaced."""

    def prepare(folder: Path) -> None:
        text, count = re.subn(old, new, PARAMS.read_text(encoding="utf-8"), count=1, flags=re.M)
        assert count == 1, f"params.yaml has no line {old}"
        (folder / "params.yaml").write_text(text, encoding="utf-8")

    return Case("params.yaml", name, _load("smoke"), says, prepare)


def _load(tier: str) -> Callable[[Path], object]:
    return lambda folder: tiers.load(folder / "params.yaml", tier)


def cases() -> list[Case]:
    """Every setting out of what is possible, and files that are none."""
    return [_edited("a tier that there is not", r"^tier: .*", "tier: lapto", r"`tier` must be one of smoke")]
