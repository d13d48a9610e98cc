"""The steps through diffusers' scheduler are those of the samplers, up to rounding."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, FlowMapEulerDiscreteScheduler
from torch import nn

from fewstep.flows import samplers
from fewstep.flows.flow_map import NetworkFlowMap
from fewstep.release import FewStepPipeline, seeded

from .students import PIXELS, STUDENTS, TEXTS

# of the points' scale: the scheduler computes in float64 and rounds once, the samplers compute in float32
TOLERANCE = 1e-6


class Curved(nn.Module):
    """A network with no symmetry between its times."""

    def forward(self, s, t, x):
        return torch.sin(3 * x) + (s + 2 * t * t)[:, None]


def assert_close(points: torch.Tensor, expected: torch.Tensor) -> None:
    assert points.dtype == expected.dtype == torch.float32
    assert (points - expected).abs().max() <= TOLERANCE * expected.abs().max()


@pytest.mark.parametrize("sampler", ["jumps", "euler"])
@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8])
def test_the_scheduler_steps_as_the_sampler_of_that_name(sampler, steps):
    start, calls = torch.randn(50, 3, generator=torch.Generator().manual_seed(0)), []

    def flow_map(s, t, x, *_):
        calls.append((s[0].item(), t[0].item()))
        return Curved()(s, t, x)

    flow_map.config = SimpleNamespace(sampler=sampler)
    pipe = SimpleNamespace(flow_map=flow_map, scheduler=FlowMapEulerDiscreteScheduler())
    points = FewStepPipeline._steps(pipe, start, steps, None, None, 1.0)
    expected = samplers.SAMPLERS[sampler](NetworkFlowMap(Curved()), start, steps)
    assert_close(points, expected.points)
    assert len(calls) == expected.nfe == steps
    ahead = 1 / steps if sampler == "jumps" else 0
    assert np.allclose(calls, [(k / steps, k / steps + ahead) for k in range(steps)], atol=1e-7)
    # the other sampler's points are no rounding away
    other = samplers.SAMPLERS["euler" if sampler == "jumps" else "jumps"](
        NetworkFlowMap(Curved()), start, steps
    )
    assert (points - other.points).abs().max() > 100 * TOLERANCE


@pytest.mark.parametrize("student", [pair for pair in STUDENTS if pair[0] != TEXTS])
def test_a_saved_student_reaches_the_points_of_the_samplers(students, student):
    pipe = FewStepPipeline.from_pretrained(students[student])
    own = pipe.flow_map.config
    assert own.sampler == ("euler" if "si" in student or "scflow" in student else "jumps")
    noise = own.noise_scale * torch.randn(6, *own.shape, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        for steps in (1, 2, 4, 8):
            points = pipe._steps(noise, steps, None, None, 1.0)
            assert_close(points, samplers.SAMPLERS[own.sampler](pipe.flow_map.flow_map, noise, steps).points)


def test_another_schedule_may_take_the_place_of_a_students_own_and_no_other_scheduler(students, pipe):
    shifted = FlowMapEulerDiscreteScheduler(shift=3.0)
    other = FewStepPipeline.from_pretrained(students[PIXELS, "lsd"], scheduler=shifted)
    assert other.scheduler is shifted
    drawn = [
        one(num_inference_steps=2, batch_size=4, generator=seeded(0), output_type="uint8").images
        for one in (pipe, other)
    ]
    assert not np.array_equal(*drawn)
    with pytest.raises(ValueError, match="takes a FlowMapEulerDiscreteScheduler, and no DDIMScheduler"):
        FewStepPipeline.from_pretrained(students[PIXELS, "lsd"], scheduler=DDIMScheduler())
