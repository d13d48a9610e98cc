"""The scheduler steps as the samplers do, and takes no setting that it does not know."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from fewstep.flows import samplers
from fewstep.flows.flow_map import NetworkFlowMap
from fewstep.release import FewStepPipeline, FlowMapScheduler, seeded

from .students import PIXELS


class Curved(nn.Module):
    """A network with no symmetry between its times."""

    def forward(self, s, t, x):
        return torch.sin(3 * x) + (s + 2 * t * t)[:, None]


@pytest.mark.parametrize("kind", ["jumps", "euler"])
@pytest.mark.parametrize("steps", [1, 3, 7])
def test_the_scheduler_steps_as_the_sampler_of_its_name(kind, steps):
    start, network, scheduler = (
        torch.randn(50, 3, generator=torch.Generator().manual_seed(0)),
        Curved(),
        FlowMapScheduler(kind, 0.4),
    )
    scheduler.set_timesteps(steps, "cpu")
    x = start
    for timestep in scheduler.timesteps:
        s, t = (torch.full((50,), time) for time in scheduler.asked_at(timestep))
        x = scheduler.step(network(s, t, scheduler.scale_model_input(x, timestep)), timestep, x).prev_sample
    expected = samplers.SAMPLERS[kind](NetworkFlowMap(network), start, steps)
    assert (
        torch.equal(x, expected.points)
        and expected.nfe == len(scheduler.timesteps) == scheduler.num_inference_steps
    )
    assert scheduler.init_noise_sigma == 0.4 and scheduler.timesteps[0] == 0
    assert isinstance(scheduler.step(x, 0.0, x, return_dict=False), tuple)


def test_a_time_at_which_no_step_begins_is_refused():
    scheduler = FlowMapScheduler()
    scheduler.set_timesteps(4)
    with pytest.raises(ValueError, match="no step begins at time 0.3: take the times from `timesteps`"):
        scheduler.step(torch.zeros(1), 0.3, torch.zeros(1))
    with pytest.raises(ValueError, match="from 1 on, not 0"):
        scheduler.set_timesteps(0)


def test_a_scheduler_is_stored_and_found_again_and_unknown_settings_are_refused(tmp_path):
    scale = 0.7234567890123456
    FlowMapScheduler("euler", scale).save_pretrained(tmp_path)
    found = FlowMapScheduler.from_pretrained(tmp_path)
    assert (found.config.kind, found.init_noise_sigma) == ("euler", scale)
    with pytest.raises(
        ValueError,
        match="FlowMapScheduler has no setting 'beta_start'; it has kind, noise_scale: remove it, or correct its spelling in scheduler_config.json",
    ):
        FlowMapScheduler.from_config(dict(found.config) | {"beta_start": 0.1})
    with pytest.raises(ValueError, match="takes as `kind` 'jumps' or 'euler', not 'heun'"):
        FlowMapScheduler(kind="heun")


def test_another_scheduler_may_take_the_place_of_a_students_own(students, pipe):
    other = FewStepPipeline.from_pretrained(
        students[PIXELS, "lsd"], scheduler=FlowMapScheduler("euler", pipe.scheduler.init_noise_sigma)
    )
    assert other.scheduler.config.kind == "euler"
    drawn = [
        one(num_inference_steps=2, batch_size=4, generator=seeded(0), output_type="uint8").images
        for one in (pipe, other)
    ]
    assert not np.array_equal(*drawn)
