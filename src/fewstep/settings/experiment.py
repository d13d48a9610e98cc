"""The settings of an experiment: what is compared, how it is trained, sampled and measured."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import model_validator

from .. import data
from ..flows.sampler_names import GUIDED
from .base import Settings, SettingsError, optional
from .clip import Clip
from .features import Features
from .latents import Latents
from .networks import CONDITIONAL
from .sampling import Metrics, Sampling, Speed
from .training import Method, Training

EXACT = "exact"


class ExperimentSettings(Settings):
    """What fills a table: its training, its methods, its sampling and its metrics, and what is timed, if anything.

    tables       where one experiment fills several: the methods of each, further solvers among them, by the table's name
    students_of  the experiment whose trained methods this one samples and measures, in the place of training its own
    """

    training: Training
    methods: dict[str, Method]
    sampling: Sampling
    metrics: Metrics
    speed: Speed | None = None
    tables: dict[str, list[str]] | None = optional()
    students_of: str | None = optional()

    @property
    def self_corrected(self) -> bool:
        """Whether SCFlow is among the methods."""
        return any(method.self_correction for method in self.methods.values())

    @property
    def network_kinds(self) -> set[str]:
        """The kinds of the networks that are trained."""
        own = [method.network for method in self.methods.values() if method.network]
        return {network.kind for network in (self.training.network, *own)}

    @property
    def rows(self) -> set[str]:
        """The rows that samples are drawn for: the methods, and the further solvers of each."""
        return {*self.methods} | {
            f"{name}-{solver}" for name, own in self.sampling.solvers.items() for solver in own
        }

    @model_validator(mode="after")
    def _consistent(self) -> ExperimentSettings:
        sampling, metrics, there = self.sampling, self.metrics, f"there are {', '.join(self.methods)}"
        for name, method in self.methods.items():
            if method.teacher is not None and method.teacher not in self.methods:
                raise ValueError(
                    f"the method '{name}' names the teacher '{method.teacher}', which is not a method here"
                )
            if name not in sampling.steps or name not in sampling.samplers:
                raise ValueError(f"`sampling` must give the steps and the sampler of the method '{name}'")
        for name in [*sampling.steps, *sampling.samplers]:
            if name == EXACT and self.training.data != "checkerboard":
                raise ValueError(
                    f"the exact velocity of '{self.training.data}' is not known: remove '{EXACT}' from `sampling`"
                )
            if name not in self.methods and name != EXACT:
                raise ValueError(f"`sampling` names '{name}', which is not a method here; {there}")
        for name, solvers in sampling.solvers.items():
            if name not in self.methods:
                raise ValueError(f"`sampling.solvers` names '{name}', which is not a method here; {there}")
            for solver, steps in solvers.items():
                if f"{name}-{solver}" in self.methods or not all(n >= 1 for n in steps):
                    raise ValueError(
                        f"`sampling.solvers.{name}.{solver}` must be positive whole numbers, and no method may be "
                        f"called '{name}-{solver}'"
                    )
        named = {f"tables.{table}": names for table, names in (self.tables or {}).items()}
        named |= {f"metrics.only.{measure}": names for measure, names in metrics.only.items()}
        for where, names in named.items():
            if unknown := [name for name in names if name not in self.rows]:
                raise ValueError(
                    f"`{where}` names '{unknown[0]}', which is not a row here; there are {', '.join(sorted(self.rows))}"
                )
        reference = metrics.reference
        if reference and reference.steps not in sampling.steps.get(reference.method, []):
            raise ValueError(
                f"`metrics.reference` is {reference.method} at {reference.steps} steps, which `sampling` does not draw"
            )
        between = [measure for measure in ("w2_teacher", "t_fid") if measure in metrics.measures]
        if between and len(sampling.seeds) < 2:
            raise ValueError(
                f"the measure '{between[0]}' compares independent noises: give at least two sampling seeds"
            )
        if metrics.w2_samples > sampling.count:
            raise ValueError(
                f"w2_samples ({metrics.w2_samples}) exceeds the samples drawn ({sampling.count})"
            )
        return self

    def method(self, name: str) -> Method:
        """The method called `name`; raises SettingsError, naming those there are, when there is none."""
        if name not in self.methods:
            raise SettingsError(
                f"there is no method '{name}' in this experiment; there are {', '.join(self.methods)}"
            )
        return self.methods[name]


def _of_captions(experiment: ExperimentSettings) -> Iterator[str]:
    """The settings that mean nothing without captions."""
    for name, method in experiment.methods.items():
        for key in ("guidance_scale", "conditioning_dropout"):
            if getattr(method, key) is not None:
                yield f"`methods.{name}.{key}`"
        correction = method.self_correction
        if correction and correction.adversarial and correction.adversarial.head:
            yield f"`methods.{name}.self_correction.adversarial.head`"
    samplers = {
        name: [own, *experiment.sampling.solvers.get(name, {})]
        for name, own in experiment.sampling.samplers.items()
    }
    yield from (
        f"the guided sampler of '{name}'"
        for name, own in samplers.items()
        if any(s.startswith(GUIDED) for s in own)
    )
    yield from (
        f"the measure '{measure}'"
        for measure in ("clip", "attributes")
        if measure in experiment.metrics.measures
    )


def captions_problem(
    experiment: ExperimentSettings, latents: Latents | None, encoder: Clip | None, features: Features | None
) -> str | None:
    """What is wrong with the captions that an experiment is conditioned on, in words, or None.

    `latents` are those that it models, `encoder` the CLIP that reads their captions, and `features` what its images are
    measured in, each None where there is none.
    """
    conditional, prompts = encoder is not None, experiment.sampling.prompts
    if (prompts is not None) != conditional or any(
        (kind in CONDITIONAL) != conditional for kind in experiment.network_kinds
    ):
        return (
            f"latents with captions (`clip`), networks of kind {' or '.join(CONDITIONAL)} and `sampling.prompts` "
            "go together: give all or none"
        )
    if latents is None or encoder is None:
        needing = next(_of_captions(experiment), None)
        return (
            needing and f"{needing} needs latents with captions: remove it, or name a `clip` for the latents"
        )
    if prompts not in (there := data.prompt_sets(latents.data)):
        return f"the data set '{latents.data}' has no prompts '{prompts}'; there are {', '.join(there) or 'none'}"
    networks = [experiment.training.network, *(m.network for m in experiment.methods.values() if m.network)]
    widths = {network.width for network in networks}
    if encoder.kind == "trained" and widths != {encoder.width}:
        return (
            f"the network reads tokens {min(widths - {encoder.width})} wide, and its CLIP's are {encoder.width}: "
            "give `network.width` the CLIP's `width`"
        )
    if "attributes" in experiment.metrics.measures and not (features and features.probe_steps):
        return (
            "the measure 'attributes' reads pictures with a probe: give the steps of its training under "
            "`probe_steps` of its features"
        )
    return None
