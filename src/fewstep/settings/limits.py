"""What is possible for each kind of setting, said once; the sections say which kind each setting is of.

The upper ends are far above what anybody has trained: they are there for slips of the hand.
"""

from typing import Annotated, Any

from pydantic import AfterValidator, Field

from .names import MOST_SEED, MOST_STEPS, check_name


def distinct(values: list[Any]) -> list[Any]:
    """`values`; raises ValueError for one that stands there twice."""
    if len(set(values)) < len(values):
        twice = next(value for place, value in enumerate(values) if value in values[:place])
        raise ValueError(f"{twice!r} stands there twice: name each once")
    return values


def _ascending(values: list[int]) -> list[int]:
    if values != sorted(set(values)):
        raise ValueError(f"the numbers must rise, each once: sort {values!r:.80}")
    return values


def _label(label: str) -> str:
    if not 0 < len(label) <= 80 or not label.isprintable() or "|" in label or label != label.strip():
        raise ValueError(f"a label is one line of 1 to 80 characters, none of them `|`, not {label!r:.100}")
    return label


def _file(name: str) -> str:
    folder, *below = name.split("/")
    if not below or not name.endswith(".safetensors"):
        raise ValueError(f"weights are named FOLDER/FILE.safetensors, below paper/data, not {name!r:.80}")
    for part in (folder, *below):
        check_name(part)
    return name


Name = Annotated[str, AfterValidator(check_name)]
Names = Annotated[list[Name], Field(min_length=1), AfterValidator(distinct)]
Label = Annotated[str, AfterValidator(_label)]
# a file below the folder of published data, which it does not leave
File = Annotated[str, AfterValidator(_file)]
# owner/name on the hub
Repository = Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*$")]

Seed = Annotated[int, Field(ge=0, le=MOST_SEED)]
Seeds = Annotated[list[Seed], Field(min_length=1, max_length=1000), AfterValidator(distinct)]
# of steps of training, samples, images
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Batch = Annotated[int, Field(ge=1, le=1_000_000)]
Batches = Annotated[list[Batch], Field(min_length=1), AfterValidator(_ascending)]
# of steps of sampling, by which the rows of a table differ
Steps = Annotated[list[Annotated[int, Field(ge=1, le=MOST_STEPS)]], AfterValidator(_ascending)]
# widths and channels; layers, heads, groups
Size = Annotated[int, Field(ge=1, le=65_536)]
Few = Annotated[int, Field(ge=1, le=1024)]
Processes = Annotated[int, Field(ge=1, le=64)]
Frequency = Annotated[int | float, Field(gt=0, le=10_000)]

Rate = Annotated[float, Field(gt=0, le=1)]
# of a whole that it can be, and of one that it cannot
Share = Annotated[float, Field(gt=0, le=1)]
Fraction = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, le=1_000_000)]
Positive = Annotated[float, Field(gt=0, le=1_000_000)]
