"""How a method couples noise and data: independently, by its own averaged map, or by an encoder beside it."""

from functools import partial

from torch import Tensor

from ...flows.conditioning import Conditions, conditioned
from ...flows.couplings import divergence, encoded, regenerated, spread
from ...flows.interpolants import Batch
from ...networks.noise_encoder import NoiseEncoder
from ..job import Job
from ..state import EMA, State
from .update import add_network

ENCODER = "encoder"
# the logged divergence of an encoder's noise from N(0, scale^2), a mean over samples
DIVERGENCE = "divergence"


def start(job: Job, state: State) -> None:
    """Add the encoder to the state of a run that has not begun, if its method asks for one."""
    if job.method.coupling and job.method.coupling.kind == "encoder":
        add_network(job, state, ENCODER, partial(NoiseEncoder, job.source.shape))


def couple(
    job: Job, state: State, batch: Batch, first: int, texts: Conditions | None
) -> tuple[Batch, Tensor | None]:
    """`batch`, whose first sample is the one at `first` of the step's, coupled as the method says.

    With an encoder also the divergence of its noise, (batch,). `texts` are the captions of the samples.
    """
    coupling = job.method.coupling
    if coupling is None:
        return batch, None
    if coupling.kind == "encoder":
        mean, log_variance = state.networks[ENCODER](batch.x1)
        return encoded(batch, mean, log_variance, job.source.scale), divergence(mean, log_variance)
    rows = spread(first, len(batch.s), coupling.share).to(batch.s.device)
    own = None if texts is None else Conditions(texts.hidden[rows], texts.mask[rows])
    return regenerated(batch, rows, conditioned(state.networks[EMA], own)), None
