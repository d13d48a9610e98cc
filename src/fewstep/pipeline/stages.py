"""The stages of dvc.yaml and paper/dvc.yaml at one tier, and the settings of each phase that they depend on.

Both are written by hand; this module only reads them, for whoever runs stages without DVC.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import yaml

from ..settings.base import Settings, SettingsError
from ..settings.tiers import ExperimentSettings, Tier
from ..storage.files import write_json
from ..training.prepare import prepared
from ..training.weights import PHASES, methods_of

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


def _read(path: Path, tier: str) -> Iterator[Stage]:
    for name, entry in yaml.safe_load(path.read_text(encoding="utf-8")).get("stages", {}).items():
        matrix = {k: [tier if v == "${tier}" else v for v in vs] for k, vs in entry.get("matrix", {}).items()}
        for values in product(*matrix.values()):
            text = json.dumps({k: v for k, v in entry.items() if k != "matrix"})
            for key, value in zip(matrix, values):
                text = text.replace(f"${{item.{key}}}", value)
            own = json.loads(text)
            words = tuple(own["cmd"].split()[3:])
            following = dict(zip(words, words[1:]))
            given = [following.get(word) for word in ("run", "--experiment", "--data")]
            outs = [*own["outs"], *own.get("metrics", [])]
            paths = tuple(out if isinstance(out, str) else next(iter(out)) for out in outs)
            yield Stage(f"{name}@{'-'.join(values)}", words, *given, tuple(own["deps"]), paths)


def plan(root: Path, tier: str) -> tuple[Stage, ...]:
    """All stages of `tier`, each after those that it depends on: `check` first, `publish` last."""
    found = tuple(_read(root / "dvc.yaml", tier))
    return found[:-1] + (tuple(_read(root / PAPER_ONLY, tier)) if tier == "paper" else ()) + found[-1:]


def require_same_experiments(stages: Sequence[Stage], tier: Tier) -> None:
    """Raise SettingsError for an experiment that only one of dvc.yaml and params.yaml names."""
    named = {stage.experiment for stage in stages if stage.experiment}
    for name in sorted(named ^ set(tier.experiments)):
        there, lacking = ("dvc.yaml", "params.yaml") if name in named else ("params.yaml", "dvc.yaml")
        raise SettingsError(f"{there} names the experiment '{name}', which {lacking} lacks: add it there too")


def _dump(settings: Settings) -> dict[str, Any]:
    return settings.model_dump(exclude_none=True)


def _of_experiment(own: ExperimentSettings) -> dict[str, Any]:
    """The resolved settings of an experiment by the phase that depends on them."""
    found = {"experiment": _dump(own)}
    for phase in PHASES if own.students_of is None else ():
        if methods := methods_of(own, phase):
            chosen = {name: _dump(own.methods[name]) for name in methods}
            found[phase] = {"training": _dump(own.training), "methods": chosen}
    training, labels = own.training, {name: method.label for name, method in own.methods.items()}
    sampled = {"data": [training.data, training.latents], "seeds": training.seeds, "labels": labels}
    return found | {"sampling": sampled | {"sampling": _dump(own.sampling)}}


def settings_files(tier: Tier) -> dict[str, Any]:
    """What `check` writes, JSON-able, by "<experiment or data set>/<phase>.json"."""
    found = {"tour/experiment.json": _dump(tier.tour)}
    for name, own in tier.experiments.items():
        found |= {f"{name}/{phase}.json": content for phase, content in _of_experiment(own).items()}
    for name in {**tier.features, **tier.latents}:
        found[f"{name}/prepare.json"] = {
            section: {entry: _dump(getattr(tier, section)[entry]) for entry in names}
            for section, names in prepared(tier, name).items()
        }
    return found


def write_settings(tier: Tier, folder: Path) -> None:
    """Write `settings_files` below `folder`, equal settings as equal bytes, and remove any other there."""
    found = settings_files(tier)
    for name, content in found.items():
        write_json(folder / name, content)
    for path in folder.rglob("*.json"):
        if path.relative_to(folder).as_posix() not in found:
            path.unlink()
