"""The stages of each dvc.yaml at one tier, for whoever runs or times stages without DVC.

They are written by hand; this module only reads them. Every stage imports it, so it loads little.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Self

import yaml

PAPER_ONLY = "paper/dvc.yaml"


@dataclass(frozen=True)
class Stage:
    """One stage as DVC runs it, all paths below the root; what does not apply to it is None."""

    name: str  # as in dvc.lock, "students@smoke-fmm-checkerboard"
    words: tuple[str, ...]  # what `python -m fewstep` is called with
    notebook: str | None  # what it executes
    experiment: str | None  # whose phase it is
    data: str | None  # the data set that it prepares
    deps: tuple[str, ...]  # files and folders, as `outs`
    outs: tuple[str, ...]

    def reads(self, other: Self) -> bool:
        """Whether it depends on something that `other` makes."""
        pairs = [(f"{dep}/", f"{out}/") for dep in self.deps for out in other.outs]
        return any(dep.startswith(out) or out.startswith(dep) for dep, out in pairs)


class StagesError(ValueError):
    """A dvc.yaml cannot be read; the message names it, the stage and the cure."""


def _read(path: Path, tier: str) -> Iterator[Stage]:
    name, cure = "", "restore it with `git checkout`"
    try:
        for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).get("stages", {}).items():
            yield from _expand(name, entry, tier)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StagesError(f"{path} is not valid YAML ({' '.join(str(error).split())}): {cure}") from None
    except (AttributeError, KeyError, TypeError) as error:
        where = f"the stage '{name}' of {path}" if name else f"{path}"
        raise StagesError(f"{where} does not have the form of a dvc.yaml ({error}): {cure}") from None


def _expand(name: str, entry: dict, tier: str) -> Iterator[Stage]:
    """The stages that `matrix` makes of one entry of a dvc.yaml."""
    matrix = {k: [tier if v == "${tier}" else v for v in vs] for k, vs in entry.get("matrix", {}).items()}
    for values in product(*matrix.values()):
        text = json.dumps({k: v for k, v in entry.items() if k != "matrix"})
        for key, value in zip(matrix, values):
            text = text.replace(f"${{item.{key}}}", value)
        own = json.loads(text)
        # `${publish}` is what params.yaml adds to DVC's own call
        words = tuple(word for word in own["cmd"].split()[3:] if not word.startswith("$"))
        following = dict(zip(words, words[1:]))
        given = [following.get(word) for word in ("run", "--experiment", "--data")]
        outs = [*own["outs"], *own.get("metrics", [])]
        paths = tuple(out if isinstance(out, str) else next(iter(out)) for out in outs)
        yield Stage(f"{name}@{'-'.join(values)}", words, *given, tuple(own["deps"]), paths)


def plan(root: Path, tier: str, folder: str = "") -> tuple[Stage, ...]:
    """All stages of `tier`, each after those that it depends on: `check` first, `publish` last.

    With a `folder`, those of the pipeline beside the main one that its dvc.yaml holds; none where there is no
    such file, and at tier paper. Raises StagesError for a dvc.yaml that cannot be read.
    """
    if folder:
        path = root / folder / "dvc.yaml"
        return tuple(_read(path, tier)) if tier != "paper" and path.is_file() else ()
    found = tuple(_read(root / "dvc.yaml", tier))
    return found[:-1] + (tuple(_read(root / PAPER_ONLY, tier)) if tier == "paper" else ()) + found[-1:]
