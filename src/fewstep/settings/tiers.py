"""params.yaml -> validated, typed, frozen settings of one tier; a mistake is one sentence that names it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import ValidationError

from .. import data
from ..networks.classifier import FEATURES
from ..networks.discriminator import LAST
from . import document
from .base import Settings, SettingsError, listed
from .experiment import ExperimentSettings, caption_problems
from .limits import Name, Processes
from .names import TIERS as TIERS
from .networks import shape_problems
from .prepared import Clip, Features, Latents
from .resolve import TOUR, Place, Unresolved, dotted, resolve, where
from .training import Training, precision_problems

# the folders of a tier's artifacts in which no experiment's own can stand
FOLDERS = {
    "autoencoders", "clip", "features", "latents", "metrics", "notebooks", "report", "samples",
    "scratch-features", "settings", "states", "zoo",
}  # fmt: skip


class Compute(Settings):
    """Where the work runs: `workers` processes of one thread each on the CPU, or one process on the GPU.

    With `processes` above 1, that many train each network together; see fewstep.training.processes.
    """

    device: Literal["cpu", "cuda"]
    workers: Processes
    processes: Processes = 1

    def of(self, training: Training) -> Self:
        """Where `training` runs: here, with as many `processes` as it asks for itself, if it does."""
        return self.model_copy(update={"processes": training.processes or self.processes})


class Tier(Settings):
    """The settings of one tier, resolved: the machine, what is prepared, and the experiments by name."""

    compute: Compute
    tour: ExperimentSettings
    features: dict[Name, Features] = {}
    latents: dict[Name, Latents] = {}
    clip: dict[Name, Clip] = {}
    experiments: dict[Name, ExperimentSettings]

    @property
    def every(self) -> dict[str, ExperimentSettings]:
        """The experiments by name, the tour among them."""
        return {TOUR: self.tour, **self.experiments}

    @property
    def processes(self) -> int:
        """The most processes that train one network together."""
        return max(self.compute.of(experiment.training).processes for experiment in self.every.values())

    def shape(self, experiment: ExperimentSettings) -> tuple[int, ...]:
        """The shape of one point that an experiment models."""
        latents = experiment.training.latents
        return self.latents[latents].shape if latents else data.load(experiment.training.data).shape

    def experiment(self, name: str) -> ExperimentSettings:
        """The experiment called `name`; raises SettingsError, naming those there are, when there is none."""
        if name not in self.experiments:
            raise SettingsError(f"there is no experiment '{name}'; {listed(self.experiments)}")
        return self.experiments[name]

    def problems(self) -> Iterator[str]:
        for name, latents in self.latents.items():
            if latents.clip is not None and latents.clip not in self.clip:
                yield f"the latents '{name}' name the clip '{latents.clip}'; {listed(self.clip)}"
        for name, features in self.features.items():
            whose, other = features.classifier_of, self.features.get(features.classifier_of)
            said = f"the features '{name}' take the classifier of '{whose}'"
            if whose is not None and (other is None or other.classifier_of is not None):
                yield f"{said}, which is no entry that trains one"
            for what in ("data", "extractor", "steps", "seed", "probe_steps") if other else ():
                if getattr(features, what) != getattr(other, what):
                    yield f"{said}: their `{what}` must be the same"
        for name, experiment in self.every.items():
            said = f"the experiment '{name}'"
            yield from self._data_problems(said, experiment)
            yield from self._shape_problems(said, experiment)
            compute = self.compute.of(experiment.training)
            for key, method in experiment.methods.items():
                for sentence in method.batch_problems(experiment.training.batch, compute.processes):
                    yield f"the method '{key}' of {said}: {sentence}"
        of: dict[str, str] = {}
        for name, experiment in self.experiments.items():
            if name in FOLDERS:
                yield f"an experiment called '{name}' would write into artifacts' own folder: rename it"
            for table in experiment.tables or (name,):
                if table in of:
                    yield f"'{of[table]}' and '{name}' both fill the table '{table}': rename one of `tables`"
                of[table] = name

    def _data_problems(self, said: str, own: ExperimentSettings) -> Iterator[str]:
        """What does not go together with the other entries of the tier."""
        yield from precision_problems(own.training, {n.kind for n in own.networks}, self.compute.device)
        other, whose = self.experiments.get(own.students_of), f"the students of '{own.students_of}'"
        if own.students_of is not None and (other is None or other.students_of is not None):
            yield f"{said} measures {whose}, which is no experiment that trains"
        if other and (own.training != other.training or not own.methods.items() <= other.methods.items()):
            yield f"{said} measures {whose}: its `training` and methods must be the same"
        wanted, modelled = own.metrics.features, own.training.latents
        latents, features = self.latents.get(modelled), self.features.get(wanted)
        if modelled is not None and latents is None:
            yield f"{said} models the latents '{modelled}'; {listed(self.latents)}"
        encoder = self.clip.get(latents.clip) if latents else None
        yield from (f"{said}: {sentence}" for sentence in caption_problems(own, latents, encoder, features))
        if wanted is not None and features is None:
            yield f"{said} is measured in the features '{wanted}'; {listed(self.features)}"
        source = latents.data if latents else own.training.data
        if features and features.data != source:
            yield f"{said} models '{source}' and its features are of '{features.data}'"
        # the distance between moments of features: no more of them than samples
        distances = [name for name in ("fid", "t_fid", "fid_jpeg") if name in own.metrics.measures]
        if distances and features and features.extractor == "classifier":
            few = min(own.sampling.count, features.reference or FEATURES + 1)
            if few <= FEATURES:
                more = f"more than {FEATURES} images, as many as it has features, and there are {few}"
                yield f"{said}: the measure '{distances[0]}' takes {more}: raise `count`, or `reference`"

    def _shape_problems(self, said: str, own: ExperimentSettings) -> Iterator[str]:
        """What does not fit the shape of the data."""
        shape = self.shape(own)
        for network in own.networks:
            yield from (f"{said}: {sentence}" for sentence in shape_problems(network, shape))
        if own.metrics.of_images != (len(shape) == 3):
            kind = "images" if len(shape) == 3 else "points"
            measure = f"'{own.metrics.measures[0]}' does not measure them: change `metrics.measures`"
            yield f"{said} models {kind}, and {measure}"
        for name, method in own.methods.items():
            adversarial = method.self_correction and method.self_correction.adversarial
            widths = (adversarial and adversarial.channels) or ()
            side = LAST * 2 ** max(len(widths) - 1, 0)
            if widths and (len(shape) != 3 or set(shape[1:]) != {side}):
                lead = f"lead from {side} x {side} to {LAST} x {LAST}, and the data are of shape {shape}"
                yield f"{said}: the {len(widths)} discriminator `channels` of '{name}' {lead}: one a halving"


def show(tier: Tier, name: str) -> str:
    """The YAML of an experiment, features/NAME, latents/NAME or clip/NAME; SettingsError for another."""
    prepared = {"features": tier.features, "latents": tier.latents, "clip": tier.clip}
    there: dict[str, Settings] = {**tier.every}
    there |= {f"{key}/{entry}": own for key, section in prepared.items() for entry, own in section.items()}
    if name not in there:
        raise SettingsError(f"there is no '{name}'; {listed(there)}")
    return document.dump(there[name].model_dump(mode="json", exclude_none=True))


_Entries = dict[Name, dict[str, Any]]


class _Sizes(Settings):
    like: Name | None = None
    compute: dict[str, Any] = {}
    networks: _Entries = {}
    optimisers: _Entries = {}
    features: _Entries = {}
    latents: _Entries = {}
    clip: _Entries = {}
    experiments: _Entries = {}


class _Publish(Settings):
    mixed: bool = False


class _File(Settings):
    """params.yaml, before anything is resolved."""

    tier: Literal[TIERS]
    publish: _Publish = _Publish()
    terms: dict[Name, list[Any]] = {}
    experiments: _Entries
    tiers: dict[Literal[TIERS], _Sizes]


def _place(loc: Place) -> Place:
    """Where a complaint of pydantic's is of, without what it puts between the keys: the kinds it tried."""
    if loc[-1:] == ("[key]",):
        return loc[:-1]
    kinds = {n for n in range(1, len(loc)) if loc[n - 1] in ("network", "autoencoder", "coupling")}
    kinds |= {2} if loc[:1] == ("clip",) else set()
    kinds |= {len(loc) - 1} if loc[-1:] in (("int",), ("float",), ("str",)) else set()
    return tuple(key for n, key in enumerate(loc) if n not in kinds)


def _sentence(error: ValidationError, key: Callable[[Place], str]) -> str:
    """pydantic's first complaint as a sentence: the `key` of its place, what is there and what should be."""
    # a misspelt key is also a missing one: the spelling is the better news
    first = sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden")[0]
    place = _place(first["loc"])
    said, more = key(place), f" ({error.error_count() - 1} more after it)" if error.error_count() > 1 else ""
    if first["type"] == "extra_forbidden":
        return f"unknown key '{said}': remove it or correct its spelling{more}"
    if first["type"] == "missing":
        return f"the key '{said}' is missing: add it{more}"
    if first["type"] == "union_tag_invalid":
        there = first["ctx"]["expected_tags"].replace("'", "")
        return f"{said}: there is no {place[-1]} '{first['ctx']['tag']}'; there are {there}{more}"
    reason = first["msg"].removeprefix("Value error, ")
    shown = f", not {first['input']!r:.100}" if first["type"] != "value_error" else ""
    return f"{said}: {reason}{shown}{more}"


@contextmanager
def _errors_name(path: Path, key: Callable[[Place], str] = dotted) -> Iterator[None]:
    try:
        yield
    except ValidationError as error:
        raise SettingsError(f"{path}: {_sentence(error, key)}") from None
    except SettingsError as error:
        raise SettingsError(f"{path}: {error}") from None


def _outline(content: str) -> dict[str, Any]:
    raw = document.parse(content)
    if not isinstance(raw, dict):
        raise SettingsError(f"it must hold the keys {', '.join(_File.model_fields)}")
    if raw.get("tier") not in TIERS:
        raise SettingsError(f"`tier` must be one of {', '.join(TIERS)}, not {raw.get('tier')!r}")
    _File.model_validate(raw)
    return raw


def _section(content: str, tier: str) -> dict[str, Any]:
    raw = _outline(content)
    if tier not in raw["tiers"]:
        there = listed(name for name in TIERS if name in raw["tiers"])
        raise SettingsError(f"there is no tier '{tier}'; {there}")
    try:
        return resolve(raw, tier)
    except Unresolved as error:
        place, sentence = error.args
        raise SettingsError(f"{where(raw, tier, place)}: {sentence}") from None


def read(path: Path) -> dict[str, Any]:
    """params.yaml as it stands, not to be changed; raises SettingsError for what is wrong in its outline."""
    with _errors_name(path):
        return _outline(document.text(path))


def section(path: Path, tier: str) -> dict[str, Any]:
    """The settings of `tier` as plain values, resolved and not yet validated; raises SettingsError."""
    with _errors_name(path):
        return _section(document.text(path), tier)


def load(path: Path, tier: str) -> Tier:
    """The settings of `tier`; raises SettingsError, in one sentence, for anything that is wrong in them."""
    settings = section(path, tier)
    with _errors_name(path, lambda place: where(read(path), tier, place)):
        return Tier.model_validate(settings)


def select(path: Path, tier: str) -> str:
    """The text of params.yaml with `tier` selected and nothing else changed; raises SettingsError."""
    with _errors_name(path):
        changed = document.with_value(document.text(path), "tier", tier)
        _section(changed, tier)
        return changed
