"""How a method is trained: what is minimised, on which data, with which network and optimiser."""

from collections.abc import Collection, Iterator
from typing import Literal

from pydantic import Field

from .. import data, objectives
from ..flows.interpolants import INTERPOLANTS
from ..flows.times import Times
from .base import Settings, listed, optional
from .networks import Network
from .optimiser import Optimiser
from .self_correction import SelfCorrection


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

    def problems(self) -> Iterator[str]:
        objectives.check_options(self.objective, self.options)
        self.times.build()
        return super().problems()


class Method(Settings):
    """A row of a table: what is minimised, for how many steps, from where, with which teacher.

    `teacher_as` takes the teacher's "velocity", or its "euler" step as a map; "stages" replaces it by the
    student at each doubling of the strip. `weights`, in the place of training, are a file below paper/data or
    $FEWSTEP_DATA such as lfm/celebahq.safetensors, which `python -m fewstep convert-lfm` writes.
    """

    label: str
    terms: list[Term] = []  # objectives of flow maps, each on its share of a batch, or
    self_correction: SelfCorrection | None = optional()  # the losses of SCFlow
    steps: int = Field(ge=1)
    teacher: str | None = None  # the method of the same experiment whose network is distilled
    teacher_as: Literal["velocity", "euler", "stages"] = "velocity"
    start: Literal["scratch", "teacher"] = "scratch"  # whose weights it begins from
    stop_gradient: Literal["student", "ema"] = "student"  # what self-distillation reads under it
    weights: str | None = optional()
    guidance_scale: float | None = optional(ge=0)  # of classifier-free guidance on the teacher
    conditioning_dropout: float | None = optional(ge=0, lt=1)  # the share of empty captions
    network: Network | None = None  # in place of that which the methods share, and
    optimiser: Optimiser | None = None  # in place of theirs

    @property
    def loop(self) -> str:
        """Which loop trains it; see fewstep.training.loops."""
        return "scflow" if self.self_correction else "terms"

    def problems(self) -> Iterator[str]:
        if bool(self.terms) == (self.self_correction is not None):
            yield "give a method either `terms` or `self_correction`"
        velocity = self.teacher is not None and self.teacher_as == "velocity"
        if self.self_correction and not (velocity and self.start == "teacher"):
            yield "`self_correction` starts from its teacher: name a `teacher`, and say `start: teacher`"
        if self.terms and abs(sum(t.share for t in self.terms) - 1) > 1e-9:
            yield f"the shares of the terms must add up to 1, not {sum(t.share for t in self.terms):g}"
        needing = [t.objective for t in self.terms if objectives.needs_teacher(t.objective)]
        if needing and self.teacher is None:
            yield f"the objective '{needing[0]}' distils a teacher; name one under `teacher`"
        if self.teacher and self.network:
            yield "a distilled method keeps the teacher's network: remove `network`"
        if self.guidance_scale is not None and not velocity:
            yield "`guidance_scale` is the scale of a teacher's velocity: name a `teacher`, as velocity"
        if self.teacher is None and self.start == "teacher":
            yield "`start: teacher` needs a `teacher`"


class Training(Settings):
    """What all methods of an experiment share; for the last four settings see fewstep.training.precision.

    `processes` train each network together, in the place of the tier's `compute.processes`: results depend on
    it in their last digits, so it is said and not found out from the machine.
    """

    data: str
    latents: str | None = optional()  # the entry of the tier's `latents` that `data: latents` means
    interpolant: str
    network: Network
    optimiser: Optimiser
    batch: int = Field(ge=2)
    processes: int | None = optional(ge=1, le=64)
    seeds: list[int] = Field(min_length=1)
    precision: Literal["fp32", "tf32", "bf16"] | None = optional()
    channels_last: bool | None = optional()
    compile: bool | None = optional()
    cuda_graphs: bool | None = optional()

    def problems(self) -> Iterator[str]:
        if self.interpolant not in INTERPOLANTS:
            yield f"there is no interpolant '{self.interpolant}'; {listed(INTERPOLANTS)}"
        data.module(self.data)  # raises where there is none
        if data.is_prepared(self.data) != (self.latents is not None):
            yield "`data: latents` and `latents`, the entry of the tier, go together: give both or neither"
        if len(set(self.seeds)) < len(self.seeds):
            yield "the training seeds must differ from each other"
        if self.batch < (self.processes or 1):
            shared = f"{self.processes} processes cannot share a batch of {self.batch}"
            yield f"{shared}: lower `processes`, or raise `batch`"


def precision_problems(training: Training, kinds: Collection[str], device: str) -> Iterator[str]:
    """What `device`, or a network among `kinds`, cannot do of what `training` asks for, a sentence each."""
    for_images = {"precision bf16": training.precision == "bf16", "channels_last": training.channels_last}
    for name, wanted in for_images.items():
        if wanted and "mlp" in kinds:
            yield f"training.{name} is for networks of images: an mlp computes in single precision"
    if training.precision == "tf32" and device != "cuda":
        yield "training.precision tf32 needs compute.device cuda"
    if training.compile and device != "cuda":
        # torch 2.13 stops at a derivative in forward mode with its backward pass: ZeroTensors are immutable
        because = "forward-mode derivatives with a backward pass do not compile on a CPU"
        yield f"training.compile needs compute.device cuda; {because}"
    if training.cuda_graphs and not training.compile:
        yield "training.cuda_graphs replays what training.compile compiles: set both, or neither"
