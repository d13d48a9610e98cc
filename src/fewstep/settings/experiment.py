"""The settings of an experiment: what is compared, how it is trained, sampled, measured and timed."""

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from ..flows.sampler_names import GUIDED, LINEAR_ONLY, check_method_sampler, check_solver
from .base import Settings, SettingsError, listed, optional
from .limits import Batches, Count, Name, Names, Seeds, Steps, distinct
from .networks import CONDITIONAL, Network
from .prepared import Clip, Features, Latents, prompt_problems
from .resolve import OTHERS
from .training import Method, Training

EXACT = "exact"
# of an adaptive solver: single precision has no more
MOST_DIGITS = 6

OfPoints = Literal["kl", "w2_target", "w2_teacher", "map_teacher"]
OfImages = Literal[
    "fid", "t_fid", "kid", "precision", "recall", "fid_jpeg", "one_step", "teacher_images", "clip",
    "attributes",
]  # fmt: skip
POINTS, IMAGES = get_args(OfPoints), get_args(OfImages)
# those that compare with the samples of a teacher
OF_TEACHER = ("w2_teacher", "map_teacher", "t_fid", "teacher_images")


class Sampling(Settings):
    """How many samples, from which seeds, in how many steps: `steps` by method, and by which sampler.

    `solvers` are further ones of a method, each a row of its own: steps of "heun", of "guided-<scale>" (Euler
    under classifier-free guidance), of "stochastic-<beta>" (SCFlow's), "renoised-<gamma>" (jumps) or
    "sde-<epsilon>", see fewstep.flows.samplers, or digits of tolerance of "adaptive" (2 for 0.01).
    """

    count: Count
    seeds: Seeds
    steps: dict[Name, Steps]
    samplers: dict[Name, Annotated[str, AfterValidator(check_method_sampler)]]
    solvers: dict[Name, dict[Annotated[str, AfterValidator(check_solver)], Steps]] = {}
    prompts: str | None = optional()  # the data set's prompts that the samples are conditioned on, in order


class Reference(Settings):
    """The samples that stand for the teacher: a method of the experiment and its number of steps."""

    method: Name
    steps: Count


class Metrics(Settings):
    """The evaluation protocol: the measures of points, or of images; see fewstep.evaluation.measure.

    `only` gives, by measure, the names of the rows that alone it is taken of.
    """

    measures: Annotated[list[Literal[OfPoints, OfImages]], Field(min_length=1), AfterValidator(distinct)]
    bins: int | None = Field(default=None, ge=1, le=1000)  # the histogram's cells along one axis, for KL
    w2_samples: int = Field(default=2, ge=2, le=10_000)  # the samples that an exact W2 is computed on
    features: Name | None = None  # the entry of the tier's `features` that images are measured in
    reference: Reference | None = None  # what stands for the teacher, for the measures that need one
    only: dict[str, Names] = Field(default={}, exclude_if=lambda value: not value)
    # the two methods whose FID is measured by other protocols too
    sensitivity: Annotated[Names, Field(min_length=2, max_length=2)] | None = optional()

    def of_row(self, row: str) -> list[str]:
        """The measures that are taken of a row: of a method, or of a further solver of one."""
        return [measure for measure in self.measures if row in self.only.get(measure, [row])]

    @property
    def of_images(self) -> bool:
        """Whether the measures are those of images."""
        return self.features is not None

    def problems(self) -> Iterator[str]:
        first, images = self.measures[0], {measure in IMAGES for measure in self.measures}
        if len(images) > 1:
            either = f"points ({', '.join(POINTS)}) or images ({', '.join(IMAGES)})"
            yield f"an experiment measures {either}, not both"
        if images == {True} and self.features is None:
            yield f"the measure '{first}' needs `metrics.features`: the name of an entry of `features`"
        if images == {False} and self.features is not None:
            yield f"`metrics.features` is for measures of images, and '{first}' is one of points: remove it"
        if "kl" in self.measures and self.bins is None:
            yield "the measure 'kl' needs `metrics.bins`"
        needing = [measure for measure in self.measures if measure in OF_TEACHER]
        if needing and self.reference is None:
            yield f"the measure '{needing[0]}' needs `metrics.reference`: the teacher's method and steps"
        if self.only and images == {False}:
            yield "`metrics.only` is for measures of images: remove it"
        if self.sensitivity and "fid" not in self.measures:
            yield "`metrics.sensitivity` asks how FID depends on its protocol: add the measure 'fid'"
        there = ", ".join(self.measures)
        for measure in self.only:
            if measure not in self.measures:
                yield f"`metrics.only` names '{measure}', which is not among the measures {there}"


class Speed(Settings):
    """What is timed: a call of a method's network for each of `batches`, the median of `repeats`.

    One image at a time is what tables compare, so 1 is among the batches.
    """

    batches: Batches
    repeats: int = Field(ge=2, le=100_000)

    def problems(self) -> Iterator[str]:
        if self.batches[0] != 1:
            yield f"`speed.batches` must begin with 1, one image at a time, not {self.batches[0]}"


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
        methods, sampling = self.methods, self.sampling
        for name in (EXACT, OTHERS):
            if name in methods:
                yield f"no method can be called '{name}', which `sampling` uses for something else: rename it"
        yield from self._unknown_names()
        for name, method in methods.items():
            if name not in sampling.steps or name not in sampling.samplers:
                yield f"`sampling` must give the steps and the sampler of the method '{name}'"
            chain = [name]
            while (teacher := methods[chain[-1]].teacher) and teacher not in chain:
                chain.append(teacher)
            if teacher:
                yield f"{' learns from '.join([*chain, teacher])}: break the circle of teachers"
            averaged = method.stop_gradient == "ema" or method.self_correction is not None
            if averaged and (method.network or self.training.network).kind == "edm2":
                # evaluated while one trains, an edm2 puts its weights back on their spheres
                why = (
                    f"`methods.{name}` evaluates averaged weights in training, and an edm2 would change them"
                )
                yield f"{why}: take another kind of network, or `stop_gradient: student`"
            if method.autoguidance and methods[weak := method.autoguidance.weak].teacher:
                where = f"`methods.{name}.autoguidance.weak` is '{weak}'"
                yield f"{where}, which is distilled itself: name a method without a teacher"
        yield from self._sampling_problems()
        labels = {EXACT: EXACT} | {name: method.label for name, method in methods.items()}
        for name, own in sampling.solvers.items():
            labels |= {f"{name}-{solver}": f"{labels[name]}, {solver}" for solver in own}
        rows: dict[str, str] = {}
        for row, label in labels.items():
            if rows.setdefault(label, row) != row:
                yield f"'{rows[label]}' and '{row}' have one label, '{label}', in the tables: change one"
        yield from self._measure_problems()

    def _unknown_names(self) -> Iterator[str]:
        """A sentence for each name of a method, or of a row, that there is not."""
        sampling, metrics, of_methods = self.sampling, self.metrics, {}
        for name, method in self.methods.items():
            of_methods[f"the method '{name}' names the teacher"] = filter(None, [method.teacher])
            if method.autoguidance:
                of_methods[f"`methods.{name}.autoguidance.weak` is"] = [method.autoguidance.weak]
        of_methods["`sampling` names"] = [n for n in (*sampling.steps, *sampling.samplers) if n != EXACT]
        of_methods["`sampling.solvers` names"] = sampling.solvers
        of_methods["`metrics.reference` is"] = [metrics.reference.method] if metrics.reference else ()
        of_methods["`metrics.sensitivity` names"] = metrics.sensitivity or ()
        of_rows = {f"`tables.{table}` names": names for table, names in (self.tables or {}).items()}
        of_rows |= {f"`metrics.only.{measure}` names": names for measure, names in metrics.only.items()}
        for what, there, named in (("method", self.methods, of_methods), ("row", sorted(self.rows), of_rows)):
            for where, names in named.items():
                for name in names:
                    if name not in there:
                        yield f"{where} '{name}', which is not a {what} here; {listed(there)}"

    def _sampling_problems(self) -> Iterator[str]:
        sampling, training = self.sampling, self.training
        if not any(sampling.steps[name] for name in self.methods):
            yield "`sampling.steps` draws no method at all: give one of them a number of steps"
        if EXACT in (*sampling.steps, *sampling.samplers) and training.data != "checkerboard":
            yield f"the exact velocity of '{training.data}' is not known: remove 'exact'"
        for name, method in self.methods.items():
            if method.distribution_matching and training.interpolant != "linear":
                where = f"`methods.{name}.distribution_matching`"
                yield f"{where} is for the linear interpolant, not for '{training.interpolant}'"
        for name, solvers in sampling.solvers.items():
            for solver, steps in solvers.items():
                where = f"`sampling.solvers.{name}.{solver}`"
                if f"{name}-{solver}" in self.methods:
                    yield f"{where} is a row of its own, and a method is called '{name}-{solver}': rename it"
                if solver.startswith(LINEAR_ONLY) and training.interpolant != "linear":
                    yield f"{where} is for the linear interpolant, not for '{training.interpolant}'"
                if not steps:
                    yield f"{where} draws nothing: give a number of steps, or remove it"
                elif solver == "adaptive" and max(steps) > MOST_DIGITS:
                    yield f"{where} holds digits of tolerance, {MOST_DIGITS} at most, not {max(steps)}"

    def _measure_problems(self) -> Iterator[str]:
        sampling, metrics, teacher = self.sampling, self.metrics, self.metrics.reference
        if teacher and teacher.steps not in sampling.steps[teacher.method]:
            drawn = f"{teacher.method} at {teacher.steps} steps"
            yield f"`metrics.reference` is {drawn}, which `sampling` does not draw"
        between = [measure for measure in ("w2_teacher", "t_fid") if measure in metrics.measures]
        if between and len(sampling.seeds) < 2:
            yield f"the measure '{between[0]}' compares independent noises: give at least two sampling seeds"
        if (asked := metrics.w2_samples) > (drawn := sampling.count):
            yield f"w2_samples ({asked}) exceeds the samples drawn ({drawn})"
        compared = metrics.sensitivity or []
        if compared and not set.intersection(*(set(sampling.steps[name]) for name in compared)):
            methods = " and ".join(compared)
            yield f"`metrics.sensitivity` compares {methods}: draw both in one number of steps in `sampling`"
        if self.speed and "fid" not in metrics.measures:
            yield "`speed` compares rows at their FID: add the measure 'fid', or remove `speed`"


def caption_problems(
    experiment: ExperimentSettings, latents: Latents | None, encoder: Clip | None, features: Features | None
) -> Iterator[str]:
    """What does not go together in an experiment on captions, or on none, a sentence each.

    `latents` are what it models, `encoder` reads their captions, and `features` measure its images, if any.
    """
    conditional, prompts = encoder is not None, experiment.sampling.prompts
    measures = experiment.metrics.measures
    kinds = {network.kind in CONDITIONAL for network in experiment.networks}
    if kinds != {conditional} or (prompts is not None) != conditional:
        networks = f"networks of kind {' or '.join(CONDITIONAL)}"
        together = f"latents with captions (`clip`), {networks} and `sampling.prompts` go together"
        yield f"{together}: give all or none"
    if conditional and (names := [n for n, own in experiment.methods.items() if own.distribution_matching]):
        yield f"`methods.{names[0]}.distribution_matching` draws no data, and so no captions: remove it"
    if latents is None or encoder is None:
        needing = [f"the measure '{name}'" for name in ("clip", "attributes") if name in measures]
        for name, method in experiment.methods.items():
            adversarial = method.self_correction and method.self_correction.adversarial
            own = {key: getattr(method, key) for key in ("guidance_scale", "conditioning_dropout")}
            own["self_correction.adversarial.head"] = adversarial and adversarial.head
            needing += [f"`methods.{name}.{key}`" for key, value in own.items() if value is not None]
        for name, own in experiment.sampling.samplers.items():
            if any(s.startswith(GUIDED) for s in (own, *experiment.sampling.solvers.get(name, {}))):
                needing.append(f"the guided sampler of '{name}'")
        if needing:
            yield f"{needing[0]} needs latents with captions: remove it, or name a `clip` for the latents"
        return
    yield from prompt_problems(latents.data, prompts, "sampling.count", experiment.sampling.count)
    for network in experiment.networks if encoder.kind == "trained" else ():
        if network.width != encoder.width:
            wide = f"the network reads tokens {network.width} wide, and its CLIP's are {encoder.width}"
            yield f"{wide}: give `network.width` the CLIP's `width`"
    if "attributes" in measures and not (features and features.probe_steps):
        steps = "give the steps of its training under `probe_steps` of its features"
        yield f"the measure 'attributes' reads pictures with a probe: {steps}"
