"""The settings of each phase, as `check` writes them for the stages that depend on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings.base import Settings, SettingsError
from ..settings.tiers import ExperimentSettings, Tier
from ..storage.files import as_json, replace_files
from ..training.prepare import prepared
from ..training.weights import PHASES, methods_of
from .stages import Stage


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
            if phase == "students" and own.metrics.sensitivity:
                found[phase]["without_ema"] = own.metrics.sensitivity
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
    """Write `settings_files` below `folder`, equal settings as equal bytes, in place of earlier ones."""
    replace_files(folder, {name: as_json(content) for name, content in settings_files(tier).items()})
