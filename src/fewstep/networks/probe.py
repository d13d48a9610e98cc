"""A small network that reads scenes back from pictures: what stands at each place, and on which background.

It is a measure and no model under test: it is trained on scenes of all pairs of colour and shape.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..data.drawn.scene_drawing import BACKGROUNDS, COLOURS, HALF, MIDDLES, SHAPES, SIDE, SIZES, Scene, Thing
from .fit import fit

# pixels that one cell of the features stands for, along each side
CELL = 4
# logits of one place: nothing or a shape, a colour, a size
PARTS = (1 + len(SHAPES), len(COLOURS), len(SIZES))
# pictures read together: always the same number, as in fewstep.networks.autoencoder
TOGETHER = 250
# the greatest standard deviation of the noise that pictures of a training get, in units of [-1, 1]: generated ones are not clean
NOISE = 0.2


class Probe(nn.Module):
    """Convolutions on pictures (batch, 3, 32, 32) in [-1, 1], and one reader for all places, each in a window of its own."""

    def __init__(self):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv2d(3, 32, 4, stride=2, padding=1), nn.SiLU(), nn.Conv2d(32, 48, 4, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(48, 48, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        window = 2 * HALF // CELL
        self.reader = nn.Sequential(
            nn.Flatten(), nn.Linear(48 * window * window, 96), nn.SiLU(), nn.Linear(96, sum(PARTS))
        )
        self.background = nn.Sequential(nn.Flatten(), nn.Linear(48 * (SIDE // CELL) ** 2, len(BACKGROUNDS)))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Logits: nothing or which shape (batch, places, 6), colour (batch, places, 6), size (batch, places, 2); background (batch, 4)."""
        cells = self.convolutions(x)
        windows = []
        for across, down in MIDDLES:
            left, top = (across - HALF) // CELL, (down - HALF) // CELL
            windows.append(cells[:, :, top : top + 2 * HALF // CELL, left : left + 2 * HALF // CELL])
        read = self.reader(torch.cat(windows)).view(len(MIDDLES), len(x), sum(PARTS)).transpose(0, 1)
        return *read.split(PARTS, 2), self.background(cells)


def targets(scenes: Sequence[Scene]) -> Tensor:
    """What a probe should read, (count, places + 1, 3), int64: 0 or 1 + shape, colour, size, those two -1 where nothing is; last the background thrice."""
    found = np.full((len(scenes), len(MIDDLES) + 1, 3), -1, np.int64)
    found[:, :, 0] = 0
    for row, scene in zip(found, scenes):
        for thing in scene.things:
            row[thing.place] = 1 + thing.shape, thing.colour, thing.size
        row[-1] = scene.background
    return torch.from_numpy(found)


def _loss(probe: Probe, images: Tensor, wanted: Tensor) -> Tensor:
    """Cross entropies of what is at each place, of the background, and of the colours and sizes of what there is."""
    *of_places, background = probe(images)
    loss = F.cross_entropy(background, wanted[:, -1, 0])
    for part, logits in enumerate(of_places):
        loss = loss + F.cross_entropy(logits.flatten(0, 1), wanted[:, :-1, part].flatten(), ignore_index=-1)
    return loss


def train_probe(
    images: np.ndarray,
    scenes: Sequence[Scene],
    steps: int,
    seed: int,
    batch: int = 32,
    rate: float = 4e-3,
    tick: Callable[[int], None] | None = None,
) -> Probe:
    """A probe trained for `steps` on pictures (count, 3, 32, 32) in [-1, 1] of `scenes`, made noisy.

    Adam with a rate that falls to zero along a straight line. `tick(step)` is called now and then. Raises ValueError
    unless there is one scene a picture.
    """
    if len(images) != len(scenes) or not len(scenes):
        raise ValueError(
            f"a probe needs one scene a picture: there are {len(scenes)} scenes and {len(images)} pictures"
        )
    x, y = torch.as_tensor(images, dtype=torch.float32), targets(scenes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        probe = Probe()

    def loss_of(generator: torch.Generator) -> Tensor:
        which = torch.randint(len(x), (batch,), generator=generator)
        noise = (
            torch.randn((batch, *x.shape[1:]), generator=generator)
            * NOISE
            * torch.rand((batch, 1, 1, 1), generator=generator)
        )
        return _loss(probe, x[which] + noise, y[which])

    fit(probe, loss_of, steps, seed, rate, tick)
    return probe


@torch.no_grad()
def read(probe: Probe, images: np.ndarray | Tensor) -> tuple[Scene, ...]:
    """The scenes that the probe sees in pictures (count, 3, 32, 32) in [-1, 1], of none to five things each."""
    found = []
    for part in torch.as_tensor(images, dtype=torch.float32).split(TOGETHER):
        filled = torch.cat([part, part.new_zeros(TOGETHER - len(part), *part.shape[1:])])
        shapes, colours, sizes, background = (
            logits.argmax(-1)[: len(part)].tolist() for logits in probe(filled)
        )
        for row in zip(background, shapes, colours, sizes):
            things = tuple(
                Thing(place, shape - 1, colour, size)
                for place, (shape, colour, size) in enumerate(zip(*row[1:]))
                if shape
            )
            found.append(Scene(row[0], things))
    return tuple(found)
