"""How often a training step calls a network: counted while one step is made, and not said by hand."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from ..flows.flow_map import FlowMap
from ..networks import load_flow_map
from . import loops, precision
from .job import Job
from .processes import Processes

# by which every evaluation of a flow map's network goes: the first plainly, the second with a derivative
PLAIN, FORWARD_MODE = "average_velocity", "average_velocity_pushforward"


@dataclass
class Calls:
    """Samples that networks were evaluated at, plainly and with a derivative in forward mode."""

    plain: int = 0
    forward_mode: int = 0
    # inside a pass in forward mode, which may evaluate the same network plainly
    inside: bool = False

    def watch(self, flow_map: FlowMap) -> None:
        """Count what is asked of `flow_map` from now on."""
        plain, forward_mode = getattr(flow_map, PLAIN), getattr(flow_map, FORWARD_MODE)

        def counted(s: Tensor, t: Tensor, x: Tensor) -> Tensor:
            if not self.inside:
                self.plain += len(x)
            found: Tensor = plain(s, t, x)
            return found

        def counted_forward_mode(s: Tensor, t: Tensor, x: Tensor, *direction: Any) -> Any:
            self.forward_mode += len(x)
            self.inside = True
            try:
                return forward_mode(s, t, x, *direction)
            finally:
                self.inside = False

        named: dict[str, Callable] = {PLAIN: counted, FORWARD_MODE: counted_forward_mode}
        for name, function in named.items():
            object.__setattr__(flow_map, name, function)


def calls_a_step(job: Job) -> tuple[float, float]:
    """Network calls in a training step for each sample of its batch: all, and those with a derivative.

    Counted in the job's first step: the student's, its average's and the teacher's. A discriminator is no
    flow map and does not count. Raises FileNotFoundError before the teacher is trained.
    """
    with precision.one_thread(), precision.products(job.training):
        teacher = None
        if job.teacher:
            teacher = precision.prepared(load_flow_map(job.teacher, job.device), job.training)
        loop_of = loops.load(job.method.loop)
        state, calls = loop_of.start(job, teacher), Calls()
        for network in (*state.networks.values(), teacher):
            if isinstance(network, FlowMap):
                calls.watch(network)
        loop_of.Loop(job, state, teacher, Processes()).step()
    return (calls.plain + calls.forward_mode) / job.training.batch, calls.forward_mode / job.training.batch
