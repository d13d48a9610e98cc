"""The loop of score identity distillation (SiD, arXiv 2404.04057): student, and the velocity of its samples.

One step: the student's samples; the second network by flow matching on them; the student, by SiD's loss with
that network and the teacher, both frozen. No data are drawn.
"""

import torch
from torch import Tensor

from ...flows.flow_map import FlowMap
from ...flows.interpolants import Batch
from ...objectives.si import si
from ...objectives.sid.losses import score_identity
from .. import optimisers, precision
from ..job import Job
from ..processes import Processes
from ..state import LOSS, NORM, STUDENT, State
from .update import initial_state, update_student

FAKE, VELOCITY = "fake", "velocity"  # the second network, and its loss in the log


def start(job: Job, teacher: FlowMap) -> State:
    """The state of a run that has not begun: student, EMA and second network have the teacher's weights."""
    state, own = initial_state(job, teacher, (LOSS, NORM, VELOCITY)), job.method.distribution_matching
    fake = job.fresh().requires_grad_(False)
    fake.load_state_dict(teacher.state_dict())
    state.networks[FAKE] = fake
    state.optimisers[FAKE] = optimisers.build("adam", fake.parameters(), own.lr, momentum=own.beta1)
    return state


class Loop:
    """Student, second network and teacher. Several processes share every batch, in whole samples."""

    def __init__(self, job: Job, state: State, teacher: FlowMap, processes: Processes):
        self.job, self.state, self.teacher, self.processes = job, state, teacher, processes
        self.first, self.stop = processes.share(0, job.training.batch)
        if (batch := job.training.batch) < (count := processes.count):
            raise ValueError(f"{count} processes cannot share a batch of {batch}: lower `processes`")

    def _draw(self) -> tuple[list[Tensor], list[Tensor]]:
        """What is random in a step: three times noise, (batch, ...), and two times t, (batch,)."""
        generator, count, source = self.state.generator, self.job.training.batch, self.job.source
        how = {"generator": generator, "device": generator.device}
        noise = [torch.randn(count, *source.shape, **how) * source.scale for _ in range(3)]
        cut = slice(self.first, self.stop)
        noise = [precision.laid_out(x[cut], self.job.training) for x in noise]
        return noise, [t[cut] for t in torch.rand(2, count, **how)]

    def _update_fake(self, x: Tensor, noise: Tensor, t: Tensor) -> Tensor:
        """One step of the second network on the samples `x`; returns its mean loss before it."""
        fake, optimiser = self.state.networks[FAKE].requires_grad_(True), self.state.optimisers[FAKE]
        with precision.evaluating(self.job.training, self.job.device):
            loss = si(fake, Batch(noise, x, t, t, t))
        optimiser.zero_grad(set_to_none=True)
        (loss.sum() / self.job.training.batch).backward()
        shown = self.processes.sum(loss.detach().mean(), self.state.weights[FAKE])
        optimiser.step()
        fake.requires_grad_(False)
        return shown

    def step(self) -> None:
        """One step of the second network, then one of the student and its EMA."""
        job, state = self.job, self.state
        (x0, beside, noise), (t_beside, t) = self._draw()
        with precision.evaluating(job.training, job.device):
            x = state.networks[STUDENT].jump(torch.zeros_like(t), torch.ones_like(t), x0)
        logged = {VELOCITY: self._update_fake(x.detach(), beside, t_beside)}
        with precision.evaluating(job.training, job.device):
            alpha = job.method.distribution_matching.alpha
            loss = score_identity(self.teacher, state.networks[FAKE], x, noise, t, alpha)
        logged |= update_student(job, state, self.processes, loss.sum() / job.training.batch)
        state.record(logged)
