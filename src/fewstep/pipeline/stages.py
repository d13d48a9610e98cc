"""The stages of dvc.yaml and paper/dvc.yaml at one tier, and the settings that they depend on, a file a phase.

Both files are written by hand; this module only reads them, for whoever runs stages without DVC.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ..settings.base import Settings, SettingsError
from ..settings.tiers import ExperimentSettings, Tier
from ..storage.files import write_atomically
from ..training.prepare import prepared
from ..training.weights import PHASES, methods_of

PAPER_ONLY = "paper/dvc.yaml"


@dataclass(frozen=True)
class Stage:
    """One stage as DVC runs it; all paths are below the root.

    name        as in dvc.lock, "students@smoke-fmm-checkerboard"
    words       what `python -m fewstep` is called with
    notebook    what it executes, and None for `check` and `publish`
    experiment  whose phase it is, if it is an experiment's
    data        the data set that it prepares, if it does
    deps, outs  files and folders
    """

    name: str
    words: tuple[str, ...]
    notebook: str | None
    experiment: str | None
    data: str | None
    deps: tuple[str, ...]
    outs: tuple[str, ...]


def _filled(value: Any, item: dict[str, str]) -> Any:
    """`value` with every ${item.key} of it replaced."""
    text = json.dumps(value)
    for key, own in item.items():
        text = text.replace(f"${{item.{key}}}", own)
    return json.loads(text)


def _read(path: Path, tier: str) -> Iterator[Stage]:
    for name, entry in yaml.safe_load(path.read_text()).get("stages", {}).items():
        matrix = {k: [tier if v == "${tier}" else v for v in vs] for k, vs in entry.get("matrix", {}).items()}
        for values in product(*matrix.values()):
            own = _filled({k: v for k, v in entry.items() if k != "matrix"}, dict(zip(matrix, values)))
            words = tuple(own["cmd"].split()[3:])
            said = dict(zip(words, words[1:]))
            outs = [*own["outs"], *own.get("metrics", [])]
            yield Stage(
                f"{name}@{'-'.join(values)}",
                words,
                said.get("run"),
                said.get("--experiment"),
                said.get("--data"),
                tuple(own["deps"]),
                tuple(out if isinstance(out, str) else next(iter(out)) for out in outs),
            )


def plan(root: Path, tier: str) -> tuple[Stage, ...]:
    """All stages of `tier`, each after those that it depends on: `check` first, `publish` last."""
    found = tuple(_read(root / "dvc.yaml", tier))
    return found[:-1] + (tuple(_read(root / PAPER_ONLY, tier)) if tier == "paper" else ()) + found[-1:]


def require_same_experiments(stages: Sequence[Stage], tier: Tier) -> None:
    """Raise SettingsError, in one sentence, for an experiment that only one of dvc.yaml and params.yaml names."""
    named = {stage.experiment for stage in stages if stage.experiment}
    for name in sorted(named ^ set(tier.experiments)):
        there, lacking = ("dvc.yaml", "params.yaml") if name in named else ("params.yaml", "dvc.yaml")
        raise SettingsError(f"{there} names the experiment '{name}', which {lacking} lacks: add it there too")


def _dump(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(exclude_none=True)


def _of_experiment(own: ExperimentSettings) -> dict[str, Any]:
    """The resolved settings of an experiment by the phase that depends on them."""
    found = {"experiment": _dump(own)}
    for phase in PHASES if own.trained is None else ():
        if methods := methods_of(own, phase):
            chosen = {name: _dump(own.methods[name]) for name in methods}
            found[phase] = {"training": _dump(own.training), "methods": chosen}
    training = own.training
    found["sampling"] = {
        "data": [training.data, training.latents],
        "seeds": training.seeds,
        "labels": {name: method.label for name, method in own.methods.items()},
        "sampling": _dump(own.sampling),
    }
    return found


def settings_files(tier: Tier) -> dict[str, Any]:
    """What `check` writes, JSON-able, by "<experiment or data set>/<phase>.json"."""
    found = {"tour/experiment.json": _dump(tier.tour)}
    for name, own in tier.experiments.items():
        found |= {f"{name}/{phase}.json": content for phase, content in _of_experiment(own).items()}
    for name in {**tier.features, **tier.latents}:
        entries = prepared(tier, name)
        found[f"{name}/prepare.json"] = {
            section: {entry: _dump(getattr(tier, section)[entry]) for entry in names}
            for section, names in entries.items()
        }
    return found


def write_settings(tier: Tier, folder: Path) -> None:
    """Write `settings_files` below `folder`, equal settings as equal bytes, and remove what is none of them."""
    found = settings_files(tier)
    for name, content in found.items():
        write_atomically(folder / name, (json.dumps(content, indent=1) + "\n").encode())
    for path in folder.rglob("*.json"):
        if path.relative_to(folder).as_posix() not in found:
            path.unlink()
