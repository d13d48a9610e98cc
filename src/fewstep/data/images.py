"""Images held as whole numbers: drawn in [-1, 1], flipped, scaled; opened when they are first needed and not before."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt

import numpy as np
import torch
from torch import Tensor

# A set up to this size is copied to a CUDA device once; a larger one is indexed in main memory, batch by batch.
HOLD_BYTES = 8 * 2**30
# Pixels read at a time where the whole set is gone through: a memory-mapped set may be larger than memory.
BLOCK_PIXELS = 2**22


@dataclass(frozen=True, eq=False)
class Images:
    """Equally likely images, a `DataSource`; the level 0 is drawn as -1 and the level `top` as 1.

    `pixels` is uint8, (images, channels, height, width), in memory or memory-mapped. `flip` mirrors half of
    what is drawn, left to right. Raises ValueError for pixels of another type or shape, or none at all.
    """

    pixels: np.ndarray
    name: str
    flip: bool
    top: int = 255

    def __post_init__(self) -> None:
        if self.pixels.dtype != np.uint8 or self.pixels.ndim != 4 or not self.pixels.size:
            raise ValueError(
                f"the pixels of '{self.name}' are {self.pixels.dtype} of shape {self.pixels.shape}: "
                "give uint8 of shape (images, channels, height, width), with one image at least"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one image, (channels, height, width)."""
        return self.pixels.shape[1:]

    def _blocks(self) -> Iterator[np.ndarray]:
        size = max(BLOCK_PIXELS // prod(self.shape), 1)
        return (np.asarray(self.pixels[k : k + size]) for k in range(0, len(self.pixels), size))

    @cached_property
    def scale(self) -> float:
        """The standard deviation of all pixels together, about their common mean, in units of [-1, 1].

        The follow-up scales its Gaussian base to it (arXiv 2505.18825). Summed in whole numbers, so exact.
        """
        levels, counts = np.arange(256), np.zeros(256, dtype=np.int64)
        for block in self._blocks():
            counts += np.bincount(block.ravel(), minlength=256)
        # Python's integers: count * sum of squares passes 2^63 for a large set
        count, first, second = (int((counts * levels**power).sum()) for power in (0, 1, 2))
        return sqrt(count * second - first**2) / count / (self.top / 2)

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}

    def _held(self, device: torch.device) -> Tensor:
        """The whole set on `device`, copied there once."""
        if device not in self._copies:
            # a read-only memory map cannot be wrapped in a tensor: torch would let it be written to
            parts = [torch.from_numpy(np.array(block)).to(device) for block in self._blocks()]
            self._copies[device] = torch.cat(parts)
        return self._copies[device]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` images drawn with replacement, (count, channels, height, width), float32 in [-1, 1], on the generator's device.

        Nothing but `generator` decides what is drawn: equal states give equal bits on one kind of device.
        """
        device = generator.device
        which = torch.randint(len(self.pixels), (count,), generator=generator, device=device)
        if device.type == "cuda" and self.pixels.nbytes <= HOLD_BYTES:
            drawn = self._held(device)[which]
        else:
            drawn = torch.from_numpy(np.asarray(self.pixels[which.cpu().numpy()])).to(device)
        if self.flip:
            mirrored = torch.rand(count, generator=generator, device=device) < 0.5
            drawn = torch.where(mirrored[:, None, None, None], drawn.flip(-1), drawn)
        return to_signed(drawn, self.top)

    def to_uint8(self, x: Tensor) -> Tensor:
        """The nearest levels 0..top of images in [-1, 1], uint8, same shape; what lies outside is clamped.

        Raises ValueError for NaN, which has no nearest level.
        """
        if x.isnan().any():
            raise ValueError(
                f"images of '{self.name}' hold NaN, which is no pixel: look for a training or sampling that diverged"
            )
        return ((x + 1) * (self.top / 2)).round().clamp(0, self.top).to(torch.uint8)


def to_signed(pixels: Tensor, top: int = 255) -> Tensor:
    """Levels 0..top as float32 in [-1, 1], both ends exact; same shape."""
    # a true division: a product with the rounded 2/top, which CUDA makes of a division by a number, can miss 1 by a bit
    return pixels.to(torch.float32) / torch.full((), top / 2, device=pixels.device) - 1


@dataclass(frozen=True, eq=False)
class ImagesOnFirstUse:
    """`Images` of a known shape whose pixels `read` fetches at the first draw, so that naming a data set opens no file.

    What `read` raises comes through. Raises ValueError when the images read are not of the given shape.
    """

    name: str
    shape: tuple[int, int, int]
    flip: bool
    read: Callable[[], np.ndarray]
    top: int = 255

    @cached_property
    def images(self) -> Images:
        """The images, read now if they have not been."""
        images = Images(self.read(), self.name, self.flip, self.top)
        if images.shape != self.shape:
            raise ValueError(
                f"images of '{self.name}' are of shape {images.shape} instead of {self.shape}: restore the published files"
            )
        return images

    @property
    def scale(self) -> float:
        """As `Images.scale`."""
        return self.images.scale

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """As `Images.sample`."""
        return self.images.sample(count, generator)

    def to_uint8(self, x: Tensor) -> Tensor:
        """As `Images.to_uint8`."""
        return self.images.to_uint8(x)


def split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and indices held out, both ascending: `fraction` of every class, to the nearest whole number, is held out.

    `labels` is (count,). The arguments alone decide. Raises ValueError when a class would be missing from either side.
    """
    labels, generator, held = np.asarray(labels), np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        count = round(fraction * len(members))
        if not 0 < count < len(members):
            raise ValueError(
                f"holding out {fraction} of the {len(members)} images of class {label} leaves one side without that class: "
                "choose a fraction further from 0 and 1, or give more images"
            )
        held.append(generator.permutation(members)[:count])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), out), out
