"""The loop of self-corrected flow distillation (arXiv 2412.16906): four losses, a discriminator and two averages.

One step, in the paper's order: the teacher once, for both moves; the student at z_t; the target at both moves; the
student at pure noise, and on the path to what it makes of it; the discriminator's step; the student's step; both averages.
Calls of one network that do not wait for each other are one call: the student at z_t and at z_1, the target at both
moves, the discriminator at data and at predictions where it has no gradient penalty.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ...flows.conditioning import Conditions, conditioned, draw, guided
from ...flows.flow_map import FlowMap
from ...networks.discriminator import discriminator
from ...networks.text_discriminator import TextDiscriminator
from ...objectives.scflow import losses
from ...objectives.scflow.reversed_time import Reversed, between
from ...settings.self_correction import SelfCorrection, WeightedLoss
from .. import optimisers, precision
from ..processes import Processes
from .schedules import memory, rate
from .state import LOSS, NORM, State

if TYPE_CHECKING:
    from ..job import Job

# the networks beside student and average: the target of the consistency losses, and the discriminator
TARGET, CRITIC = "target", "discriminator"
PARTS = ("consistency", "reflow", "adversarial", "bidirectional", "discriminator")


@dataclass(frozen=True)
class Draw:
    """What is random in a step: data and noise (batch, ...), the time and the two uniform numbers of the moves (batch,).

    texts  those of the data, if they come with some
    noised  the time (batch,) and the noise (batch, ...) that a discriminator of noised latents sees data and predictions at
    """

    z0: Tensor
    z1: Tensor
    t: Tensor
    u_down: Tensor
    u_up: Tensor
    texts: Conditions | None = None
    noised: tuple[Tensor, Tensor] | None = None

    def part(self, start: int, stop: int) -> Draw:
        """The samples start..stop-1."""
        own = (value[start:stop] for value in (self.z0, self.z1, self.t, self.u_down, self.u_up))
        texts = None if self.texts is None else self.texts.part(start, stop)
        noised = None if self.noised is None else tuple(value[start:stop] for value in self.noised)
        return Draw(*own, texts, noised)


def start(job: Job, teacher: FlowMap) -> State:
    """The state of a run that has not begun: student, average and target all have the teacher's weights."""
    networks = [job.fresh() for _ in range(3)]
    for network in networks:
        network.load_state_dict(teacher.state_dict())
    student, average, target = networks
    others, learning, settings = {TARGET: target.requires_grad_(False)}, {}, job.method.self_correction
    if settings.adversarial:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            own = settings.adversarial
            critic = (
                discriminator(job.source.shape, own.channels)
                if own.head is None
                else TextDiscriminator(teacher.network, own.head)
            )
            others[CRITIC] = critic.to(job.device)
        learning[CRITIC] = optimisers.build(
            "adam", others[CRITIC].parameters(), own.lr, job.optimiser.weight_decay or 0.0, own.beta1
        )
    optimiser = optimisers.build(
        job.optimiser.kind, student.parameters(), job.optimiser.lr, job.optimiser.weight_decay or 0.0
    )
    generator = torch.Generator(job.device).manual_seed(job.seed)
    columns = (LOSS, NORM, *PARTS)
    log = torch.zeros(job.method.steps, len(columns))
    return State(
        student,
        average.requires_grad_(False),
        optimiser,
        generator,
        log,
        columns,
        others=others,
        optimisers=learning,
    )


class Loop:
    """The part of a run that does not change. Several processes share out every batch, in whole samples."""

    def __init__(self, job: Job, state: State, teacher: FlowMap, processes: Processes):
        self.job, self.state, self.processes, self.source = job, state, processes, job.source
        self.settings: SelfCorrection = job.method.self_correction
        self.first, self.stop = processes.share(0, job.training.batch)
        if job.training.batch < processes.count:
            raise ValueError(
                f"{processes.count} processes cannot share a batch of {job.training.batch}: lower `processes`"
            )
        self.teacher = teacher
        self.weights = list(state.student.parameters())
        self.averages = list(state.average.parameters())
        self.targets = list(state.others[TARGET].parameters())

    def _draw(self) -> Draw:
        generator, count = self.state.generator, self.job.training.batch
        z0, texts = draw(self.source, count, self.job.method.conditioning_dropout or 0.0, generator)
        z1 = torch.randn(z0.shape, generator=generator, device=generator.device) * self.source.scale
        t, u_down, u_up = torch.rand(3, count, generator=generator, device=generator.device)
        noised = None
        if self.settings.adversarial and self.settings.adversarial.head:
            noised = (
                torch.rand(count, generator=generator, device=generator.device),
                torch.randn(z0.shape, generator=generator, device=generator.device),
            )
        z0, z1 = (precision.laid_out(z, self.job.training) for z in (z0, z1))
        return Draw(z0, z1, t, u_down, u_up, texts, noised).part(self.first, self.stop)

    def _reversed(self, texts: Conditions | None) -> tuple[Reversed, Reversed, Reversed]:
        """Teacher, under its guidance, student and target as SCFlow writes them, at the texts of a step if there are any."""
        empty = None if texts is None else self.source.empty
        teacher = guided(conditioned(self.teacher, texts, empty), self.job.method.guidance_scale)
        return Reversed(teacher), *(
            Reversed(conditioned(flow, texts)) for flow in (self.state.student, self.state.others[TARGET])
        )

    def _critic(self, draw: Draw) -> losses.Critic:
        """The discriminator, as the losses call it; one of noised latents sees data and predictions at the step's times, noise and texts."""
        critic = self.state.others[CRITIC]
        return critic if draw.noised is None else critic.at(*draw.noised, draw.texts)

    def _takes_part(self, loss: WeightedLoss | None) -> bool:
        return loss is not None and self.state.step >= loss.warmup

    def _terms(self, draw: Draw) -> tuple[dict[str, Tensor], Tensor | None]:
        """The losses of the student that take part, (batch,) each, without the adversarial one; and zhat_0, if any loss needs it."""
        settings, z0, z1, t = self.settings, draw.z0, draw.z1, draw.t
        teacher, student, target = self._reversed(draw.texts)
        move = losses.moves(teacher, between(z0, z1, t), t, draw.u_down, draw.u_up, settings.threshold)
        both_ways, from_noise = (
            self._takes_part(settings.bidirectional),
            self._takes_part(settings.reflow) or self._takes_part(settings.adversarial),
        )
        z, times = between(z0, z1, t), t
        if from_noise:
            z, times = torch.cat([z, z1]), torch.cat([t, torch.ones_like(t)])
        predicted, one_step = student.f(z, times).split([len(t), len(z) - len(t)])
        with torch.no_grad():
            if both_ways:
                down, up = target.f(
                    torch.cat([move.down, move.up]), torch.cat([move.t_down, move.t_up])
                ).chunk(2)
            else:
                down = target.f(move.down, move.t_down)
        terms = {
            "consistency": losses.truncated_consistency(
                predicted, z0, down, move.t_down, settings.truncation, settings.huber_c
            )
        }
        if both_ways:
            terms["bidirectional"] = losses.bidirectional_consistency(predicted, up, settings.huber_c)
        if self._takes_part(settings.reflow):
            terms["reflow"] = losses.reflow(student, one_step, z1, t)
        return terms, one_step if from_noise else None

    def _student_rate(self) -> float:
        return rate(self.job.optimiser, self.state.step, self.job.method.steps)

    def _judge(self, draw: Draw, one_step: Tensor) -> Tensor:
        """One step of the discriminator; returns its loss before it, (batch,)."""
        critic, optimiser, own = (
            self.state.others[CRITIC].requires_grad_(True),
            self.state.optimisers[CRITIC],
            self.settings.adversarial,
        )
        if own.schedule == "student":
            for group in optimiser.param_groups:
                group["lr"] = own.lr * self._student_rate() / self.job.optimiser.lr
        loss = losses.discriminator(self._critic(draw), draw.z0, one_step, own.r1)
        optimiser.zero_grad(set_to_none=True)
        (loss.sum() / self.job.training.batch).backward()
        self.processes.sum(loss.detach().mean(), list(critic.parameters()))
        optimiser.step()
        critic.requires_grad_(False)
        return loss.detach()

    def _student_step(self, loss: Tensor) -> tuple[Tensor, Tensor]:
        """One step of the student and of both averages; returns the loss over all processes, and the gradient's norm before clipping."""
        job, state = self.job, self.state
        state.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        loss = self.processes.sum(loss.detach(), self.weights)
        norm = torch.nn.utils.clip_grad_norm_(self.weights, job.optimiser.clip_norm)
        for group in state.optimiser.param_groups:
            group["lr"] = self._student_rate()
        state.optimiser.step()
        torch._foreach_lerp_(self.targets, self.weights, 1 - self.settings.target_ema)
        torch._foreach_lerp_(
            self.averages, self.weights, 1 - memory(job.optimiser, state.step, job.method.steps)
        )
        return loss, norm

    def step(self) -> None:
        """One optimisation step of the discriminator, where there is one, and of the student."""
        state, settings, draw = self.state, self.settings, self._draw()
        with precision.evaluating(self.job.training, self.job.device):
            terms, one_step = self._terms(draw)
        judged = None
        if self._takes_part(settings.adversarial):
            judged = self._judge(draw, one_step.float())
            terms["adversarial"] = losses.adversarial(self._critic(draw), one_step.float())
        weights = {"consistency": 1.0} | {
            name: getattr(settings, name).weight for name in terms if name != "consistency"
        }
        total = sum(weights[name] * value.sum() for name, value in terms.items()) / self.job.training.batch
        loss, norm = self._student_step(total)
        # the parts are those of this process's share
        seen = {LOSS: loss, NORM: norm, **{name: value.detach().mean() for name, value in terms.items()}}
        if judged is not None:
            seen["discriminator"] = judged.mean()
        for name, value in seen.items():
            state.log[state.step, state.columns.index(name)] = value
        state.step += 1
