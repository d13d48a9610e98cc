"""params.yaml -> validated, typed, frozen settings of one tier.

Every key, type and value is checked before anything runs, and what is wrong is said in one sentence that names the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, ValidationError, model_validator

from .. import data
from . import document
from .base import Settings, SettingsError
from .clip import Clip
from .experiment import ExperimentSettings, captions_problem
from .features import Features
from .latents import Latents
from .resolve import TOUR, resolve, where
from .training import Training, check_precision

TierName = Literal["smoke", "laptop", "paper"]
TIERS = get_args(TierName)


class Compute(Settings):
    """Where the work runs: `workers` processes of one thread each on the CPU, or one process on the GPU.

    With `processes` above 1, that many train each network together, each on its share of every batch and on the GPU
    each on one of its own; seeds then follow one another. See fewstep.training.processes.
    """

    device: Literal["cpu", "cuda"]
    workers: int = Field(ge=1, le=64)
    processes: int = Field(default=1, ge=1, le=64)

    def of(self, training: Training) -> Compute:
        """Where `training` runs: here, with as many `processes` as it asks for itself, if it does."""
        return self.model_copy(update={"processes": training.processes or self.processes})


class Tier(Settings):
    """The settings of one tier, resolved: the machine, what is prepared, and the experiments by name."""

    compute: Compute
    tour: ExperimentSettings
    features: dict[str, Features] = {}
    latents: dict[str, Latents] = {}
    clip: dict[str, Clip] = {}
    experiments: dict[str, ExperimentSettings]

    @property
    def every(self) -> dict[str, ExperimentSettings]:
        """The experiments by name, the tour among them."""
        return {TOUR: self.tour, **self.experiments}

    @property
    def processes(self) -> int:
        """The most processes that train one network together."""
        return max(self.compute.of(experiment.training).processes for experiment in self.every.values())

    @model_validator(mode="after")
    def _possible(self) -> Tier:
        for experiment in self.every.values():
            check_precision(experiment.training, experiment.network_kinds, self.compute.device)
        return self

    @model_validator(mode="after")
    def _students(self) -> Tier:
        for name, experiment in self.experiments.items():
            if experiment.students_of is None:
                continue
            said = f"the experiment '{name}' measures the students of '{experiment.students_of}'"
            other = self.experiments.get(experiment.students_of)
            if other is None or other.students_of is not None:
                raise ValueError(f"{said}, which is no experiment that trains")
            if experiment.training != other.training or any(
                own != other.methods.get(key) for key, own in experiment.methods.items()
            ):
                raise ValueError(f"{said}: its `training` and methods must be the same")
        return self

    @model_validator(mode="after")
    def _classifiers(self) -> Tier:
        for name, own in self.features.items():
            if own.classifier_of is None:
                continue
            said, other = (
                f"the features '{name}' take the classifier of '{own.classifier_of}'",
                self.features.get(own.classifier_of),
            )
            if other is None or other.classifier_of is not None:
                raise ValueError(f"{said}, which is no entry that trains one")
            for what in ("data", "extractor", "steps", "seed", "probe_steps"):
                if getattr(own, what) != getattr(other, what):
                    raise ValueError(f"{said}: their `{what}` must be the same")
        return self

    @model_validator(mode="after")
    def _captions(self) -> Tier:
        for name, latents in self.latents.items():
            if latents.clip is not None and latents.clip not in self.clip:
                raise ValueError(
                    f"the latents '{name}' name the clip '{latents.clip}'; there are {', '.join(self.clip) or 'none'}"
                )
        for name, experiment in self.every.items():
            latents = self.latents.get(experiment.training.latents)
            encoder = self.clip.get(latents.clip) if latents else None
            features = self.features.get(experiment.metrics.features)
            if problem := captions_problem(experiment, latents, encoder, features):
                raise ValueError(f"the experiment '{name}': {problem}")
        return self

    @model_validator(mode="after")
    def _measured(self) -> Tier:
        for name, experiment in self.experiments.items():
            wanted, latents = experiment.metrics.features, experiment.training.latents
            if latents is not None and latents not in self.latents:
                raise ValueError(
                    f"the experiment '{name}' models the latents '{latents}'; "
                    f"there are {', '.join(self.latents) or 'none'}"
                )
            modelled = self.latents[latents].data if latents else experiment.training.data
            if wanted is None:
                continue
            if wanted not in self.features:
                raise ValueError(
                    f"the experiment '{name}' is measured in the features '{wanted}'; "
                    f"there are {', '.join(self.features) or 'none'}"
                )
            if self.features[wanted].data != modelled:
                raise ValueError(
                    f"the experiment '{name}' models '{modelled}' and its features are of '{self.features[wanted].data}'"
                )
        return self

    def shape(self, experiment: ExperimentSettings) -> tuple[int, ...]:
        """The shape of one point that an experiment models."""
        latents = experiment.training.latents
        return self.latents[latents].shape if latents else data.load(experiment.training.data).shape

    def experiment(self, name: str) -> ExperimentSettings:
        """The experiment called `name`; raises SettingsError, naming those there are, when there is none."""
        if name not in self.experiments:
            raise SettingsError(f"there is no experiment '{name}'; there are {', '.join(self.experiments)}")
        return self.experiments[name]


def show(tier: Tier, name: str) -> str:
    """The YAML of an experiment, or of a prepared entry such as features/NAME; raises SettingsError for an unknown one."""
    prepared = {"features": tier.features, "latents": tier.latents, "clip": tier.clip}
    there: dict[str, Settings] = {**tier.every}
    there |= {f"{key}/{entry}": own for key, section in prepared.items() for entry, own in section.items()}
    if name not in there:
        raise SettingsError(f"there is no '{name}'; there are {', '.join(there)}")
    return document.dump(there[name].model_dump(mode="json", exclude_none=True))


class _Sizes(Settings):
    """The section of a tier, before anything is resolved."""

    compute: dict[str, Any]
    networks: dict[str, dict[str, Any]] = {}
    optimisers: dict[str, dict[str, Any]] = {}
    features: dict[str, dict[str, Any]] = {}
    latents: dict[str, dict[str, Any]] = {}
    clip: dict[str, dict[str, Any]] = {}
    experiments: dict[str, dict[str, Any]]


class _File(Settings):
    """params.yaml, before anything is resolved."""

    tier: TierName
    terms: dict[str, list[Any]] = {}
    experiments: dict[str, dict[str, Any]]
    tiers: dict[TierName, _Sizes]


def _sentence(error: ValidationError, key: Any) -> str:
    """pydantic's first complaint as one sentence that names the key, what stands there and what should.

    `key(place)` is the dotted key of a place in what was validated.
    """
    # a misspelt key is also a missing one: the spelling is the better news
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    # pydantic names the kind of network that it read as if it were a key
    loc = first["loc"]
    place = tuple(k for n, k in enumerate(loc) if n == 0 or loc[n - 1] not in ("network", "autoencoder"))
    said, more = key(place), f" ({error.error_count() - 1} more after it)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key '{said}': remove it or correct its spelling{more}"
    if first["type"] == "missing":
        return f"the key '{said}' is missing: add it{more}"
    if first["type"] == "union_tag_invalid":
        there = first["ctx"]["expected_tags"].replace("'", "")
        return f"{said}: there is no {place[-1]} '{first['ctx']['tag']}'; there are {there}{more}"
    reason = first["msg"].removeprefix("Value error, ")
    shown = f", not {first['input']!r}" if first["type"] != "value_error" else ""
    return f"{said}: {reason}{shown}{more}"


def _checked(raw: Any, path: Path) -> dict[str, Any]:
    if not isinstance(raw, dict):
        raise SettingsError(f"{path} must hold the keys {', '.join(_File.model_fields)}")
    if raw.get("tier") not in TIERS:
        raise SettingsError(f"{path}: `tier` must be one of {', '.join(TIERS)}, not {raw.get('tier')!r}")
    try:
        _File.model_validate(raw)
    except ValidationError as error:
        raise SettingsError(f"{path}: {_sentence(error, lambda place: '.'.join(map(str, place)))}") from None
    return raw


def read(path: Path) -> dict[str, Any]:
    """params.yaml as it stands, not to be changed; raises SettingsError for what is wrong in its outline."""
    return _checked(document.parse(document.text(path), path), path)


def _known(tier: str) -> None:
    if tier not in TIERS:
        raise SettingsError(f"there is no tier '{tier}'; there are {', '.join(TIERS)}")


def _section(raw: dict[str, Any], path: Path, tier: str) -> dict[str, Any]:
    _known(tier)
    if tier not in raw["tiers"]:
        raise SettingsError(f"{path}: the section 'tiers.{tier}' is missing")
    try:
        return resolve(raw, tier)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def section(path: Path, tier: str) -> dict[str, Any]:
    """The settings of `tier` as plain values, resolved and not yet validated; raises SettingsError."""
    return _section(read(path), path, tier)


def load(path: Path, tier: str) -> Tier:
    """The settings of `tier`; raises SettingsError, in one sentence, for anything that is wrong in them."""
    raw = read(path)
    try:
        return Tier.model_validate(_section(raw, path, tier))
    except ValidationError as error:
        raise SettingsError(f"{path}: {_sentence(error, lambda place: where(raw, tier, place))}") from None


def select(path: Path, tier: str) -> str:
    """The text of params.yaml with `tier` selected, and nothing else changed; raises SettingsError where it cannot be."""
    _known(tier)
    content = document.text(path)
    document.parse(content, path)
    try:
        changed = document.with_value(content, "tier", tier)
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None
    _section(_checked(document.parse(changed, path), path), path, tier)
    return changed
