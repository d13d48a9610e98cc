"""How a method is trained: what is minimised, on which data, with which network and optimiser."""

import inspect
from collections.abc import Collection, Iterator
from typing import Literal

from pydantic import Field

from .. import data, objectives
from ..flows.interpolants import INTERPOLANTS
from ..flows.sampler_names import MOST_GUIDANCE
from .base import Settings, listed, optional
from .laws import Adaptive, Autoguidance, Coupling, TimesSettings
from .limits import Count, File, Fraction, Label, Name, Positive, Processes, Rate, Seeds, Share, Size, Weight
from .networks import Network

# what options of objectives can be that do not say it: counts, or weights, as their defaults are
LIMITS: dict[type, tuple[int, int]] = {int: (1, 1000), float: (0, 1_000_000)}


class Term(Settings):
    """One objective on its share of every batch, its residuals multiplied by `weight`."""

    objective: str
    share: Share = 1.0
    weight: Positive = 1.0
    times: TimesSettings
    options: dict[str, int | float | str] = {}
    adaptive: Adaptive | None = optional()  # a weight for each sample besides

    def problems(self) -> Iterator[str]:
        objectives.check_options(self.objective, self.options)
        self.times.build()
        parameters = inspect.signature(objectives.load(self.objective)).parameters
        for key, value in self.options.items():
            kind, limits = type(parameters[key].default), objectives.limits(self.objective, key)
            if kind is str:
                possible, wanted = value in limits, f"one of {', '.join(limits)}"
            else:
                least, most = limits or LIMITS[kind]
                possible = isinstance(value, (int, kind)) and least <= value <= most
                wanted = f"a {'whole ' if kind is int else ''}number from {least:,} to {most:,}"
            if not possible:
                said = f"`options.{key}` must be {wanted}, not {value!r:.80}"
                yield f"the objective '{self.objective}': {said}"


class WeightedLoss(Settings):
    """A loss with its weight; it takes part from the optimisation step `warmup` on."""

    weight: Weight
    warmup: int = Field(default=0, ge=0)


class AdversarialLoss(WeightedLoss):
    """The adversarial loss and its discriminator; see fewstep.networks.discriminator.

    Its learning rate is "constant", as published, or warms up and falls as the student's does. It is given
    by `channels`, its width at each resolution from the latents' own down to 4 x 4, or by `head`: the width
    of a head on the teacher's encoder, conditioned on captions; see fewstep.networks.discriminator.
    """

    lr: Rate  # of the discriminator, trained by Adam
    schedule: Literal["constant", "student"] = Field("constant", exclude_if=lambda value: value == "constant")
    beta1: Fraction = 0.9  # Adam's; 0, as in StyleGAN2, does not overshoot
    beta2: Fraction | None = optional()  # Adam's, in the place of 0.99
    r1: Weight  # the weight gamma of the gradient penalty at real data
    channels: list[Size] | None = optional(min_length=1, max_length=16)
    head: Size | None = optional()
    # the head of SCFlow's released script, which sees latents at the times of the moves, with other noise in
    # the student's update
    released: bool | None = optional()

    def problems(self) -> Iterator[str]:
        if (self.channels is None) == (self.head is None):
            yield "give the discriminator either `channels` or, where data have captions, `head`"
        if self.released and self.head is None:
            yield "`released` is of a discriminator with a `head`: give one, or remove it"
        groups = 32 if self.released else 8
        if (self.head or 0) > groups and self.head % groups:
            yield f"`head` {self.head} must be divisible by its {groups} groups"


class SelfCorrection(Settings):
    """The four losses (arXiv 2412.16906); one that is not named does not take part."""

    threshold: Share  # delta, the largest move along the teacher's flow
    truncation: Fraction  # t_trunc: below it the consistency target is the data; 0: never
    huber_c: Positive = 0.01  # c of the pseudo-Huber distance
    target_ema: Fraction = 0.9  # what is kept of the target's weights at each step
    time_levels: Count | None = optional()  # networks are told times in whole parts of one, so many
    reflow: WeightedLoss | None = None
    adversarial: AdversarialLoss | None = None
    bidirectional: WeightedLoss | None = None


class DistributionMatching(Settings):
    """SiD (arXiv 2404.04057): `alpha` of its loss, and Adam for the velocity of what the student draws."""

    alpha: Weight = 1.2
    lr: Rate
    beta1: Fraction = 0.9


class Optimiser(Settings):
    """The optimiser and what surrounds it.

    Warmed up, the learning rate stays "constant", falls to zero along a straight line ("linear"), or is
    lr / sqrt(step / decay_after) after `decay_after` steps ("inverse_sqrt").
    """

    kind: Literal["adam", "radam", "soap"]
    lr: Rate  # the highest
    schedule: Literal["linear", "inverse_sqrt", "constant"]
    decay_after: Count = 1
    warmup: Fraction  # the fraction of training over which `lr` is reached
    clip_norm: Positive  # the largest norm of a gradient
    ema: Fraction  # the horizon of the averaged weights, as a fraction of training
    weight_decay: float | None = optional(gt=0, lt=1)  # decoupled, times the learning rate: AdamW's

    def problems(self) -> Iterator[str]:
        if self.weight_decay is not None and self.kind != "adam":
            yield f"`weight_decay` is of Adam alone, and the optimiser is {self.kind}: remove it"


class Method(Settings):
    """A row of a table: what is minimised, for how many steps, from where, with which teacher.

    `teacher_as` takes the teacher's "velocity", or its "euler" step as a map; "stages" replaces it by the
    student at each doubling of the strip. `weights`, in the place of training, are a file below paper/data or
    $FEWSTEP_DATA such as lfm/celebahq.safetensors, which `python -m fewstep convert-lfm` writes. For
    `autoguidance` and `coupling` see fewstep.settings.laws.
    """

    label: Label
    terms: list[Term] = []  # objectives of flow maps, each on its share of a batch, or
    self_correction: SelfCorrection | None = optional()  # the losses of SCFlow, or
    distribution_matching: DistributionMatching | None = optional()  # SiD, which sees no data
    steps: Count
    teacher: Name | None = None  # the method of the same experiment whose network is distilled
    teacher_as: Literal["velocity", "euler", "stages"] = "velocity"
    start: Literal["scratch", "teacher"] = "scratch"  # whose weights it begins from
    stop_gradient: Literal["student", "ema"] = "student"  # what self-distillation reads under it
    weights: File | None = optional()
    # of classifier-free guidance on the teacher
    guidance_scale: float | None = optional(ge=0, le=MOST_GUIDANCE)
    conditioning_dropout: Fraction | None = optional()  # the share of empty captions
    autoguidance: Autoguidance | None = optional()
    coupling: Coupling | None = optional()  # of noise and data; independent where none is named
    learned_weight: bool | None = optional()  # e^-w L + w, with w(s, t) learned beside
    network: Network | None = None  # in place of that which the methods share, and
    optimiser: Optimiser | None = None  # in place of theirs

    @property
    def loop(self) -> str:
        """Which loop trains it; see fewstep.training.loops."""
        if self.distribution_matching:
            return "sid"
        return "scflow" if self.self_correction else "terms"

    @property
    def teachers(self) -> list[str]:
        """The methods that must be trained before: the teacher, and the weak one that it is led away from."""
        weak = [self.autoguidance.weak] if self.autoguidance else []
        return [self.teacher, *weak] if self.teacher else weak

    def problems(self) -> Iterator[str]:
        loops = ("self_correction", "distribution_matching")
        own = [name for name in loops if getattr(self, name) is not None]
        if bool(self.terms) + len(own) != 1:
            yield "give a method either `terms` or `self_correction` or `distribution_matching`"
        velocity = self.teacher is not None and self.teacher_as == "velocity"
        if own and not (velocity and self.start == "teacher"):
            yield f"`{own[0]}` starts from its teacher: name a `teacher`, and say `start: teacher`"
        if self.terms and abs(sum(t.share for t in self.terms) - 1) > 1e-9:
            yield f"the shares of the terms must add up to 1, not {sum(t.share for t in self.terms):g}"
        needing = [t.objective for t in self.terms if objectives.needs_teacher(t.objective)]
        if needing and self.teacher is None:
            yield f"the objective '{needing[0]}' distils a teacher; name one under `teacher`"
        if self.teacher and self.network:
            yield "a distilled method keeps the teacher's network: remove `network`"
        if self.guidance_scale is not None and not velocity:
            yield "`guidance_scale` is the scale of a teacher's velocity: name a `teacher`, as velocity"
        for key, said in (("start", self.start == "teacher"), ("teacher_as", self.teacher_as != "velocity")):
            if said and self.teacher is None:
                yield f"`{key}: {getattr(self, key)}` needs a `teacher`"
        for name in ("reflow", "adversarial", "bidirectional"):
            loss = getattr(self.self_correction, name, None)
            if loss and loss.warmup >= self.steps:
                late = f"from step {loss.warmup} on, and training ends after {self.steps}"
                yield f"`self_correction.{name}` takes part {late}: lower its `warmup`, or remove it"
        if self.autoguidance and self.teacher is None:
            yield "`autoguidance` leads a teacher away from a weaker one: name a `teacher`"
        if self.autoguidance and self.guidance_scale is not None:
            yield "a teacher is guided by `autoguidance` or by `guidance_scale`, not by both: remove one"
        if self.autoguidance and self.autoguidance.weak == self.teacher:
            yield f"`autoguidance.weak` is '{self.teacher}', the teacher itself: name a weaker method"
        if self.coupling and self.teacher is not None:
            yield "`coupling` is of the noise and data of methods without a teacher: remove it, or `teacher`"
        if self.learned_weight and not self.terms:
            yield "`learned_weight` is of `terms`: remove it"
        if self.learned_weight and any(term.adaptive for term in self.terms):
            yield "`learned_weight` and a term's `adaptive` weigh the same samples: remove one"

    def batch_problems(self, batch: int, processes: int) -> Iterator[str]:
        """Why its terms cannot share a `batch`, or `processes` its largest part, a sentence each."""
        sizes = [round(term.share * batch) for term in self.terms[:-1]]
        for term, size in zip(self.terms, [*sizes, batch - sum(sizes)]):
            share = f"the share of '{term.objective}' in a batch of {batch}"
            if size < 1:
                yield f"{share} is no sample: raise `batch`, or the `share`"
            elif size % (times := term.options.get("times", 1)):
                yield f"`options.times` {times} must divide {share}, {size} samples"
            elif (group := objectives.group(term.objective)) > 1 and size % (group := group * processes):
                yield f"{share}, {size} samples, must be a multiple of {group}: change `batch` or `share`"
        if max([*sizes, batch - sum(sizes)]) < processes:
            shared = f"{processes} processes cannot share a batch of {batch}"
            yield f"{shared}: lower `processes`, or raise `batch`"


class Training(Settings):
    """What all methods of an experiment share; for the last four settings see fewstep.training.precision.

    `processes` train each network together, in the place of the tier's `compute.processes`: results depend on
    it in their last digits, so it is said and not found out from the machine.
    """

    data: str
    latents: Name | None = optional()  # the entry of the tier's `latents` that `data: latents` means
    interpolant: str
    network: Network
    optimiser: Optimiser
    batch: int = Field(ge=2, le=1_000_000)
    processes: Processes | None = optional()
    seeds: Seeds
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
