"""What a step of self-corrected distillation costs, against the forward and backward passes that it consists
of.

    make bench

The student UNet of the laptop tier on 4 x 8 x 8 latents, batch 64, one core; all four losses take part.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from fewstep.settings.networks import UNetSettings
from fewstep.settings.training import Method, Optimiser, Training
from fewstep.training.job import Job
from fewstep.training.loops import scflow
from fewstep.training.processes import Processes

BATCH, SHAPE, ROUNDS = 64, (4, 8, 8), 9
CONDITIONAL = {
    "threshold": 0.1, "truncation": 0.4, "reflow": {"weight": 0.1}, "bidirectional": {"weight": 0.1},
    "adversarial": {"weight": 0.1, "lr": 1e-3, "r1": 1.0, "channels": [24, 24]},
}  # fmt: skip


class Noise:
    """Latents that are noise: what is in them costs nothing."""

    shape, scale = SHAPE, 1.0

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        return torch.randn(count, *SHAPE, generator=generator)


class Timed(Job):
    source = Noise()


def job() -> Timed:
    network = UNetSettings(
        kind="unet", channels=[16, 32], layers=1, attention=[False, False], groups=8, time_scale=10.0
    )
    optimiser = Optimiser(kind="adam", lr=1e-3, schedule="linear", warmup=0.0, clip_norm=1.0, ema=0.05)
    training = Training(
        data="digits", interpolant="linear", network=network, optimiser=optimiser, batch=BATCH, seeds=[0]
    )
    method = Method(label="SCFlow", steps=10_000, teacher="si", start="teacher", self_correction=CONDITIONAL)
    return Timed(training, method, 0, Path())


def passes(state) -> dict[str, Callable[[], None]]:
    """The forward and backward passes of one step, each by itself."""
    z, both, one = torch.randn(BATCH, *SHAPE), torch.randn(2 * BATCH, *SHAPE), torch.rand(BATCH)
    two, critic = torch.cat([one, one]), state.networks["discriminator"].requires_grad_(True)

    def judged() -> None:
        real = z.clone().requires_grad_()
        score = critic(real)
        (slope,) = torch.autograd.grad(score.sum(), real, create_graph=True)
        (score.mean() - critic(z).mean() + slope.square().mean()).backward()

    def fooled() -> None:
        critic.requires_grad_(False)(both[:BATCH].clone().requires_grad_()).mean().backward()
        critic.requires_grad_(True)

    @torch.no_grad()
    def forward(flow_map, time, x) -> None:
        flow_map.velocity(time, x)

    return {
        "teacher, forward": lambda: forward(state.networks["ema"], one, z),
        "target at both moves, forward": lambda: forward(state.networks["ema"], two, both),
        "student at z_t and z_1, forward and backward": lambda: (
            state.networks["student"].velocity(two, both).square().mean().backward()
        ),
        "student on its path, forward and backward": lambda: (
            state.networks["student"].velocity(one, z).square().mean().backward()
        ),
        "discriminator's step with R1": judged,
        "generator's loss through the discriminator": fooled,
    }


def main() -> None:
    torch.set_num_threads(1)
    teacher = job().fresh().requires_grad_(False)
    loop = scflow.Loop(job(), scflow.start(job(), teacher), teacher, Processes())
    work = {"whole step": loop.step} | passes(scflow.start(job(), teacher))
    seen: dict[str, list[float]] = {name: [] for name in work}
    for k in range(ROUNDS + 1):
        for name, call in work.items():
            start = time.perf_counter()
            call()
            if k:
                seen[name].append(1e3 * (time.perf_counter() - start))
    ms = {name: statistics.median(times) for name, times in seen.items()}
    print(f"\nSCFlow step, UNet (16, 32) on {SHAPE} latents, batch {BATCH}, one core, median of {ROUNDS}")
    for name, value in ms.items():
        print(f"  {name:46} {value:7.1f} ms")
    parts = sum(value for name, value in ms.items() if name != "whole step")
    print(f"  the step costs {ms['whole step'] / parts:.2f} of the sum of its passes")


if __name__ == "__main__":
    main()
