"""A small classifier of small images: its features serve where Inception's mean nothing."""

from collections.abc import Callable
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

FEATURES = 64
Network = TypeVar("Network", bound=nn.Module)


class Classifier(nn.Module):
    """Three convolutions and two linear layers on images (batch, channels, height, width) in [-1, 1]."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        channels, height, width = shape
        self.convolutions = nn.Sequential(
            nn.Conv2d(channels, 32, 3, padding=1), nn.SiLU(),
            nn.Conv2d(32, 64, 3, stride=2, padding=1), nn.SiLU(),
            nn.Conv2d(64, 64, 3, padding=1), nn.SiLU(),
        )  # fmt: skip
        self.narrow = nn.Linear(64 * ((height + 1) // 2) * ((width + 1) // 2), FEATURES)
        self.out = nn.Linear(FEATURES, classes)

    def features(self, x: Tensor) -> Tensor:
        """The last layer but one, (batch, 64): its activations separate the classes linearly."""
        return self.narrow(self.convolutions(x).flatten(1))

    def forward(self, x: Tensor) -> Tensor:
        """Logits (batch, classes)."""
        return self.out(F.silu(self.features(x)))


def _shifted(x: Tensor, generator: torch.Generator) -> Tensor:
    """Every image moved by up to one pixel each way, its edge repeated."""
    count, _, height, width = x.shape
    padded = F.pad(x, (1, 1, 1, 1), mode="replicate")
    down, right = torch.randint(0, 3, (2, count, 1), generator=generator)
    rows, columns = down + torch.arange(height), right + torch.arange(width)
    moved = padded[torch.arange(count)[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.permute(0, 3, 1, 2)


def fit(
    make: Callable[[], Network], loss_of: Callable[[Network, torch.Generator], Tensor], steps: int, seed: int,
    rate: float, tick: Callable[[int], None] | None,
) -> Network:  # fmt: skip
    """The network that `make()` draws from `seed`, trained for `steps`, frozen and in eval mode.

    It minimises `loss_of(network, generator)`, whose batch the generator draws, by Adam with a rate that
    falls linearly to zero. `tick(step)` is called every 20 steps.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = make()
    generator = torch.Generator().manual_seed(seed)
    optimiser = torch.optim.Adam(network.parameters(), lr=rate, fused=True)
    for step in range(steps):
        loss = loss_of(network, generator)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.param_groups[0]["lr"] = rate * (1 - step / steps)
        optimiser.step()
        if tick and step % 20 == 0:
            tick(step)
    return network.requires_grad_(False).eval()


def train_classifier(
    images: np.ndarray, labels: np.ndarray, steps: int, seed: int, batch: int = 128, rate: float = 2e-3,
    tick: Callable[[int], None] | None = None,
) -> Classifier:  # fmt: skip
    """A classifier trained by `fit` on images (count, channels, height, width) in [-1, 1] and `labels`."""
    x, y = torch.as_tensor(images, dtype=torch.float32), torch.as_tensor(labels, dtype=torch.int64)

    def loss_of(classifier: Classifier, generator: torch.Generator) -> Tensor:
        which = torch.randint(len(x), (batch,), generator=generator)
        return F.cross_entropy(classifier(_shifted(x[which], generator)), y[which], label_smoothing=0.05)

    return fit(lambda: Classifier(tuple(x.shape[1:]), int(y.max()) + 1), loss_of, steps, seed, rate, tick)


@torch.no_grad()
def accuracy(classifier: Classifier, images: np.ndarray, labels: np.ndarray) -> float:
    """The fraction of images (count, channels, height, width) in [-1, 1] that it classifies right."""
    found = classifier(torch.as_tensor(images, dtype=torch.float32)).argmax(1).numpy()
    return float((found == labels).mean())
