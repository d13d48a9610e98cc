"""The settings of an experiment: what is compared, how it is trained, sampled and measured."""

from collections.abc import Iterator

from pydantic import Field

from ..flows.sampler_names import GUIDED, LINEAR_ONLY
from .base import Settings, SettingsError, listed, optional
from .limits import Name, Names
from .networks import CONDITIONAL, Network
from .prepared import Clip, Features, Latents, prompt_problems
from .resolve import OTHERS
from .sampling import Metrics, Sampling, Speed
from .training import Method, Training

EXACT = "exact"
# of an adaptive solver: single precision has no more
MOST_DIGITS = 6


class ExperimentSettings(Settings):
    """What fills a table: its training, methods, sampling and metrics, and what is timed, if anything."""

    training: Training
    methods: dict[Name, Method] = Field(min_length=1)
    sampling: Sampling
    metrics: Metrics
    speed: Speed | None = None
    tables: dict[Name, Names] | None = optional()  # the rows of each table, where there are several
    students_of: Name | None = optional()  # the experiment whose trained methods it samples, for its own

    @property
    def networks(self) -> list[Network]:
        """The networks that are trained: the shared one, and those of methods that have their own."""
        return [self.training.network, *(m.network for m in self.methods.values() if m.network)]

    @property
    def rows(self) -> list[str]:
        """What samples are drawn for: the methods, and the further solvers of each."""
        further = [f"{name}-{solver}" for name, own in self.sampling.solvers.items() for solver in own]
        return [*self.methods, *further]

    def method(self, name: str) -> Method:
        """The method called `name`; raises SettingsError, naming those there are, when there is none."""
        if name not in self.methods:
            raise SettingsError(f"there is no method '{name}' in this experiment; {listed(self.methods)}")
        return self.methods[name]

    def problems(self) -> Iterator[str]:
        for name in (EXACT, OTHERS):
            if name in self.methods:
                yield f"no method can be called '{name}', which `sampling` uses for something else: rename it"
        for name, method in self.methods.items():
            if method.teacher is not None and method.teacher not in self.methods:
                yield f"the method '{name}' names the teacher '{method.teacher}', which is not a method here"
            if name not in self.sampling.steps or name not in self.sampling.samplers:
                yield f"`sampling` must give the steps and the sampler of the method '{name}'"
            yield from self._circle(name)
            if method.autoguidance:
                yield from self._weak_problems(name, method.autoguidance.weak)
        yield from self._sampling_problems()
        yield from self._label_problems()
        named = {f"tables.{table}": names for table, names in (self.tables or {}).items()}
        named |= {f"metrics.only.{measure}": names for measure, names in self.metrics.only.items()}
        for where, names in named.items():
            for name in names:
                if name not in self.rows:
                    yield f"`{where}` names '{name}', which is not a row here; {listed(sorted(self.rows))}"
        yield from self._measure_problems()

    def _circle(self, name: str) -> Iterator[str]:
        """The sentence about a method that is its own teacher, or its teacher's, if it is."""
        chain = [name]
        while (teacher := self.methods[chain[-1]].teacher) in self.methods and teacher not in chain:
            chain.append(teacher)
        if teacher in chain:
            yield f"{' learns from '.join([*chain, teacher])}: break the circle of teachers"

    def _weak_problems(self, name: str, weak: str) -> Iterator[str]:
        where = f"`methods.{name}.autoguidance.weak` is '{weak}'"
        if weak not in self.methods:
            yield f"{where}, which is not a method here; {listed(self.methods)}"
        elif self.methods[weak].teacher is not None:
            yield f"{where}, which is distilled itself: name a method without a teacher"

    def _label_problems(self) -> Iterator[str]:
        named = {EXACT: EXACT} | {name: method.label for name, method in self.methods.items()}
        solvers = self.sampling.solvers.items()
        named |= {f"{name}-{s}": f"{named.get(name)}, {s}" for name, own in solvers for s in own}
        rows: dict[str, str] = {}
        for row, label in named.items():
            if label in rows:
                yield f"'{rows[label]}' and '{row}' have one label, '{label}', in the tables: change one"
            rows[label] = row

    def _measure_problems(self) -> Iterator[str]:
        sampling, metrics = self.sampling, self.metrics
        teacher = metrics.reference
        if teacher and teacher.method not in self.methods:
            there = listed(self.methods)
            yield f"`metrics.reference` is '{teacher.method}', which is not a method here; {there}"
        if teacher and teacher.steps not in sampling.steps.get(teacher.method, []):
            drawn = f"{teacher.method} at {teacher.steps} steps"
            yield f"`metrics.reference` is {drawn}, which `sampling` does not draw"
        between = [measure for measure in ("w2_teacher", "t_fid") if measure in metrics.measures]
        if between and len(sampling.seeds) < 2:
            yield f"the measure '{between[0]}' compares independent noises: give at least two sampling seeds"
        if (asked := metrics.w2_samples) > (drawn := sampling.count):
            yield f"w2_samples ({asked}) exceeds the samples drawn ({drawn})"
        if self.speed and "fid" not in metrics.measures:
            yield "`speed` compares rows at their FID: add the measure 'fid', or remove `speed`"

    def _sampling_problems(self) -> Iterator[str]:
        there = f"which is not a method here; {listed(self.methods)}"
        if not any(self.sampling.steps.get(name) for name in self.methods):
            yield "`sampling.steps` draws no method at all: give one of them a number of steps"
        for name in [*self.sampling.steps, *self.sampling.samplers]:
            if name == EXACT and self.training.data != "checkerboard":
                yield f"the exact velocity of '{self.training.data}' is not known: remove 'exact'"
            if name not in self.methods and name != EXACT:
                yield f"`sampling` names '{name}', {there}"
        for name, solvers in self.sampling.solvers.items():
            if name not in self.methods:
                yield f"`sampling.solvers` names '{name}', {there}"
            for solver, steps in solvers.items():
                where = f"`sampling.solvers.{name}.{solver}`"
                if f"{name}-{solver}" in self.methods:
                    yield f"{where} is a row of its own, and a method is called '{name}-{solver}': rename it"
                if solver.startswith(LINEAR_ONLY) and self.training.interpolant != "linear":
                    yield f"{where} is for the linear interpolant, not for '{self.training.interpolant}'"
                if not steps:
                    yield f"{where} draws nothing: give a number of steps, or remove it"
                elif solver == "adaptive" and max(steps) > MOST_DIGITS:
                    yield f"{where} holds digits of tolerance, {MOST_DIGITS} at most, not {max(steps)}"


def _of_captions(experiment: ExperimentSettings) -> Iterator[str]:
    """The settings that mean nothing without captions."""
    for name, method in experiment.methods.items():
        for key in ("guidance_scale", "conditioning_dropout"):
            if getattr(method, key) is not None:
                yield f"`methods.{name}.{key}`"
        correction = method.self_correction
        if correction and correction.adversarial and correction.adversarial.head:
            yield f"`methods.{name}.self_correction.adversarial.head`"
    for name, own in experiment.sampling.samplers.items():
        if any(s.startswith(GUIDED) for s in (own, *experiment.sampling.solvers.get(name, {}))):
            yield f"the guided sampler of '{name}'"
    for measure in experiment.metrics.measures:
        if measure in ("clip", "attributes"):
            yield f"the measure '{measure}'"


def caption_problems(
    experiment: ExperimentSettings, latents: Latents | None, encoder: Clip | None, features: Features | None
) -> Iterator[str]:
    """What does not go together in an experiment on captions, or on none, a sentence each.

    `latents` are what it models, `encoder` reads their captions, and `features` measure its images, if any.
    """
    conditional, prompts = encoder is not None, experiment.sampling.prompts
    kinds = {network.kind in CONDITIONAL for network in experiment.networks}
    if kinds != {conditional} or (prompts is not None) != conditional:
        networks = f"networks of kind {' or '.join(CONDITIONAL)}"
        together = f"latents with captions (`clip`), {networks} and `sampling.prompts` go together"
        yield f"{together}: give all or none"
    if latents is None or encoder is None:
        for needing in _of_captions(experiment):
            yield f"{needing} needs latents with captions: remove it, or name a `clip` for the latents"
        return
    yield from prompt_problems(latents.data, prompts, "sampling.count", experiment.sampling.count)
    for network in experiment.networks if encoder.kind == "trained" else ():
        if network.width != encoder.width:
            wide = f"the network reads tokens {network.width} wide, and its CLIP's are {encoder.width}"
            yield f"{wide}: give `network.width` the CLIP's `width`"
    if "attributes" in experiment.metrics.measures and not (features and features.probe_steps):
        steps = "give the steps of its training under `probe_steps` of its features"
        yield f"the measure 'attributes' reads pictures with a probe: {steps}"
