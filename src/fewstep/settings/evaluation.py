"""The settings of what follows training: sampling, features, metrics and timing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from .. import data
from ..flows.sampler_names import check_method_sampler, check_solver
from .base import Settings

POINTS = ("kl", "w2_target", "w2_teacher", "map_teacher")
IMAGES = (
    "fid",
    "t_fid",
    "kid",
    "precision",
    "recall",
    "fid_jpeg",
    "one_step",
    "teacher_images",
    "clip",
    "attributes",
)


class Sampling(Settings):
    """How many samples, from which seeds, in how many steps: `steps` by method, and by which sampler.

    solvers  further solvers of a method's velocity: steps of "heun" or "stochastic-<beta>" (SCFlow's, see
             fewstep.flows.samplers), of "guided-<scale>" (Euler under classifier-free guidance), or digits of tolerance of
             "adaptive" (2 for 0.01), by method; each is a row of its own
    prompts  which of the data set's sets of prompts the samples are told, in its order; `count` of them
    """

    count: int = Field(ge=1)
    seeds: list[int] = Field(min_length=1)
    steps: dict[str, list[int]]
    samplers: dict[str, Annotated[str, AfterValidator(check_method_sampler)]]
    solvers: dict[str, dict[Annotated[str, AfterValidator(check_solver)], list[int]]] = {}
    prompts: str | None = Field(default=None, exclude_if=lambda value: value is None)


class Reference(Settings):
    """The samples that stand for the teacher: a method of the experiment and its number of steps."""

    method: str
    steps: int = Field(ge=1)


class Features(Settings):
    """What images are measured in, and what they are measured against.

    data       the data set
    extractor  "classifier": a small one, trained here for `steps` from `seed`; "inception": clean-fid's network
    reference  how many images of the data are drawn to measure against; without it, every image once
    prompts    where the images have captions: which set of zero-shot prompts, the first `reference` of whose pictures are
               measured against in the place of images drawn
    probe      where the images have captions: the steps for which a probe is trained that reads back what they show
    trained    the entry whose classifier and probe these are too, in the place of training the same ones again; all tiers
               name the same one, and of Inception, which is not trained here, nothing is taken
    """

    data: str
    extractor: Literal["classifier", "inception"]
    steps: int = Field(default=800, ge=1)
    seed: int = 0
    reference: int | None = Field(default=None, ge=2)
    probe: int | None = Field(default=None, ge=1, exclude_if=lambda value: value is None)
    prompts: str | None = Field(default=None, exclude_if=lambda value: value is None)
    trained: str | None = Field(default=None, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _known(self) -> Features:
        if self.data not in data.names():
            raise ValueError(f"there is no data set '{self.data}'; there are {', '.join(data.names())}")
        if self.prompts is not None and self.prompts not in (there := data.prompt_sets(self.data)):
            raise ValueError(
                f"the data set '{self.data}' has no prompts '{self.prompts}'; there are {', '.join(there) or 'none'}"
            )
        if self.prompts is not None and self.reference is None:
            raise ValueError("`prompts` are measured against their pictures: say how many under `reference`")
        if self.probe and not data.offers(self.data, "any_pairs"):
            raise ValueError(
                f"the data set '{self.data}' has nothing for `probe`, which asks for its `any_pairs`: remove it"
            )
        return self


class Metrics(Settings):
    """The evaluation protocol.

    measures    which distances are taken: of points (see fewstep.evaluation.measure) or of images (fewstep.evaluation.measure_images)
    bins        the histogram's cells along one axis, for KL
    w2_samples  the samples that an exact W2 is computed on
    features    the entry of the tier's `features` that images are measured in
    reference   what stands for the teacher, for the measures that need one
    only        measures that are taken of some rows alone: their names, as `tables` gives them, by measure
    """

    measures: list[
        Literal[
            "kl",
            "w2_target",
            "w2_teacher",
            "map_teacher",
            "fid",
            "t_fid",
            "kid",
            "precision",
            "recall",
            "fid_jpeg",
            "one_step",
            "teacher_images",
            "clip",
            "attributes",
        ]
    ] = Field(min_length=1)
    bins: int | None = Field(default=None, ge=1)
    w2_samples: int = Field(default=2, ge=2)
    features: str | None = None
    reference: Reference | None = None
    only: dict[str, list[str]] = Field(default={}, exclude_if=lambda value: not value)

    def of_row(self, row: str) -> list[str]:
        """The measures that are taken of a row: of a method, or of a further solver of one."""
        return [measure for measure in self.measures if row in self.only.get(measure, [row])]

    @property
    def of_images(self) -> bool:
        """Whether the measures are those of images."""
        return self.features is not None

    @model_validator(mode="after")
    def _whole(self) -> Metrics:
        kinds = {"images" if measure in IMAGES else "points" for measure in self.measures}
        if len(kinds) > 1:
            raise ValueError(
                f"an experiment measures points ({', '.join(POINTS)}) or images ({', '.join(IMAGES)}), not both"
            )
        if "images" in kinds and self.features is None:
            raise ValueError(
                f"the measure '{self.measures[0]}' needs `metrics.features`: the name of an entry of the tier's `features`"
            )
        if "points" in kinds and self.features is not None:
            raise ValueError(
                f"`metrics.features` is for measures of images, and '{self.measures[0]}' is one of points: remove it"
            )
        if "kl" in self.measures and self.bins is None:
            raise ValueError("the measure 'kl' needs `metrics.bins`")
        needing = [m for m in self.measures if m.endswith("_teacher") or m in ("t_fid", "teacher_images")]
        if needing and self.reference is None:
            raise ValueError(
                f"the measure '{needing[0]}' needs `metrics.reference`: the teacher's method and steps"
            )
        if self.only and "points" in kinds:
            raise ValueError("`metrics.only` is for measures of images: remove it")
        if unknown := [measure for measure in self.only if measure not in self.measures]:
            raise ValueError(
                f"`metrics.only` names '{unknown[0]}', which is not among the measures {', '.join(self.measures)}"
            )
        return self


class Speed(Settings):
    """What is timed: one call of a method's network for each of `batches`, `repeats` times; the median counts."""

    batches: list[int] = Field(min_length=1)
    repeats: int = Field(ge=1)
