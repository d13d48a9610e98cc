"""Images held as whole numbers, opened when they are first needed: drawn in [-1, 1], flipped, scaled."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod, sqrt
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..storage.workspace import find_root
from .formats.archives import no_file

# A set up to this size is copied to a CUDA device once; a larger one is indexed in main memory.
HOLD_BYTES = 8 * 2**30
# Numbers read at a time where a whole array is gone through: a memory-mapped one may be larger than memory.
BLOCK = 2**22
# how the files come about that ship with scikit-learn, or are drawn here
CURE = "run `python -m fewstep data`"


class Rows:
    """Rows of an array that may be memory-mapped, indexed on any device."""

    def __init__(self, values: np.ndarray):
        self.values = values
        self._copies: dict[torch.device, Tensor] = {}

    def blocks(self) -> Iterator[np.ndarray]:
        """All rows, some at a time."""
        size = max(BLOCK // prod(self.values.shape[1:]), 1)
        return (np.asarray(self.values[k : k + size]) for k in range(0, len(self.values), size))

    def copy_on(self, device: torch.device) -> Tensor:
        """The whole array on `device`, copied there once."""
        if device not in self._copies:
            # a read-only memory map cannot be wrapped in a tensor: torch would let it be written to
            parts = [torch.from_numpy(np.array(block)).to(device) for block in self.blocks()]
            self._copies[device] = torch.cat(parts)
        return self._copies[device]

    def __getitem__(self, which: Tensor) -> Tensor:
        """The rows `which` (count,), on its device."""
        if which.is_cuda and self.values.nbytes <= HOLD_BYTES:
            return self.copy_on(which.device)[which]
        return torch.from_numpy(np.asarray(self.values[which.cpu().numpy()])).to(which.device)


@dataclass(frozen=True, eq=False)
class Images:
    """Equally likely images, a `DataSource`; the level 0 is drawn as -1 and the level `top` as 1."""

    name: str
    shape: tuple[int, ...]
    flip: bool  # mirrors half of what is drawn, left to right
    read: Callable[[], np.ndarray]  # pixels, uint8 (images, *shape), at the first draw: naming opens no file
    top: int = 255

    @cached_property
    def pixels(self) -> np.ndarray:
        """The images, read once; raises ValueError for another type or shape, or none at all."""
        pixels = self.read()
        if pixels.dtype != np.uint8 or pixels.shape[1:] != self.shape or not len(pixels):
            found = f"are {pixels.dtype} of shape {pixels.shape}"
            wanted = f"uint8 of shape (images, {', '.join(map(str, self.shape))}), with one image at least"
            cure = "restore the published files"
            raise ValueError(f"the pixels of '{self.name}' {found} instead of {wanted}: {cure}")
        return pixels

    @cached_property
    def rows(self) -> Rows:
        """The images by their index, as they are stored."""
        return Rows(self.pixels)

    @cached_property
    def scale(self) -> float:
        """The standard deviation of all pixels, exact, in units of [-1, 1]; the base's, arXiv 2505.18825."""
        levels, counts = np.arange(256), np.zeros(256, dtype=np.int64)
        for block in self.rows.blocks():
            counts += np.bincount(block.ravel(), minlength=256)
        # Python's integers: count * sum of squares passes 2^63 for a large set
        count, first, second = (int((counts * levels**power).sum()) for power in (0, 1, 2))
        return sqrt(count * second - first**2) / count / (self.top / 2)

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` images in [-1, 1], (count, *shape), on the generator's device, decided by it alone."""
        device = generator.device
        drawn = self.rows[torch.randint(len(self.pixels), (count,), generator=generator, device=device)]
        if self.flip:
            mirrored = torch.rand(count, generator=generator, device=device) < 0.5
            drawn = torch.where(mirrored[:, None, None, None], drawn.flip(-1), drawn)
        return to_signed(drawn, self.top)

    def to_uint8(self, x: Tensor) -> Tensor:
        """As `to_levels`; raises ValueError for NaN, which has no nearest level."""
        if x.isnan().any():
            cure = "look for a training or sampling that diverged"
            raise ValueError(f"images of '{self.name}' hold NaN, which is no pixel: {cure}")
        return to_levels(x, self.top)


def to_signed(pixels: Tensor, top: int = 255) -> Tensor:
    """Levels 0..top as float32 in [-1, 1], both ends exact; same shape."""
    # a true division: CUDA divides by a number through its rounded inverse, which can miss 1 by a bit
    return pixels.to(torch.float32) / torch.full((), top / 2, device=pixels.device) - 1


def to_levels(x: Tensor, top: int = 255) -> Tensor:
    """The nearest levels 0..top of images in [-1, 1], uint8, same shape; what lies outside is clamped."""
    return ((x + 1) * (top / 2)).round().clamp(0, top).to(torch.uint8)


def open_array(path: Path, cure: str) -> np.ndarray:
    """The array in a .npy file, memory-mapped; raises FileNotFoundError or ValueError with the `cure`."""
    if what := no_file(path):
        raise ValueError(f"{path} {what}: {cure}")
    if not path.exists():
        raise FileNotFoundError(f"{path} is not there: {cure}")
    try:
        return np.lib.format.open_memmap(path, mode="r")
    except Exception as error:  # a damaged header can fail in any way
        found = f"({path.stat().st_size:,} bytes; {type(error).__name__})"
        raise ValueError(f"{path} is truncated or no .npy file {found}: {cure}") from None


def read_levels(name: str, shape: tuple[int, ...], top: int) -> np.ndarray:
    """Levels 0..top from the .npy file `name`; raises FileNotFoundError or ValueError with the cure."""
    path = find_root() / name
    cure = f"delete it and {CURE}" if path.exists() else CURE
    array = open_array(path, cure)
    if array.shape != shape or array.dtype != np.uint8 or array.max() > top:
        raise ValueError(f"{path} is not {shape} uint8 from 0 to {top}: {cure}")
    return np.array(array)


def split(labels: np.ndarray, fraction: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices kept and held out (`fraction` of each class, rounded), both ascending; drawn from `seed`."""
    labels, generator, held = np.asarray(labels), np.random.default_rng(seed), []
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        held.append(generator.permutation(members)[: round(fraction * len(members))])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), out), out


# images (count, *shape), float32 in [-1, 1], and classes (count,), int64, to train on; then others to test on
Labelled = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def labelled_split(
    pixels: np.ndarray, classes: np.ndarray, fraction: float, seed: int, top: int = 255
) -> Labelled:
    """Images of levels 0..top and their classes, cut in two by `split`."""
    images = to_signed(torch.from_numpy(pixels), top).numpy()
    train, test = split(classes, fraction, seed)
    return images[train], classes[train], images[test], classes[test]
