"""Data sets, one file each; generators in drawn/, what readers of published archives share in formats/.

`load(name)` opens a data set: `checkerboard` is the SOURCE of `fewstep.data.checkerboard`. One that a stage
of the pipeline makes has `opened(folder)` instead, and is opened in the folder where it was made. No network
is here: what decodes latents is handed in.
"""

import json
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

from ..flows.conditioning import Source
from .formats.archives import text_of

DESCRIBED = "described.json"  # what a stage says of the data set that it made, in the folder where it lies
CURE = "run `dvc repro`, which makes the latents again"


class DataSource(Source, Protocol):
    """A source of data points, with the shape of one point and the scale of the matching noise."""

    shape: tuple[int, ...]
    scale: float


def module(name: str) -> ModuleType:
    """The module of the data set `name`; raises ValueError, naming those there are, when there is none."""
    if name not in names():
        raise ValueError(f"there is no data set '{name}'; there are {', '.join(names())}")
    return import_module(f"{__name__}.{name}")


def names() -> list[str]:
    """The data sets there are: the files here that hold a SOURCE, or open what a stage has made."""
    texts = {path.stem: path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("[a-z]*.py")}
    return sorted(name for name, text in texts.items() if "\nSOURCE = " in text or "\ndef opened(" in text)


def is_prepared(name: str) -> bool:
    """Whether the data set is made by a stage of the pipeline; False for a name that there is not."""
    return name in names() and hasattr(module(name), "opened")


def load(name: str, folder: Path | None = None, load_decoder: Callable | None = None) -> DataSource:
    """The data set called `name`, opened in the `folder` if it is one that a stage makes.

    `load_decoder(folder, device)` opens the decoder of latents. Raises ValueError as `module`, and where a
    folder is missing or not wanted.
    """
    own = module(name)
    if is_prepared(name) != (folder is not None):
        found = "made by a stage: say in which" if folder is None else "not made by a stage: it has no"
        raise ValueError(f"the data set '{name}' is {found} folder")
    return own.SOURCE if folder is None else own.opened(folder, load_decoder)


def described(folder: Path) -> dict[str, Any]:
    """What a stage says in `folder` of what it made there; FileNotFoundError or ValueError with the cure."""
    path = folder / DESCRIBED
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: {CURE}")
    try:
        found = json.loads(text_of(path, CURE))
        return found | {"checksum": str(found["checksum"])}
    except (TypeError, KeyError):
        raise ValueError(f"{path} gives no `checksum`: {CURE}") from None
    except (ValueError, RecursionError):
        raise ValueError(f"{path} cannot be read as JSON: {CURE}") from None


def prepared_checksum(folder: Path) -> str:
    """The checksum of a data set that a stage made in `folder`; raises as `described`."""
    return described(folder)["checksum"]


def prompt_sets(name: str) -> list[str]:
    """The sets of prompts that a data set of captioned pictures has; none for any other."""
    return list(getattr(module(name), "PROMPTS", ()))


def offers(name: str, function: str) -> bool:
    """Whether it has what not all have: `held_out`, `all_pairs`, `captions`, or `check` of archives."""
    return hasattr(module(name), function)
