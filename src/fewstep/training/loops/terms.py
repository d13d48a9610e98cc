"""The loop of flow maps: terms, each an objective on its share of every batch. It knows terms and no method.

What is minimised comes from params.yaml.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ... import objectives
from ...flows.conditioning import Conditions, conditioned, draw, guided
from ...flows.flow_map import EulerMap, FlowMap
from ...flows.interpolants import INTERPOLANTS, Batch
from ...flows.times import Times
from ...settings.training import Training
from .. import optimisers, precision
from ..processes import Processes
from .schedules import memory, rate
from .state import State

if TYPE_CHECKING:
    from ..job import Job

# the map that stands in for the teacher of a staged run, among the state's other networks
STAGE = "stage"


def draw_batch(
    training: Training,
    x1: Tensor,
    scale: float,
    term_times: Sequence[Times],
    sizes: Sequence[int],
    progress: float,
    generator: torch.Generator,
) -> Batch:
    """One batch: the data `x1`, noise of `scale`, and for each term its share of the time pairs."""
    interpolant, device, count = INTERPOLANTS[training.interpolant], generator.device, sum(sizes)
    x0 = torch.randn(x1.shape, generator=generator, device=device) * scale
    uniform = torch.rand(4, count, generator=generator, device=device)
    z = torch.randn(x1.shape, generator=generator, device=device) if interpolant.noisy else None
    pairs = [times.draw(u, progress) for times, u in zip(term_times, uniform[:3].split(list(sizes), 1))]
    s, t = (torch.cat(end) for end in zip(*pairs))
    x0, x1, z = (x if x is None else precision.laid_out(x, training) for x in (x0, x1, z))
    return Batch(x0, x1, s, t, uniform[3], interpolant, z)


def start(job: Job, teacher: FlowMap | None) -> State:
    """The state of a run that has not begun."""
    student = job.fresh()
    if job.method.start == "teacher":
        student.load_state_dict(teacher.state_dict())
    average = job.fresh()
    average.load_state_dict(student.state_dict())
    others = {STAGE: job.fresh().requires_grad_(False)} if job.method.teacher_as == "stages" else {}
    settings = job.optimiser
    optimiser = optimisers.build(settings.kind, student.parameters(), settings.lr, settings.weight_decay or 0.0)
    generator = torch.Generator(job.device).manual_seed(job.seed)
    return State(
        student,
        average.requires_grad_(False),
        optimiser,
        generator,
        torch.zeros(job.method.steps, 2),
        others=others,
    )


class Loop:
    """The part of a run that does not change: bound objectives, their shares and times, and the teacher."""

    def __init__(self, job: Job, state: State, teacher: FlowMap | None, processes: Processes):
        self.job, self.state, self.teacher, self.processes = job, state, teacher, processes
        self.terms, self.source, batch = job.method.terms, job.source, job.training.batch
        self.sizes = [round(term.share * batch) for term in self.terms[:-1]]
        self.sizes.append(batch - sum(self.sizes))
        if max(self.sizes) < processes.count:
            raise ValueError(
                f"{processes.count} processes cannot share the samples of a batch of {batch}: lower `processes`"
            )
        self.times = [term.times.build() for term in self.terms]
        self.weights = list(state.student.parameters())
        self.means = list(state.average.parameters())
        self.doublings = max(times.doublings for times in self.times)
        self.stage_bound = -1
        self.residuals: list = []

    def bind(self, progress: float) -> None:
        """Bind the objectives to their teacher, which a staged run replaces by the student as it goes."""
        stage = (
            min(int(progress * (self.doublings + 1)), self.doublings)
            if self.job.method.teacher_as == "stages"
            else 0
        )
        if stage == self.stage_bound:
            return
        fresh = stage > 0 and self.state.step == self._first_step(stage)
        if fresh:
            self.state.others[STAGE].load_state_dict(self.state.average.state_dict())
        teacher = self.teacher
        if self.job.method.teacher_as != "velocity":
            teacher = EulerMap(self.teacher) if stage == 0 else self.state.others[STAGE]
        stopped = self.state.average if self.job.method.stop_gradient == "ema" else None
        self.residuals = [
            objectives.bind(term.objective, term.options, teacher, stopped) for term in self.terms
        ]
        self.stage_bound = stage

    def _first_step(self, stage: int) -> int:
        steps = self.job.method.steps
        return next(
            k for k in range(steps + 1) if min(int(k / steps * (self.doublings + 1)), self.doublings) == stage
        )

    def _conditioned(self, k: int, conditions: Conditions) -> tuple[objectives.Residual, FlowMap]:
        """The objective of term `k` and the student, both at the texts of one batch: the teacher, under its guidance, reads the same ones."""
        method, empty, term = self.job.method, self.source.empty, self.terms[k]
        teacher = self.teacher and guided(conditioned(self.teacher, conditions, empty), method.guidance_scale)
        stopped = conditioned(self.state.average, conditions) if method.stop_gradient == "ema" else None
        return objectives.bind(term.objective, term.options, teacher, stopped), conditioned(
            self.state.student, conditions
        )

    def step(self) -> None:
        """One optimisation step."""
        job, state, settings = self.job, self.state, self.job.optimiser
        progress = state.step / job.method.steps
        self.bind(progress)
        x1, conditions = draw(self.source, sum(self.sizes), job.method.conditioning_dropout or 0.0, state.generator)
        batch = draw_batch(
            job.training, x1, self.source.scale, self.times, self.sizes, progress, state.generator
        )
        loss, start = 0.0, 0
        with precision.evaluating(job.training, job.device):
            for k, (term, size) in enumerate(zip(self.terms, self.sizes)):
                first, stop = self.processes.share(start, size)
                if first < stop:
                    residual, student = (
                        self._conditioned(k, conditions.part(first, stop))
                        if conditions is not None
                        else (self.residuals[k], state.student)
                    )
                    loss = loss + term.weight * residual(student, batch.part(first, stop)).sum()
                start += size
        loss = loss / start
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.processes.sum(loss.detach(), self.weights)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, settings.clip_norm)
        for group in state.optimiser.param_groups:
            group["lr"] = rate(settings, state.step, job.method.steps)
        state.optimiser.step()
        keep = memory(settings, state.step, job.method.steps)
        torch._foreach_lerp_(self.means, self.weights, 1 - keep)
        state.log[state.step, 0], state.log[state.step, 1] = loss, norm
        state.step += 1
