r"""A flow map in one file: a teacher, its Lagrangian distillation (LMD), one-step samples, and their KL.

    python flow_map_in_one_file.py             two minutes on one core of a CPU; needs torch and nothing else

Everything is from Flow Map Matching (Boffi, Albergo, Vanden-Eijnden, arXiv 2406.07507). Noise x0 sits at time
0 and data x1 at time 1, joined by I_t = (1 - t) x0 + t x1. A flow map carries a point from time s to time t:

    X_{s,t}(x) = x + (t - s) v_{s,t}(x),            and its diagonal v_{t,t}(x) is the velocity b_t(x).

1. The teacher learns the diagonal:            E | v_{t,t}(I_t) - (x1 - x0) |^2
2. The student learns all jumps from it (LMD): E | d/dt X_{s,t}(I_s) - b_t(X_{s,t}(I_s)) |^2
"""

import argparse
import copy
import math
import time

import torch
from torch import Tensor, nn

SCALE = math.sqrt(1 / 3)  # the deviation of the noise, the same as the data's
BINS = 40  # of the histogram along an axis: the checkerboard's edges lie on edges of bins


def checkerboard(count: int, generator: torch.Generator) -> Tensor:
    """`count` points (count, 2), uniform on the eight filled squares, of side 1/2, of [-1, 1]^2."""
    corners = torch.tensor([(i, j) for i in range(4) for j in range(4) if (i + j) % 2 == 0])
    which = torch.randint(8, (count,), generator=generator)
    return (corners[which] + torch.rand(count, 2, generator=generator)) / 2 - 1


class FlowMap(nn.Module):
    """v_{s,t}(x) as a perceptron of x, s, t and a few sines; times (batch,), points (batch, 2)."""

    def __init__(self, width: int = 128, depth: int = 4):
        super().__init__()
        self.register_buffer("waves", math.pi * torch.tensor([1.0, 2.0, 4.0]))
        layers: list[nn.Module] = []
        for size in [4 + 2 * 4 * 3] + [width] * (depth - 1):
            layers += [nn.Linear(size, width), nn.SiLU()]
        self.layers = nn.Sequential(*layers, nn.Linear(width, 2))
        nn.init.zeros_(self.layers[-1].weight)  # so that an untrained map is the identity
        nn.init.zeros_(self.layers[-1].bias)

    def v(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        u = torch.cat([x, s[:, None], t[:, None]], 1)
        angles = (u[:, :, None] * self.waves).flatten(1)
        return self.layers(torch.cat([u, angles.sin(), angles.cos()], 1))

    def velocity(self, t: Tensor, x: Tensor) -> Tensor:
        return self.v(t, t, x)

    def jump(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        return x + (t - s)[:, None] * self.v(s, t, x)


def teacher_loss(model: FlowMap, x0: Tensor, x1: Tensor, t: Tensor) -> Tensor:
    """Flow matching on the diagonal, (batch,)."""
    point = (1 - t)[:, None] * x0 + t[:, None] * x1
    return (model.velocity(t, point) - (x1 - x0)).square().sum(1)


def lmd_loss(model: FlowMap, teacher: FlowMap, x0: Tensor, x1: Tensor, s: Tensor, t: Tensor) -> Tensor:
    """Lagrangian map distillation, (batch,): the end of each jump moves as the teacher says."""
    point = (1 - s)[:, None] * x0 + s[:, None] * x1
    end, d_end = torch.func.jvp(lambda u: model.jump(s, u, point), (t,), (torch.ones_like(t),))
    return (d_end - teacher.velocity(t, end)).square().sum(1)


def train(model: FlowMap, loss_of, steps: int, batch: int, seed: int, rate: float = 2e-3) -> FlowMap:
    """Adam with a rate that falls to zero; returns the running average of the weights."""
    generator = torch.Generator().manual_seed(seed)
    optimiser, average = torch.optim.Adam(model.parameters(), rate, betas=(0.9, 0.99)), copy.deepcopy(model)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = rate * min(1, (step + 1) / 100) * (1 - step / steps)
        x0 = SCALE * torch.randn(batch, 2, generator=generator)
        loss = loss_of(model, x0, checkerboard(batch, generator), generator).mean()
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 10.0)
        optimiser.step()
        with torch.no_grad():
            for mean, value in zip(average.parameters(), model.parameters()):
                mean.lerp_(value, max(1 / max(0.03 * steps, 1), 1 / (step + 1)))
    return average.requires_grad_(False)


def times(batch: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """s <= t: half of the jumps start from pure noise, where one-step samples do, half anywhere."""
    t, s = torch.rand(2, batch, generator=generator).sort(0, descending=True).values
    return torch.where(torch.arange(batch) % 2 == 0, 0.0, s), t


def euler(model: FlowMap, x: Tensor, steps: int) -> Tensor:
    """The teacher's samples: `steps` steps along its velocity, and as many network calls."""
    for k in range(steps):
        x = x + model.velocity(torch.full((len(x),), k / steps), x) / steps
    return x


def kl(points: Tensor) -> float:
    """KL(checkerboard || histogram of the points), half a point in every empty filled bin."""
    cells = ((points + 1) * BINS / 2).floor().long()
    inside = ((cells >= 0) & (cells < BINS)).all(1)
    counts = torch.bincount(cells[inside] @ torch.tensor([BINS, 1]), minlength=BINS**2).reshape(BINS, BINS)
    square = torch.arange(BINS) // (BINS // 4)
    mine = counts[(square[:, None] + square) % 2 == 0].double()
    mine = torch.where(mine == 0, 0.5, mine) / (mine.clamp(min=0.5).sum() + len(points) - mine.sum())
    return float(-(mine * len(mine)).log().mean())


def main() -> None:
    """Train both, and print the KL of samples of the teacher, of the student, and of the checkerboard."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6000, help="of the teacher; the student trains for half")
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    torch.set_num_threads(1)
    started, how = time.monotonic(), (arguments.batch, arguments.seed)

    def diagonal(model, x0, x1, generator):
        return teacher_loss(model, x0, x1, torch.rand(len(x0), generator=generator))

    def lagrangian(model, x0, x1, generator):
        return lmd_loss(model, teacher, x0, x1, *times(len(x0), generator))

    teacher = train(FlowMap(), diagonal, arguments.steps, *how)
    student = train(copy.deepcopy(teacher).requires_grad_(True), lagrangian, arguments.steps // 2, *how)
    generator = torch.Generator().manual_seed(arguments.seed + 1)
    noise = SCALE * torch.randn(64000, 2, generator=generator)
    zero, one = torch.zeros(len(noise)), torch.ones(len(noise))
    print(f"the data themselves          KL {kl(checkerboard(len(noise), generator)):.3f}")
    for steps in (1, 8, 64):
        print(f"teacher, {steps:2} network calls    KL {kl(euler(teacher, noise, steps)):.3f}")
    print(f"student,  1 network call     KL {kl(student.jump(zero, one, noise)):.3f}")
    print(f"{time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    main()
