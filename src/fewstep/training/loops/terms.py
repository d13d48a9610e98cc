"""The loop of flow maps: a weighted sum of terms, each an objective on its share of every batch.

What is minimised comes from params.yaml; the loop knows no method by name.
"""

import torch
from torch import Tensor

from ... import objectives
from ...flows.conditioning import Conditions, conditioned, draw, guided
from ...flows.flow_map import EulerMap, FlowMap
from ...flows.interpolants import INTERPOLANTS, Batch
from ...flows.times import Times
from .. import precision
from ..job import Job
from ..processes import Processes
from ..state import EMA, LOSS, NORM, STUDENT, State
from . import couplings, weighting
from .update import initial_state, update_student

# the network that teaches a staged run, a copy of its EMA at the end of the stage before
STAGE = "stage"


def start(job: Job, teacher: FlowMap | None) -> State:
    """The state of a run that has not begun."""
    coupling = job.method.coupling
    columns = (couplings.DIVERGENCE,) if coupling and coupling.kind == "encoder" else ()
    state = initial_state(job, teacher if job.method.start == "teacher" else None, (LOSS, NORM, *columns))
    couplings.start(job, state)
    weighting.start(job, state)
    if job.method.teacher_as == "stages":
        state.networks[STAGE] = job.fresh().requires_grad_(False)
    return state


class Loop:
    """Terms with their shares of the batch and their laws of (s, t), and the teacher.

    The logged loss is the terms' residuals by their weights alone: what weighs single samples, and what an
    encoder of the noise costs, are left out, so that runs with and without them can be compared.
    """

    def __init__(self, job: Job, state: State, teacher: FlowMap | None, processes: Processes):
        self.job, self.state, self.teacher, self.processes = job, state, teacher, processes
        self.terms, self.source, batch = job.method.terms, job.source, job.training.batch
        self.sizes = [round(term.share * batch) for term in self.terms[:-1]]
        self.sizes.append(batch - sum(self.sizes))
        if max(self.sizes) < processes.count:
            problem = f"{processes.count} processes cannot share the samples of a batch of {batch}"
            raise ValueError(f"{problem}: lower `processes`")
        # named here, so that the laws of (s, t) count in the fingerprint, where settings do not
        self.times: list[Times] = [term.times.build() for term in self.terms]
        self.doublings = max(times.doublings for times in self.times)
        self.residuals: list[objectives.Residual] = []
        self.stage = -1
        extra = (couplings.ENCODER, weighting.LOSS_WEIGHT)
        self.beside = [name for name in extra if name in state.networks]

    def _stage(self, step: int) -> int:
        """The stage of a staged run at `step`, 0..doublings: in equal parts of the run."""
        if self.job.method.teacher_as != "stages":
            return 0
        return min(int(step / self.job.method.steps * (self.doublings + 1)), self.doublings)

    def _bind(self) -> None:
        """Bind the objectives to their teacher, which the stages of a run replace by its EMA."""
        step, networks = self.state.step, self.state.networks
        stage = self._stage(step)
        if stage == self.stage:
            return
        if stage > 0 and self._stage(step - 1) < stage:
            networks[STAGE].load_state_dict(networks[EMA].state_dict())
        teacher = self.teacher
        if self.job.method.teacher_as != "velocity":
            teacher = EulerMap(self.teacher) if stage == 0 else networks[STAGE]
        self.residuals, self.stage = [self._residual(k, teacher, None) for k in range(len(self.terms))], stage

    def _residual(self, k: int, teacher: FlowMap | None, texts: Conditions | None) -> objectives.Residual:
        """The objective of term `k` as a function of the student and the batch."""
        stopped = None
        if self.job.method.stop_gradient == "ema":
            stopped = conditioned(self.state.networks[EMA], texts)
        return objectives.bind(self.terms[k].objective, self.terms[k].options, teacher, stopped)

    def _conditioned(self, k: int, texts: Conditions) -> tuple[objectives.Residual, FlowMap]:
        """The objective of term `k` and the student, at the same texts as the teacher under its guidance."""
        teacher = self.teacher
        if teacher is not None:
            teacher = conditioned(teacher, texts, self.source.empty)
            teacher = guided(teacher, self.job.method.guidance_scale)
        return self._residual(k, teacher, texts), conditioned(self.state.networks[STUDENT], texts)

    def draw_batch(self, x1: Tensor) -> Batch:
        """One batch: the data `x1`, noise, and for each term its share of the time pairs."""
        interpolant, count = INTERPOLANTS[self.job.training.interpolant], len(x1)
        how = {"generator": self.state.generator, "device": self.state.generator.device}
        x0 = torch.randn(x1.shape, **how) * self.source.scale
        uniform = torch.rand(4, count, **how)
        z = torch.randn(x1.shape, **how) if interpolant.noisy else None
        progress, shares = self.state.step / self.job.method.steps, uniform[:3].split(self.sizes, 1)
        pairs = [times.draw(u, progress) for times, u in zip(self.times, shares)]
        s, t = (torch.cat(end) for end in zip(*pairs))
        x0, x1, z = (x if x is None else precision.laid_out(x, self.job.training) for x in (x0, x1, z))
        return Batch(x0, x1, s, t, uniform[3], interpolant, z, progress)

    def _weighted(self, k: int, residual: Tensor, part: Batch) -> Tensor:
        """The residuals (batch,) of term `k`, each by the weight that its sample has besides the term's."""
        if own := self.terms[k].adaptive:
            return weighting.adaptive(residual, own.power, own.offset)
        if self.job.method.learned_weight:
            w = self.state.networks[weighting.LOSS_WEIGHT](part.s, part.t)
            return weighting.learned(residual, w)
        return residual

    def step(self) -> None:
        """One optimisation step: the residuals of every term on its part of the batch, and one update."""
        job, state, dropped = self.job, self.state, self.job.method.conditioning_dropout or 0.0
        self._bind()
        x1, texts = draw(self.source, job.training.batch, dropped, state.generator)
        batch, loss, shown, costs, start = self.draw_batch(x1), 0.0, 0.0, [], 0
        with precision.evaluating(job.training, job.device):
            for k, (term, size) in enumerate(zip(self.terms, self.sizes)):
                first, stop = self.processes.share(start, size)
                if first < stop:
                    residual, student = self.residuals[k], state.networks[STUDENT]
                    captions = None if texts is None else texts.part(first, stop)
                    if captions is not None:
                        residual, student = self._conditioned(k, captions)
                    part, cost = couplings.couple(job, state, batch.part(first, stop), first, captions)
                    found = residual(student, part)
                    loss = loss + term.weight * self._weighted(k, found, part).sum()
                    shown = shown + term.weight * found.detach().sum()
                    costs += [] if cost is None else [cost]
                start += size
        logged = {}
        if costs:
            # in the log that of this process's share
            logged[couplings.DIVERGENCE] = torch.cat(costs).detach().mean()
            loss = loss + job.method.coupling.weight * torch.cat(costs).sum()
        count = job.training.batch
        found = update_student(job, state, self.processes, loss / count, shown / count, self.beside)
        state.record(found | logged)
