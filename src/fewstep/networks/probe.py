"""A probe reads scenes back from pictures: what stands at each place, and on which background."""

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.drawn.scene_drawing import BACKGROUNDS, COLOURS, HALF, MIDDLES, SHAPES, SIDE, SIZES, Scene, Thing
from . import filled
from .classifier import fit

CELL = 4  # pixels that one cell of the features stands for, along each side
# logits of one place: nothing or a shape, a colour, a size
PARTS = (1 + len(SHAPES), len(COLOURS), len(SIZES))
TOGETHER = 250  # pictures read together
NOISE = 0.2  # the greatest standard deviation of the noise on training pictures: generated ones are not clean


class Probe(nn.Module):
    """Convolutions on pictures (batch, 3, 32, 32) in [-1, 1], and one head for the windows of all places."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(32, 48, 4, stride=2, padding=1),
            nn.SiLU(), nn.Conv2d(48, 48, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        window = 2 * HALF // CELL
        first, last = nn.Linear(48 * window * window, 96), nn.Linear(96, sum(PARTS))
        self.reader = nn.Sequential(nn.Flatten(), first, nn.SiLU(), last)
        self.background = nn.Sequential(nn.Flatten(), nn.Linear(48 * (SIDE // CELL) ** 2, len(BACKGROUNDS)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits (batch, places, ...) of nothing or a shape, colour, size; of the background (batch, 4)."""
        cells = self.convolutions(x)
        width = 2 * HALF // CELL
        corners = [((across - HALF) // CELL, (down - HALF) // CELL) for across, down in MIDDLES]
        windows = torch.cat([cells[:, :, top : top + width, left : left + width] for left, top in corners])
        read = self.reader(windows).view(len(MIDDLES), len(x), sum(PARTS)).transpose(0, 1)
        return *read.split(PARTS, 2), self.background(cells)


def targets(scenes: Sequence[Scene]) -> Tensor:
    """What a probe should read, (count, places + 1, 3), int64.

    A row is 0 or 1 + shape, colour and size, those two -1 where nothing is; the last the background, thrice.
    """
    found = np.full((len(scenes), len(MIDDLES) + 1, 3), -1, np.int64)
    found[:, :, 0] = 0
    for row, scene in zip(found, scenes):
        for thing in scene.things:
            row[thing.place] = 1 + thing.shape, thing.colour, thing.size
        row[-1] = scene.background
    return torch.from_numpy(found)


def train_probe(
    images: np.ndarray, scenes: Sequence[Scene], steps: int, seed: int, batch: int = 32, rate: float = 4e-3,
    tick: Callable[[int], None] | None = None,
) -> Probe:  # fmt: skip
    """A probe trained by `fit` on pictures (count, 3, 32, 32) in [-1, 1] of `scenes`, made noisy."""
    x, y = torch.as_tensor(images, dtype=torch.float32), targets(scenes)

    def loss_of(probe: Probe, generator: torch.Generator) -> Tensor:
        which = torch.randint(len(x), (batch,), generator=generator)
        noise = torch.randn((batch, *x.shape[1:]), generator=generator) * NOISE
        noise = noise * torch.rand((batch, 1, 1, 1), generator=generator)
        *of_places, background = probe(x[which] + noise)
        loss = F.cross_entropy(background, y[which, -1, 0])
        for part, logits in enumerate(of_places):
            wanted = y[which, :-1, part].flatten()
            loss = loss + F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=-1)
        return loss

    return fit(Probe, loss_of, steps, seed, rate, tick)


@torch.no_grad()
def read(probe: Probe, images: np.ndarray | Tensor) -> tuple[Scene, ...]:
    """The scenes in pictures (count, 3, 32, 32) in [-1, 1] by the probe, of none to five things each."""
    found = []
    for part, count in filled(torch.as_tensor(images, dtype=torch.float32), TOGETHER):
        *of_places, background = (logits.argmax(-1)[:count].tolist() for logits in probe(part))
        for ground, *rows in zip(background, *of_places):
            seen = enumerate(zip(*rows))
            things = (Thing(place, shape - 1, colour, size) for place, (shape, colour, size) in seen if shape)
            found.append(Scene(ground, tuple(things)))
    return tuple(found)
