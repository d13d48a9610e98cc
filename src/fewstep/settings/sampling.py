"""The settings of what follows training: sampling, metrics and timing."""

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, Field

from ..flows.sampler_names import check_method_sampler, check_solver
from .base import Settings, optional
from .limits import Batches, Count, Name, Names, Seeds, Steps, distinct

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
