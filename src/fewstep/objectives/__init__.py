"""The objectives, one file each.

An objective named `lmd` is the function `lmd` of the module `fewstep.objectives.lmd`. It is pure, reads
like its equation, and returns one squared residual a sample, shape (batch,):

    lmd(student, batch, teacher, gradient="full") -> Tensor

`student` and `batch` come first. An argument called `teacher` is filled in by training, and so is `stopped`, the
map that self-distillation reads under its stop-gradient (the student itself when None). The others are the
objective's own settings, which params.yaml may set by name. A new objective is one new file here and
one line of params.yaml that names it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..flows.interpolants import Batch

Residual = Callable[[FlowMap, Batch], Tensor]


def names() -> list[str]:
    """The objectives there are, by file."""
    return sorted(p.stem for p in Path(__file__).parent.glob("*.py") if p.stem not in ("__init__", "common"))


def load(name: str) -> Callable[..., Tensor]:
    """The objective called `name`; raises ValueError, naming those there are, when there is none."""
    if name not in names():
        raise ValueError(f"there is no objective '{name}'; there are {', '.join(names())}")
    return getattr(import_module(f"{__name__}.{name}"), name)


def needs_teacher(name: str) -> bool:
    """Whether the objective takes a teacher."""
    return "teacher" in inspect.signature(load(name)).parameters


def check_options(name: str, options: Mapping[str, object]) -> None:
    """Raise ValueError when `options` holds a setting that the objective does not have."""
    own = set(inspect.signature(load(name)).parameters) - {"student", "batch", "teacher", "stopped"}
    for key in options:
        if key not in own:
            there = f"it has {', '.join(sorted(own))}" if own else "it has none"
            raise ValueError(f"the objective '{name}' has no setting '{key}'; {there}")


def bind(
    name: str, options: Mapping[str, object], teacher: FlowMap | None, stopped: FlowMap | None = None
) -> Residual:
    """The objective as a function of (student, batch) alone; raises ValueError when its teacher is missing."""
    check_options(name, options)
    objective, given = load(name), dict(options)
    if needs_teacher(name):
        if teacher is None:
            raise ValueError(f"the objective '{name}' distils a teacher, and none was given")
        given["teacher"] = teacher
    if "stopped" in inspect.signature(objective).parameters:
        given["stopped"] = stopped
    return partial(objective, **given)


def equation(name: str) -> str:
    """The objective's source as Markdown, for a notebook to show the formula that it is about to minimise."""
    return f"`fewstep/objectives/{name}.py`\n\n```python\n{inspect.getsource(load(name))}```"
