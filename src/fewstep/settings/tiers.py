"""params.yaml -> validated, typed, frozen settings.

A tier is a section of params.yaml; a tier holds `compute` and its experiments. Every key, type and value is
checked before anything runs, and what is wrong is said in one sentence that names the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from .. import data
from .base import Settings, SettingsError
from .captions import Clip
from .evaluation import Features, Metrics, Sampling, Speed
from .latents import Latents
from .text_checks import texts_problem
from .training import UNSAID, Method, Training, check_precision

TIERS = ("smoke", "laptop", "paper")
# libyaml's parser, where PyYAML comes with it, reads the same nine times as fast; every stage reads params.yaml several times
LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


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


class ExperimentSettings(Settings):
    """One table: its training, its methods, its sampling and its metrics, and what is timed, if anything.

    tables   where one experiment fills several: the methods of each, further solvers among them, by the table's name
    trained  the experiment whose trained methods this one samples and measures, in the place of training its own
    """

    training: Training
    methods: dict[str, Method]
    sampling: Sampling
    metrics: Metrics
    speed: Speed | None = None
    tables: dict[str, list[str]] | None = UNSAID
    trained: str | None = UNSAID

    @property
    def self_corrected(self) -> bool:
        """Whether SCFlow is among the methods."""
        return any(method.self_correction for method in self.methods.values())

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentSettings:
        for name, method in self.methods.items():
            if method.teacher is not None and method.teacher not in self.methods:
                raise ValueError(
                    f"the method '{name}' names the teacher '{method.teacher}', which is not a method here"
                )
            if name not in self.sampling.steps or name not in self.sampling.samplers:
                raise ValueError(f"`sampling` must give the steps and the sampler of the method '{name}'")
        for name in [*self.sampling.steps, *self.sampling.samplers]:
            if name == "exact" and self.training.data != "checkerboard":
                raise ValueError(
                    f"the exact velocity of '{self.training.data}' is not known: remove 'exact' from `sampling`"
                )
            if name not in self.methods and name != "exact":
                raise ValueError(
                    f"`sampling` names '{name}', which is not a method here; there are {', '.join(self.methods)}"
                )
        for name, solvers in self.sampling.solvers.items():
            if name not in self.methods:
                raise ValueError(
                    f"`sampling.solvers` names '{name}', which is not a method here; there are {', '.join(self.methods)}"
                )
            for solver, steps in solvers.items():
                if f"{name}-{solver}" in self.methods or not all(n >= 1 for n in steps):
                    raise ValueError(
                        f"`sampling.solvers.{name}.{solver}` must be positive whole numbers, and no method may be called '{name}-{solver}'"
                    )
        rows = {
            *self.methods,
            *(f"{name}-{solver}" for name, own in self.sampling.solvers.items() for solver in own),
        }
        named = {f"tables.{table}": names for table, names in (self.tables or {}).items()} | {
            f"metrics.only.{key}": names for key, names in self.metrics.only.items()
        }
        for where, names in named.items():
            for name in names:
                if name not in rows:
                    raise ValueError(
                        f"`{where}` names '{name}', which is not a row here; there are {', '.join(sorted(rows))}"
                    )
        reference = self.metrics.reference
        if reference and reference.steps not in self.sampling.steps.get(reference.method, []):
            raise ValueError(
                f"`metrics.reference` is {reference.method} at {reference.steps} steps, which `sampling` does not draw"
            )
        between = [m for m in ("w2_teacher", "t_fid") if m in self.metrics.measures]
        if between and len(self.sampling.seeds) < 2:
            raise ValueError(
                f"the measure '{between[0]}' compares independent noises: give at least two sampling seeds"
            )
        if self.metrics.w2_samples > self.sampling.count:
            raise ValueError(
                f"w2_samples ({self.metrics.w2_samples}) exceeds the samples drawn ({self.sampling.count})"
            )
        return self

    def method(self, name: str) -> Method:
        """The method called `name`; raises SettingsError, naming those there are, when there is none."""
        if name not in self.methods:
            raise SettingsError(
                f"there is no method '{name}' in this experiment; there are {', '.join(self.methods)}"
            )
        return self.methods[name]


class Tier(Settings):
    """One tier of params.yaml: the machine, what images are measured in, the latents they are modelled in, what reads texts, and the experiments by name."""

    compute: Compute
    tour: ExperimentSettings
    features: dict[str, Features] = {}
    latents: dict[str, Latents] = {}
    clip: dict[str, Clip] = {}
    experiments: dict[str, ExperimentSettings]

    @property
    def processes(self) -> int:
        """The most processes that train one network together."""
        return max(
            self.compute.of(experiment.training).processes
            for experiment in (self.tour, *self.experiments.values())
        )

    @model_validator(mode="after")
    def _possible(self) -> Tier:
        for experiment in (self.tour, *self.experiments.values()):
            networks = [
                experiment.training.network,
                *(m.network for m in experiment.methods.values() if m.network),
            ]
            check_precision(experiment.training, {network.kind for network in networks}, self.compute.device)
        return self

    @model_validator(mode="after")
    def _shared(self) -> Tier:
        for name, experiment in self.experiments.items():
            if experiment.trained is None:
                continue
            other = self.experiments.get(experiment.trained)
            if other is None or other.trained is not None:
                raise ValueError(
                    f"the experiment '{name}' measures what '{experiment.trained}' has trained, which is no experiment that trains"
                )
            if experiment.training != other.training or any(
                own != other.methods.get(key) for key, own in experiment.methods.items()
            ):
                raise ValueError(
                    f"the experiment '{name}' measures what '{experiment.trained}' has trained: its `training` and methods must be the same"
                )
        return self

    @model_validator(mode="after")
    def _trained_features(self) -> Tier:
        for name, own in self.features.items():
            other = self.features.get(own.trained)
            if own.trained is not None and (other is None or other.trained is not None):
                raise ValueError(
                    f"the features '{name}' take the classifier of '{own.trained}', which is no entry that trains one"
                )
            for what in ("data", "extractor", "steps", "seed", "probe") if own.trained else ():
                if getattr(own, what) != getattr(other, what):
                    raise ValueError(
                        f"the features '{name}' take what '{own.trained}' has trained: their `{what}` must be the same"
                    )
        return self

    @model_validator(mode="after")
    def _told(self) -> Tier:
        for name, latents in self.latents.items():
            if latents.clip is not None and latents.clip not in self.clip:
                raise ValueError(
                    f"the latents '{name}' name the clip '{latents.clip}'; there are {', '.join(self.clip) or 'none'}"
                )
        for name, experiment in {"tour": self.tour, **self.experiments}.items():
            latents = self.latents.get(experiment.training.latents)
            reader = self.clip.get(latents.clip) if latents else None
            if problem := texts_problem(
                experiment, latents, reader, self.features.get(experiment.metrics.features)
            ):
                raise ValueError(f"the experiment '{name}': {problem}")
        return self

    @model_validator(mode="after")
    def _measured(self) -> Tier:
        for name, experiment in self.experiments.items():
            wanted, latents = experiment.metrics.features, experiment.training.latents
            if latents is not None and latents not in self.latents:
                raise ValueError(
                    f"the experiment '{name}' models the latents '{latents}'; there are {', '.join(self.latents) or 'none'}"
                )
            modelled = self.latents[latents].data if latents else experiment.training.data
            if wanted is None:
                continue
            if wanted not in self.features:
                raise ValueError(
                    f"the experiment '{name}' is measured in the features '{wanted}'; there are {', '.join(self.features) or 'none'}"
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


def _sentence(path: Path, tier: str, error: ValidationError) -> str:
    """pydantic's first complaint as one sentence that names the key, what stands there and what should."""
    # a misspelt key is also a missing one: the spelling is the better news
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    # pydantic names the kind of network that it read as if it were a key
    place = [str(k) for n, k in enumerate(first["loc"]) if n == 0 or first["loc"][n - 1] != "network"]
    key = ".".join([tier, *place])
    more = f" ({error.error_count() - 1} more after it)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"{path}: unknown key '{key}': remove it or correct its spelling{more}"
    if first["type"] == "missing":
        return f"{path}: the key '{key}' is missing: add it{more}"
    if first["type"] == "union_tag_invalid":
        there = first["ctx"]["expected_tags"].replace("'", "")
        return f"{path}: {key}: there is no network '{first['ctx']['tag']}'; there are {there}{more}"
    reason = first["msg"].removeprefix("Value error, ")
    shown = f", not {first['input']!r}" if first["type"] != "value_error" else ""
    return f"{path}: {key}: {reason}{shown}{more}"


def read(path: Path) -> dict:
    """params.yaml as it stands; raises SettingsError when it is absent, no YAML, or names no known tier."""
    try:
        raw = yaml.load(path.read_text(), Loader=LOADER)
    except FileNotFoundError:
        raise SettingsError(
            f"{path} is not there: restore it, for example with `git checkout params.yaml`"
        ) from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise SettingsError(f"{path} must hold keys: `tier` and one section for each tier")
    for key in raw:
        if key not in ("tier", *TIERS):
            raise SettingsError(
                f"{path}: unknown key '{key}': it may hold `tier` and the sections {', '.join(TIERS)}"
            )
    if raw.get("tier") not in TIERS:
        raise SettingsError(f"{path}: `tier` must be one of {', '.join(TIERS)}, not {raw.get('tier')!r}")
    return raw


def load(path: Path, tier: str) -> Tier:
    """The settings of `tier`; raises SettingsError, in one sentence, for anything that is wrong in them."""
    raw = read(path)
    if tier not in TIERS:
        raise SettingsError(f"there is no tier '{tier}'; there are {', '.join(TIERS)}")
    if tier not in raw:
        raise SettingsError(f"{path}: the section '{tier}' is missing")
    try:
        return Tier.model_validate(raw[tier])
    except ValidationError as error:
        raise SettingsError(_sentence(path, tier, error)) from None
