"""How a method is trained, as params.yaml says it: the network, the optimiser, what is minimised, on which data."""

from __future__ import annotations

from collections.abc import Collection
from typing import Annotated, Literal

from pydantic import Field, model_validator

from .. import data, objectives
from ..flows.interpolants import INTERPOLANTS
from ..flows.times import Times
from .base import Settings
from .scflow import SelfCorrection

# A setting that may be left out, and then leaves no trace in what is written down of the settings.
UNSAID = Field(default=None, exclude_if=lambda value: value is None)


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


class ADMSettings(Settings):
    """The ADM UNet of Latent Flow Matching; see fewstep.networks.adm."""

    kind: Literal["adm"]
    width: int = Field(ge=32)
    multipliers: list[int] = Field(min_length=1)
    blocks: int = Field(ge=1)
    attention: list[int]
    heads: int = Field(ge=1)
    head_channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class _ConditionalUNetSettings(Settings):
    """What networks that are told texts have in common; `width` is that of the text's tokens."""

    channels: list[int] = Field(min_length=1)
    layers: int = Field(ge=1)
    attention: list[bool]
    heads: int = Field(ge=1)
    groups: int = Field(ge=1)
    width: int = Field(ge=1)


class TextUNetSettings(_ConditionalUNetSettings):
    """A two-time UNet that is told a text; see fewstep.networks.text_unet."""

    kind: Literal["text_unet"]
    time_scale: float = Field(gt=1)
    readers: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)


class PublishedUNetSettings(_ConditionalUNetSettings):
    """Stable Diffusion's UNet as InstaFlow and SCFlow publish it; see fewstep.networks.published_unet."""

    kind: Literal["published_unet"]
    checkpointing: bool = True


# the kinds of networks that are told texts
CONDITIONAL = ("text_unet", "published_unet")
Network = Annotated[
    MLPSettings | UNetSettings | ADMSettings | TextUNetSettings | PublishedUNetSettings,
    Field(discriminator="kind"),
]


class Optimiser(Settings):
    """The optimiser and what surrounds it.

    rate     the highest step size
    warmup   the fraction of training over which it is reached
    schedule "linear": from there a straight line down to zero; "inverse_sqrt": rate / sqrt(step / hold) after
             `hold` steps; "constant": as it is
    clip     the largest norm of a gradient
    average  the horizon of the averaged weights that are kept, as a fraction of training
    decay    how much of every weight is taken away at a step, times the step size: Adam's alone, which it makes AdamW
    """

    kind: Literal["adam", "radam", "soap"]
    rate: float = Field(gt=0)
    schedule: Literal["linear", "inverse_sqrt", "constant"]
    hold: int = Field(default=1, ge=1)
    warmup: float = Field(ge=0, lt=1)
    clip: float = Field(gt=0)
    average: float = Field(ge=0, lt=1)
    decay: float | None = Field(default=None, gt=0, lt=1, exclude_if=lambda value: value is None)

    @model_validator(mode="after")
    def _adams(self) -> Optimiser:
        if self.decay is not None and self.kind != "adam":
            raise ValueError(f"`decay` is of Adam alone, and the optimiser is {self.kind}: remove it")
        return self


class TimesSettings(Settings):
    """How (s, t) is drawn; see fewstep.flows.times.Times."""

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
    def _known(self) -> Term:
        objectives.check_options(self.objective, self.options)
        self.times.build()
        return self


class Method(Settings):
    """A row of a table: what is minimised, for how many steps, from where, with which teacher.

    terms            objectives of flow maps, each on its share of a batch, or
    self_correction  the losses of SCFlow; see fewstep.scflow
    teacher          the method of the same experiment whose network is distilled
    teacher_as       "velocity", or "euler": its Euler step as a map; "stages" replaces it by the student at each
                doubling of the strip
    start            "scratch", or "teacher": begin from the teacher's weights
    weights          a file of trained weights that takes the place of training: below paper/data or $FEWSTEP_DATA, such as
                     lfm/celebahq.safetensors, which `python -m fewstep convert-lfm` writes
    network, optimiser  in place of those that the methods share
    guidance         the scale of classifier-free guidance on the teacher, where data come with texts
    dropped          the share of texts that the empty one takes the place of, which a teacher must learn to be guided
    stopped          what self-distillation reads under its stop-gradient: the "student", or the "average" of its weights
    """

    label: str
    terms: list[Term] = []
    self_correction: SelfCorrection | None = UNSAID
    steps: int = Field(ge=1)
    teacher: str | None = None
    teacher_as: Literal["velocity", "euler", "stages"] = "velocity"
    start: Literal["scratch", "teacher"] = "scratch"
    stopped: Literal["student", "average"] = "student"
    weights: str | None = UNSAID
    guidance: float | None = Field(default=None, ge=0, exclude_if=lambda value: value is None)
    dropped: float | None = Field(default=None, ge=0, lt=1, exclude_if=lambda value: value is None)
    network: Network | None = None
    optimiser: Optimiser | None = None

    @property
    def loop(self) -> str:
        """Which loop trains it; see fewstep.training.loops."""
        return "scflow" if self.self_correction else "terms"

    @model_validator(mode="after")
    def _whole(self) -> Method:
        if bool(self.terms) == (self.self_correction is not None):
            raise ValueError("give a method either `terms` or `self_correction`")
        if self.self_correction and (
            self.teacher is None or self.start != "teacher" or self.teacher_as != "velocity"
        ):
            raise ValueError(
                "`self_correction` starts from its teacher: name one under `teacher`, and say `start: teacher`"
            )
        if self.terms and abs(sum(t.share for t in self.terms) - 1) > 1e-9:
            raise ValueError(
                f"the shares of the terms must add up to 1, not {sum(t.share for t in self.terms):g}"
            )
        needing = [t.objective for t in self.terms if objectives.needs_teacher(t.objective)]
        if needing and self.teacher is None:
            raise ValueError(f"the objective '{needing[0]}' distils a teacher; name one under `teacher`")
        if self.teacher and self.network:
            raise ValueError("a distilled method keeps the teacher's network: remove `network`")
        if self.guidance is not None and (self.teacher is None or self.teacher_as != "velocity"):
            raise ValueError(
                "`guidance` is the scale of a teacher's velocity: name one under `teacher`, and leave `teacher_as` at velocity"
            )
        if self.teacher is None and self.start == "teacher":
            raise ValueError("`start: teacher` needs a `teacher`")
        return self


class Training(Settings):
    """What all methods of an experiment share; for precision, channels_last, compile and cuda_graphs see fewstep.training.precision.

    latents    the entry of the tier's `latents` that `data: latents` means
    processes  how many processes train each network together, in the place of the tier's `compute.processes`; results
               depend on it in their last digits, so it is said here and not found out from the machine
    """

    data: str
    latents: str | None = UNSAID
    interpolant: str
    network: Network
    optimiser: Optimiser
    batch: int = Field(ge=2)
    processes: int | None = Field(default=None, ge=1, le=64, exclude_if=lambda value: value is None)
    seeds: list[int] = Field(min_length=1)
    precision: Literal["fp32", "tf32", "bf16"] | None = UNSAID
    channels_last: bool | None = UNSAID
    compile: bool | None = UNSAID
    cuda_graphs: bool | None = UNSAID

    @model_validator(mode="after")
    def _known(self) -> Training:
        if self.interpolant not in INTERPOLANTS:
            raise ValueError(
                f"there is no interpolant '{self.interpolant}'; there are {', '.join(INTERPOLANTS)}"
            )
        if self.data not in data.names():
            raise ValueError(f"there is no data set '{self.data}'; there are {', '.join(data.names())}")
        if data.is_prepared(self.data) != (self.latents is not None):
            raise ValueError(
                "`data: latents` and `latents`, which of the tier's they are, go together: give both or neither"
            )
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError("the training seeds must differ from each other")
        if self.batch < (self.processes or 1):
            raise ValueError(
                f"{self.processes} processes cannot share a batch of {self.batch}: lower `processes`, or raise `batch`"
            )
        return self


def check_precision(training: Training, kinds: Collection[str], device: str) -> None:
    """Raise ValueError, in one sentence, where `device` or a network among `kinds` cannot do what `training` asks for."""
    for_images = {"precision bf16": training.precision == "bf16", "channels_last": training.channels_last}
    for_cuda = {"precision tf32": training.precision == "tf32", "compile": training.compile}
    for name, wanted in for_images.items():
        if wanted and "mlp" in kinds:
            raise ValueError(
                f"training.{name} is for networks of images: an mlp has its layers written out, in single precision"
            )
    for name, wanted in for_cuda.items():
        if wanted and device != "cuda":
            # on a CPU, torch 2.13 stops at a derivative in forward mode with its backward pass: ZeroTensors are immutable
            why = (
                "; forward-mode derivatives with a backward pass do not compile on a CPU"
                if name == "compile"
                else ""
            )
            raise ValueError(f"training.{name} needs compute.device cuda{why}")
    if training.cuda_graphs and not training.compile:
        raise ValueError("training.cuda_graphs replays what training.compile compiles: set both, or neither")
