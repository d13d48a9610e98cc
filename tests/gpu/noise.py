"""Trainings on noise: the networks, batches and optimisers of a tier, and no archive is needed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from fewstep.flows.conditioning import Conditions
from fewstep.settings.networks import CONDITIONAL
from fewstep.settings.tiers import ExperimentSettings, Tier
from fewstep.settings.training import Method
from fewstep.training.job import Job
from fewstep.training.loops import terms
from fewstep.training.processes import Processes

# flow matching, and Lagrangian distillation, whose pass carries a derivative in time
OBJECTIVES = {"si": {"region": "diagonal"}, "lmd": {"region": "forward"}}
# of a CLIP's captions
TOKENS = 77


@dataclass(frozen=True)
class Step:
    """A step to be timed: the experiment whose network, batch and optimiser it takes, and how it computes."""

    experiment: str
    objective: str
    precision: str
    compiled: bool


@dataclass(frozen=True)
class Noise:
    """A data set that is noise; with `width` each has a caption, TOKENS tokens of as many numbers."""

    shape: tuple[int, ...]
    width: int | None = None
    scale: float = 1.0

    @property
    def conditional(self) -> bool:
        return self.width is not None

    @property
    def empty(self) -> Conditions:
        return Conditions(torch.zeros(1, TOKENS, self.width), torch.ones(1, TOKENS, dtype=torch.bool))

    def sample(self, count: int, generator: torch.Generator) -> torch.Tensor:
        return torch.randn(count, *self.shape, generator=generator, device=generator.device)

    def sample_with_conditions(self, count: int, generator: torch.Generator) -> tuple:
        return self.sample(count, generator), self.empty.times(count).to(generator.device)


@dataclass(frozen=True)
class OnNoise(Job):
    """A training whose data are noise."""

    noise: Noise | None = None

    @property
    def source(self) -> Noise:
        return self.noise


def networks_of(tier: Tier) -> dict[str, ExperimentSettings]:
    """The experiments of a tier that train, by name, one for each network and shape of the data."""
    found: dict[tuple, str] = {}
    for name, experiment in tier.experiments.items():
        if experiment.students_of is None:
            key = experiment.training.network.model_dump_json(), tier.shape(experiment)
            found.setdefault(key, name)
    return {name: tier.experiments[name] for name in found.values()}


def job_of(tier: Tier, step: Step, device: str) -> OnNoise:
    """The training whose step is timed, in the settings of its experiment."""
    experiment = tier.experiments[step.experiment]
    network = experiment.training.network
    changed = {"precision": step.precision, "compile": step.compiled or None}
    training = experiment.training.model_copy(update=changed)
    term = {"objective": step.objective, "times": OBJECTIVES[step.objective]}
    term |= {"options": {"gradient": "semi"}} if step.objective == "lmd" else {}
    teacher = "si" if step.objective == "lmd" else None
    method = Method(label=step.objective, steps=10_000, teacher=teacher, terms=[term])
    noise = Noise(tier.shape(experiment), network.width if network.kind in CONDITIONAL else None)
    return OnNoise(training, method, 0, Path("unused"), device=device, noise=noise)


def loop_of(job: OnNoise) -> terms.Loop:
    """The training's loop, its teacher untrained if it has one."""
    teacher = job.fresh().requires_grad_(False).eval() if job.method.teacher else None
    return terms.Loop(job, terms.start(job, teacher), teacher, Processes())
