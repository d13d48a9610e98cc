"""The objectives, one file each. Data, optimisers and training loops never stand here.

The objective `lmd` is the function `lmd` of fewstep.objectives.lmd: pure, one residual a sample, (batch,):

    lmd(student, batch, teacher, gradient="full") -> Tensor

Training fills in an argument called `teacher`, and `stopped`, the map that self-distillation reads under its
stop-gradient (the student itself when None); the others are settings of params.yaml. The module's docstring
says what it is and where it comes from, with the loss in LaTeX between `$$`.
"""

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Annotated, cast, get_args, get_origin

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch

Residual = Callable[[FlowMap, Batch], Tensor]


def names() -> list[str]:
    """The objectives, by file."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "common"))


def load(name: str) -> Callable[..., Tensor]:
    """The objective called `name`; raises ValueError where no file, or no function in it, has that name."""
    if name not in names():
        raise ValueError(f"there is no objective '{name}'; there are {', '.join(names())}")
    found = getattr(import_module(f"{__name__}.{name}"), name, None)
    if found is None:
        raise ValueError(f"objectives/{name}.py defines no function '{name}': name it as its file")
    return cast(Callable[..., Tensor], found)


def _arguments(name: str) -> set[str]:
    return set(inspect.signature(load(name)).parameters)


def needs_teacher(name: str) -> bool:
    """Whether the objective takes a teacher."""
    return "teacher" in _arguments(name)


def limits(name: str, key: str) -> tuple[object, ...]:
    """What the setting `key` can be: its texts, its least and largest number, or () for any."""
    annotation = inspect.signature(load(name)).parameters[key].annotation
    found = get_args(annotation)
    return found[1:] if get_origin(annotation) is Annotated else found


def group(name: str) -> int:
    """How many samples the objective compares with one another: its share of a batch is a multiple."""
    return int(getattr(import_module(load(name).__module__), "GROUP", 1))


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise ValueError when `options` holds a setting that the objective does not have."""
    settings = sorted(_arguments(name) - {"student", "batch", "teacher", "stopped"})
    for key in options:
        if key not in settings:
            there = ", ".join(settings) or "none"
            raise ValueError(f"the objective '{name}' has no setting '{key}'; it has {there}")


def bind(
    name: str, options: Mapping[str, object], teacher: FlowMap | None, stopped: FlowMap | None = None
) -> Residual:
    """The objective as a function of (student, batch); raises ValueError when its teacher is missing."""
    check_options(name, options)
    maps = {"teacher": teacher, "stopped": stopped}
    if needs_teacher(name) and teacher is None:
        raise ValueError(f"the objective '{name}' distils a teacher, and none was given")
    return partial(load(name), **options, **{key: maps[key] for key in maps.keys() & _arguments(name)})


def equation(name: str) -> str:
    """The objective as Markdown: what it is, where it comes from, the loss in LaTeX, and the code."""
    about = inspect.getdoc(import_module(load(name).__module__))
    return f"{about}\n\n`fewstep/objectives/{name}.py`\n\n```python\n{inspect.getsource(load(name))}```"
