"""The loop of self-corrected flow distillation (arXiv 2412.16906): four losses, a discriminator, a target.

One step, in the paper's order: the teacher once, for both moves; the student at z_t; the target at both
moves; the student at pure noise, and on the path to its one-step sample; the discriminator's update; the
student's. Calls of one network that do not wait for each other are one call.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...flows.conditioning import Conditions, conditioned, draw, guided
from ...flows.flow_map import FlowMap
from ...networks.discriminator import Discriminator, TextDiscriminator
from ...objectives.scflow import losses
from ...objectives.scflow.reversed_time import Reversed, between
from ...settings.training import WeightedLoss
from .. import optimisers, precision
from ..job import Job
from ..processes import Processes
from ..state import LOSS, NORM, STUDENT, State
from .update import initial_state, learning_rate, update_student

TARGET, DISCRIMINATOR = "target", "discriminator"
PARTS = ("consistency", "reflow", "adversarial", "bidirectional", "discriminator")


@dataclass(frozen=True)
class Draw:
    """What is random in a step: data and noise (batch, ...), time and the moves' uniform numbers (batch,).

    texts   those of the data, if they have some
    noised  the time (batch,) and noise (batch, ...) of a discriminator of noised latents; that of the
            student's update comes last, where it has noise of its own
    """

    z0: Tensor
    z1: Tensor
    t: Tensor
    u_down: Tensor
    u_up: Tensor
    texts: Conditions | None = None
    noised: tuple[Tensor, ...] | None = None

    def part(self, start: int, stop: int) -> Draw:
        values = (value[start:stop] for value in (self.z0, self.z1, self.t, self.u_down, self.u_up))
        texts = None if self.texts is None else self.texts.part(start, stop)
        noised = None if self.noised is None else tuple(value[start:stop] for value in self.noised)
        return Draw(*values, texts, noised)


def start(job: Job, teacher: FlowMap) -> State:
    """The state of a run that has not begun: student, EMA and target all have the teacher's weights."""
    state = initial_state(job, teacher, (LOSS, NORM, *PARTS))
    settings, decay = job.method.self_correction.adversarial, job.optimiser.weight_decay or 0.0
    target = job.fresh().requires_grad_(False)
    target.load_state_dict(teacher.state_dict())
    state.networks[TARGET] = target
    if settings:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(job.seed)
            if settings.head is None:
                network = Discriminator(job.source.shape, settings.channels)
            else:
                shape = job.source.shape if settings.released else None
                network = TextDiscriminator(teacher.network, settings.head, shape)
        state.networks[DISCRIMINATOR] = network.to(job.device)
        optimiser = optimisers.build("adam", network.parameters(), settings.lr, decay, settings.beta1)
        if settings.beta2 is not None:
            for group in optimiser.param_groups:
                group["betas"] = (settings.beta1, settings.beta2)
        state.optimisers[DISCRIMINATOR] = optimiser
    return state


class Loop:
    """Student, target, discriminator and teacher. Several processes share every batch, in whole samples."""

    def __init__(self, job: Job, state: State, teacher: FlowMap, processes: Processes):
        self.job, self.state, self.teacher, self.processes = job, state, teacher, processes
        self.source, self.settings = job.source, job.method.self_correction
        self.first, self.stop = processes.share(0, job.training.batch)
        if (batch := job.training.batch) < (count := processes.count):
            raise ValueError(f"{count} processes cannot share a batch of {batch}: lower `processes`")

    def _draw(self) -> Draw:
        generator, count, noised = self.state.generator, self.job.training.batch, None
        how = {"generator": generator, "device": generator.device}
        z0, texts = draw(self.source, count, self.job.method.conditioning_dropout or 0.0, generator)
        z1 = torch.randn(z0.shape, **how) * self.source.scale
        t, u_down, u_up = torch.rand(3, count, **how)
        if self.settings.adversarial and self.settings.adversarial.head:
            noised = torch.rand(count, **how), torch.randn(z0.shape, **how)
            if self.settings.adversarial.released:
                noised = *noised, torch.randn(z0.shape, **how)
        z0, z1 = (precision.laid_out(z, self.job.training) for z in (z0, z1))
        return Draw(z0, z1, self._level(t), u_down, u_up, texts, noised).part(self.first, self.stop)

    def _level(self, t: Tensor) -> Tensor:
        """Times (batch,) rounded down to those that a network is told."""
        levels = self.settings.time_levels
        return t if levels is None else (t * levels).floor() / levels

    def _reversed(self, texts: Conditions | None) -> tuple[Reversed, Reversed, Reversed]:
        """Teacher, under its guidance, student and target in SCFlow's time, conditioned on any `texts`."""
        empty = None if texts is None else self.source.empty
        teacher = guided(conditioned(self.teacher, texts, empty), self.job.method.guidance_scale)
        student, target = (conditioned(self.state.networks[name], texts) for name in (STUDENT, TARGET))
        return Reversed(teacher), Reversed(student), Reversed(target)

    def _discriminator(self, draw: Draw, judges: bool = False) -> losses.Critic:
        """D as the losses call it, while it learns or `judges` the student.

        One of noised latents sees them at the step's times, noise and texts.
        """
        network = self.state.networks[DISCRIMINATOR]
        if draw.noised is None:
            return network
        times, *noise = draw.noised
        return network.at(times, noise[-1 if judges else 0], draw.texts)

    def _is_active(self, loss: WeightedLoss | None) -> bool:
        return loss is not None and self.state.step >= loss.warmup

    def _losses(self, draw: Draw) -> tuple[dict[str, Tensor], Tensor | None, Tensor]:
        """The student's active losses but the adversarial one, (batch,) each, zhat_0, if needed, and t'.

        t' (batch,) are the times of the moves towards the data, as the target is told them.
        """
        settings, z0, z1, t = self.settings, draw.z0, draw.z1, draw.t
        teacher, student, target = self._reversed(draw.texts)
        move = losses.moves(teacher, between(z0, z1, t), t, draw.u_down, draw.u_up, settings.threshold)
        both_ways, reflow = self._is_active(settings.bidirectional), self._is_active(settings.reflow)
        from_noise = reflow or self._is_active(settings.adversarial)
        z, times = between(z0, z1, t), t
        if from_noise:
            z, times = torch.cat([z, z1]), torch.cat([t, torch.ones_like(t)])
        predicted, one_step = student.f(z, times).split([len(t), len(z) - len(t)])
        moved = self._level(move.t_down)
        with torch.no_grad():
            if both_ways:
                ends, end_times = torch.cat([move.down, move.up]), torch.cat([moved, self._level(move.t_up)])
                down, up = target.f(ends, end_times).chunk(2)
            else:
                down = target.f(move.down, moved)
        at, huber_c, terms = (move.t_down, settings.truncation), settings.huber_c, {}
        terms["consistency"] = losses.truncated_consistency(predicted, z0, down, *at, huber_c)
        if both_ways:
            terms["bidirectional"] = losses.bidirectional_consistency(predicted, up, huber_c)
        if reflow:
            terms["reflow"] = losses.reflow(student, one_step, z1, t)
        return terms, one_step if from_noise else None, moved

    def _update_discriminator(self, draw: Draw, one_step: Tensor) -> Tensor:
        """One step of the discriminator; returns its loss before it, (batch,)."""
        job, settings = self.job, self.settings.adversarial
        network = self.state.networks[DISCRIMINATOR].requires_grad_(True)
        optimiser = self.state.optimisers[DISCRIMINATOR]
        if settings.schedule == "student":
            student_rate = learning_rate(job.optimiser, self.state.step, job.method.steps)
            for group in optimiser.param_groups:
                group["lr"] = settings.lr * student_rate / job.optimiser.lr
        loss = losses.discriminator(self._discriminator(draw), draw.z0, one_step, settings.r1)
        optimiser.zero_grad(set_to_none=True)
        (loss.sum() / job.training.batch).backward()
        self.processes.sum(loss.detach().mean(), self.state.weights[DISCRIMINATOR])
        optimiser.step()
        network.requires_grad_(False)
        return loss.detach()

    def step(self) -> None:
        """One step of the discriminator, where there is one, of the student, its target and its EMA."""
        job, state, settings, draw = self.job, self.state, self.settings, self._draw()
        logged = {}
        with precision.evaluating(job.training, job.device):
            terms, one_step, moved = self._losses(draw)
        if self._is_active(settings.adversarial):
            if settings.adversarial.released:
                draw = replace(draw, noised=(moved, *draw.noised[1:]))
            one_step = one_step.float()
            logged["discriminator"] = self._update_discriminator(draw, one_step).mean()
            critic = self._discriminator(draw, judges=True)
            terms["adversarial"] = losses.adversarial(critic, one_step)
        weight = {name: getattr(settings, name).weight for name in terms if name != "consistency"}
        parts = (weight.get(name, 1.0) * value.sum() for name, value in terms.items())
        total = sum(parts) / job.training.batch
        # the parts in the log are those of this process's share
        logged |= {name: value.detach().mean() for name, value in terms.items()}
        logged |= update_student(job, state, self.processes, total)
        torch._foreach_lerp_(state.weights[TARGET], state.weights[STUDENT], 1 - settings.target_ema)
        state.record(logged)
