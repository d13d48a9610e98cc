"""params.yaml -> validated, typed, frozen settings.

A tier is a section of params.yaml; a tier holds `compute` and its experiments. Every key, type and value is
checked before anything runs, and what is wrong is said in one sentence that names the key.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import yaml
from pydantic import Field, ValidationError, model_validator

from . import data, objectives, precision
from .interpolants import INTERPOLANTS
from .measuring import Features, Metrics, Sampling, Speed
from .times import Times
from .typed import Settings, SettingsError

TIERS = ("smoke", "laptop", "paper")


# A setting that may be left out, and then leaves no trace in what is written down of the settings.
UNSAID = Field(default=None, exclude_if=lambda value: value is None)


class Compute(Settings):
    """Where the work runs: `workers` processes of one thread each on the CPU, or one process on the GPU.

    With `processes` above 1, that many train each network together, each on its share of every batch and on the GPU
    each on one of its own; seeds then follow one another. See fewstep.several.
    """

    device: Literal["cpu", "cuda"]
    workers: int = Field(ge=1, le=64)
    processes: int = Field(default=1, ge=1, le=64)


class MLPSettings(Settings):
    """A perceptron for points; see fewstep.networks.mlp."""

    kind: Literal["mlp"]
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    activation: Literal["silu", "gelu"]
    frequencies: list[int | float]
    time_frequencies: list[int | float]


class UNetSettings(Settings):
    """A two-time UNet for images; see fewstep.networks.unet."""

    kind: Literal["unet"]
    channels: list[int] = Field(min_length=1)
    layers: int = Field(ge=1)
    attention: list[bool]
    groups: int = Field(ge=1)
    time_scale: float = Field(gt=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


Network = Annotated[MLPSettings | UNetSettings, Field(discriminator="kind")]


class Optimiser(Settings):
    """The optimiser and what surrounds it.

    rate     the highest step size
    warmup   the fraction of training over which it is reached
    schedule "linear": from there a straight line down to zero; "inverse_sqrt": rate / sqrt(step / hold) after
             `hold` steps
    clip     the largest norm of a gradient
    average  the horizon of the averaged weights that are kept, as a fraction of training
    """

    kind: Literal["adam", "radam", "soap"]
    rate: float = Field(gt=0)
    schedule: Literal["linear", "inverse_sqrt"]
    hold: int = Field(default=1, ge=1)
    warmup: float = Field(ge=0, lt=1)
    clip: float = Field(gt=0)
    average: float = Field(ge=0, lt=1)


class TimesSettings(Settings):
    """How (s, t) is drawn; see fewstep.times.Times."""

    region: Literal["diagonal", "noise", "data", "forward", "square"]
    strip: float = Field(default=1.0, gt=0, le=1)
    anneal: float = Field(default=0.0, ge=0, le=1)
    doublings: int = Field(default=0, ge=0)

    def build(self) -> Times:
        return Times(self.region, self.strip, self.anneal, self.doublings)


class Term(Settings):
    """One objective on its share of every batch, its residuals multiplied by `weight`."""

    objective: str
    share: float = Field(default=1.0, gt=0, le=1)
    weight: float = Field(default=1.0, gt=0)
    times: TimesSettings
    options: dict[str, int | float | str] = {}

    @model_validator(mode="after")
    def _known(self) -> "Term":
        objectives.check_options(self.objective, self.options)
        self.times.build()
        return self


class Method(Settings):
    """A row of a table: what is minimised, for how many steps, from where, with which teacher.

    teacher     the method of the same experiment whose network is distilled
    teacher_as  "velocity", or "euler": its Euler step as a map; "stages" replaces it by the student at each
                doubling of the strip
    start       "scratch", or "teacher": begin from the teacher's weights
    network, optimiser  in place of those that the methods share
    stopped     what self-distillation reads under its stop-gradient: the "student", or the "average" of its weights
    """

    label: str
    terms: list[Term] = Field(min_length=1)
    steps: int = Field(ge=1)
    teacher: str | None = None
    teacher_as: Literal["velocity", "euler", "stages"] = "velocity"
    start: Literal["scratch", "teacher"] = "scratch"
    stopped: Literal["student", "average"] = "student"
    network: Network | None = None
    optimiser: Optimiser | None = None

    @model_validator(mode="after")
    def _whole(self) -> "Method":
        if abs(sum(t.share for t in self.terms) - 1) > 1e-9:
            raise ValueError(f"the shares of the terms must add up to 1, not {sum(t.share for t in self.terms):g}")
        needing = [t.objective for t in self.terms if objectives.needs_teacher(t.objective)]
        if needing and self.teacher is None:
            raise ValueError(f"the objective '{needing[0]}' distils a teacher; name one under `teacher`")
        if self.teacher and self.network:
            raise ValueError("a distilled method keeps the teacher's network: remove `network`")
        if self.teacher is None and self.start == "teacher":
            raise ValueError("`start: teacher` needs a `teacher`")
        return self


class Training(Settings):
    """What all methods of an experiment share; for precision, channels_last, compile and cuda_graphs see fewstep.precision."""

    data: str
    interpolant: str
    network: Network
    optimiser: Optimiser
    batch: int = Field(ge=2)
    seeds: list[int] = Field(min_length=1)
    precision: Literal["fp32", "tf32", "bf16"] | None = UNSAID
    channels_last: bool | None = UNSAID
    compile: bool | None = UNSAID
    cuda_graphs: bool | None = UNSAID

    @model_validator(mode="after")
    def _known(self) -> "Training":
        if self.interpolant not in INTERPOLANTS:
            raise ValueError(f"there is no interpolant '{self.interpolant}'; there are {', '.join(INTERPOLANTS)}")
        if self.data not in data.names():
            raise ValueError(f"there is no data set '{self.data}'; there are {', '.join(data.names())}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("the training seeds must differ from each other")
        return self


class Experiment(Settings):
    """One table: its training, its methods, its sampling and its metrics, and what is timed, if anything."""

    training: Training
    methods: dict[str, Method]
    sampling: Sampling
    metrics: Metrics
    speed: Speed | None = None

    @model_validator(mode="after")
    def _consistent(self) -> "Experiment":
        for name, method in self.methods.items():
            if method.teacher is not None and method.teacher not in self.methods:
                raise ValueError(f"the method '{name}' names the teacher '{method.teacher}', which is not a method here")
            if name not in self.sampling.steps or name not in self.sampling.samplers:
                raise ValueError(f"`sampling` must give the steps and the sampler of the method '{name}'")
        for name in [*self.sampling.steps, *self.sampling.samplers]:
            if name == "exact" and self.training.data != "checkerboard":
                raise ValueError(f"the exact velocity of '{self.training.data}' is not known: remove 'exact' from `sampling`")
            if name not in self.methods and name != "exact":
                raise ValueError(f"`sampling` names '{name}', which is not a method here; there are {', '.join(self.methods)}")
        for name, solvers in self.sampling.solvers.items():
            if name not in self.methods:
                raise ValueError(f"`sampling.solvers` names '{name}', which is not a method here; there are {', '.join(self.methods)}")
            for solver, steps in solvers.items():
                if f"{name}-{solver}" in self.methods or not all(n >= 1 for n in steps):
                    raise ValueError(f"`sampling.solvers.{name}.{solver}` must be positive whole numbers, and no method may be called '{name}-{solver}'")
        reference = self.metrics.reference
        if reference and reference.steps not in self.sampling.steps.get(reference.method, []):
            raise ValueError(f"`metrics.reference` is {reference.method} at {reference.steps} steps, which `sampling` does not draw")
        between = [m for m in ("w2_teacher", "t_fid") if m in self.metrics.measures]
        if between and len(self.sampling.seeds) < 2:
            raise ValueError(f"the measure '{between[0]}' compares independent noises: give at least two sampling seeds")
        if self.metrics.w2_samples > self.sampling.count:
            raise ValueError(f"w2_samples ({self.metrics.w2_samples}) exceeds the samples drawn ({self.sampling.count})")
        return self

    def method(self, name: str) -> Method:
        """The method called `name`; raises SettingsError, naming those there are, when there is none."""
        if name not in self.methods:
            raise SettingsError(f"there is no method '{name}' in this experiment; there are {', '.join(self.methods)}")
        return self.methods[name]


class Tier(Settings):
    """One tier of params.yaml: the machine, what images are measured in, and the experiments by name."""

    compute: Compute
    tour: Experiment
    features: dict[str, Features] = {}
    experiments: dict[str, Experiment]

    @model_validator(mode="after")
    def _possible(self) -> "Tier":
        for experiment in (self.tour, *self.experiments.values()):
            networks = [experiment.training.network, *(m.network for m in experiment.methods.values() if m.network)]
            precision.check(experiment.training, {network.kind for network in networks}, self.compute.device)
        return self

    @model_validator(mode="after")
    def _measured(self) -> "Tier":
        for name, experiment in self.experiments.items():
            wanted = experiment.metrics.features
            if wanted is None:
                continue
            if wanted not in self.features:
                raise ValueError(f"the experiment '{name}' is measured in the features '{wanted}'; there are {', '.join(self.features) or 'none'}")
            if self.features[wanted].data != experiment.training.data:
                raise ValueError(f"the experiment '{name}' models '{experiment.training.data}' and its features are of '{self.features[wanted].data}'")
        return self

    def experiment(self, name: str) -> Experiment:
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
        return f"{path}: {key}: there is no network '{first['ctx']['tag']}'; there are {first['ctx']['expected_tags']}{more}".replace("'mlp'", "mlp").replace("'unet'", "unet")
    reason = first["msg"].removeprefix("Value error, ")
    shown = f", not {first['input']!r}" if first["type"] != "value_error" else ""
    return f"{path}: {key}: {reason}{shown}{more}"


def read(path: Path) -> dict:
    """params.yaml as it stands; raises SettingsError when it is absent, no YAML, or names no known tier."""
    try:
        raw = yaml.safe_load(path.read_text())
    except FileNotFoundError:
        raise SettingsError(f"{path} is not there: restore it, for example with `git checkout params.yaml`") from None
    except yaml.YAMLError as error:
        raise SettingsError(f"{path} is not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(raw, dict):
        raise SettingsError(f"{path} must hold keys: `tier` and one section for each tier")
    for key in raw:
        if key not in ("tier", *TIERS):
            raise SettingsError(f"{path}: unknown key '{key}': it may hold `tier` and the sections {', '.join(TIERS)}")
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
