"""The steps from noise to an image as a scheduler of diffusers: jumps of a flow map, or Euler steps of its velocity."""

from __future__ import annotations

import torch
from torch import Tensor

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import SchedulerMixin  # isort: skip  by this name diffusers finds how a scheduler of this module is loaded
from diffusers.configuration_utils import register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerOutput

from ..flows.sampler_names import GUIDED
from .strict import Strict

KINDS = ("jumps", "euler")


def kind_of(sampler: str) -> tuple[str, float]:
    """The kind of the steps of one of fewstep's samplers, by its name, and the scale of guidance: "guided-2" takes Euler steps under 2."""
    return ("euler", float(sampler.removeprefix(GUIDED))) if sampler.startswith(GUIDED) else (sampler, 1.0)


class FlowMapScheduler(SchedulerMixin, Strict):
    """Equal steps from noise at time 0 to data at time 1, the same bits as `fewstep.samplers` of the same name.

    kind         "jumps": the network is asked for v_{s,t}, a step is X_{s,t}(x) = x + (t - s) v_{s,t}(x)
                 "euler": it is asked for the velocity b_s = v_{s,s}, a step is x + (t - s) b_s(x)
    noise_scale  the standard deviation of the noise at time 0

    Unlike the times of diffusion models these go up, from 0, and are not counted in training steps.
    """

    order = 1

    @register_to_config
    def __init__(self, kind: str = "jumps", noise_scale: float = 1.0):
        if kind not in KINDS:
            raise ValueError(
                f"FlowMapScheduler takes as `kind` {' or '.join(map(repr, KINDS))}, not {kind!r}: correct it in {self.config_name}"
            )
        self.set_timesteps(1)

    @property
    def init_noise_sigma(self) -> float:
        """What standard normal noise is multiplied by to start from."""
        return self.config.noise_scale

    def set_timesteps(self, num_inference_steps: int, device: str | torch.device | None = None) -> None:
        """Cut [0, 1] into equal steps; `timesteps`, (num_inference_steps,), are their beginnings. Raises ValueError below one step."""
        if not isinstance(num_inference_steps, int) or num_inference_steps < 1:
            raise ValueError(
                f"a student draws in a whole number of steps from 1 on, not {num_inference_steps}: change `num_inference_steps`"
            )
        self.num_inference_steps = num_inference_steps
        self.times = [k / num_inference_steps for k in range(num_inference_steps + 1)]
        self.timesteps = torch.tensor(self.times[:-1], dtype=torch.float32, device=device)

    def scale_model_input(self, sample: Tensor, timestep: Tensor | float | None = None) -> Tensor:
        """`sample` itself: these networks take points as they are."""
        return sample

    def _step_at(self, timestep: Tensor | float) -> int:
        """Which step begins at `timestep`; raises ValueError for a time at which none does."""
        found = (self.timesteps.cpu() == torch.as_tensor(timestep, dtype=torch.float32).cpu()).nonzero()
        if not len(found):
            raise ValueError(
                f"no step begins at time {float(timestep):g}: take the times from `timesteps`, after `set_timesteps`"
            )
        return int(found[0])

    def asked_at(self, timestep: Tensor | float) -> tuple[float, float]:
        """The two times (s, t) that the network is called with for the step that begins at `timestep`."""
        k = self._step_at(timestep)
        return self.times[k], self.times[k + 1 if self.config.kind == "jumps" else k]

    def step(
        self, model_output: Tensor, timestep: Tensor | float, sample: Tensor, return_dict: bool = True
    ) -> SchedulerOutput | tuple[Tensor]:
        """The point at the step's end, from the network's answer there and the point at its beginning, each (batch, ...)."""
        k = self._step_at(timestep)
        s, t = self.times[k], self.times[k + 1]
        if self.config.kind == "jumps":
            # a flow map takes its times, and their difference, in the precision of its points: so does fewstep.flows.flow_map
            span = torch.tensor(t, dtype=sample.dtype) - torch.tensor(s, dtype=sample.dtype)
        else:
            span = t - s
        moved = sample + span * model_output
        return SchedulerOutput(prev_sample=moved) if return_dict else (moved,)
