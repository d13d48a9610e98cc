"""The settings of each phase, as `check` writes them for the stages that depend on them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..settings.base import SettingsError
from ..settings.tiers import Tier
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


def settings_files(tier: Tier) -> dict[str, Any]:
    """What `check` writes, JSON-able, by "<experiment or data set>/<phase>.json"."""
    every = tier.model_dump(exclude_none=True)
    found = {"tour/experiment.json": every["tour"]}
    for name, own in tier.experiments.items():
        said, labels = every["experiments"][name], {key: method.label for key, method in own.methods.items()}
        found[f"{name}/experiment.json"], training = said, own.training
        for phase in PHASES if own.students_of is None else ():
            if methods := methods_of(own, phase):
                chosen = {key: said["methods"][key] for key in methods}
                content = {"training": said["training"], "methods": chosen}
                if phase == "students" and own.metrics.sensitivity:
                    content["without_ema"] = own.metrics.sensitivity
                found[f"{name}/{phase}.json"] = content
        sampled = {"data": [training.data, training.latents], "seeds": training.seeds, "labels": labels}
        found[f"{name}/sampling.json"] = sampled | {"sampling": said["sampling"]}
    for name in {**tier.features, **tier.latents}:
        found[f"{name}/prepare.json"] = {
            section: {entry: every[section][entry] for entry in names}
            for section, names in prepared(tier, name).items()
        }
    return found


def write_settings(tier: Tier, folder: Path) -> None:
    """Write `settings_files` below `folder`, equal settings as equal bytes, in place of earlier ones."""
    replace_files(folder, {name: as_json(content) for name, content in settings_files(tier).items()})
