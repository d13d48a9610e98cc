"""16x16 crops of scikit-learn's two photographs: the laptop tier's stand-in for ImageNet-32.

The photographs are first halved, so that a crop shows a piece of a roof or a petal. The right fifth of each
is held out: crops for training lie wholly left of that strip, crops for evaluation wholly inside it.
"""

from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from ..storage.workspace import find_root
from .formats.archives import content_of
from .formats.pictures import open_picture
from .images import CURE, Images, Labelled, to_signed

SIDE = 16
# what it reads, below the root, and the width and height of each
FILES = ("data/china.jpg", "data/flower.jpg")
PUBLISHED = (640, 427)
STRIP = 256  # of the halved photographs: columns from here on are held out
# for a classifier: areas along one side, crops to train on and crops to test on
BANDS, LABELLED, LABELLED_SEED = 3, (8000, 2000), 20_240_607


def photographs() -> np.ndarray:
    """Both photographs, of 2x2 means, (2, 3, 213, 320), uint8; raises, with the cure, for any other file."""
    halves = []
    for name in FILES:
        path, cure = find_root() / name, f"delete it and {CURE}"
        if not path.exists():
            raise FileNotFoundError(f"{path} is not there: {CURE}")
        try:
            image = open_picture(content_of(path, cure), PUBLISHED)
        except ValueError as error:
            raise ValueError(f"{path} {error}: {cure}") from None
        # without the odd last row, which would be averaged with nothing
        halves.append(np.asarray(image.crop((0, 0, 640, 426)).reduce(2)).transpose(2, 0, 1))
    return np.stack(halves)


def crops(pictures: np.ndarray) -> np.ndarray:
    """Every crop of `pictures` (count, 3, height, width), by picture, row and column: (crops, 3, 16, 16)."""
    windows = np.lib.stride_tricks.sliding_window_view(pictures, (SIDE, SIDE), axis=(2, 3))
    return np.ascontiguousarray(windows.transpose(0, 2, 3, 1, 4, 5)).reshape(-1, 3, SIDE, SIDE)


def pixels() -> np.ndarray:
    """All crops left of the held-out strip, (95436, 3, 16, 16), uint8, 73 MB; raises as `photographs`."""
    return crops(photographs()[..., :STRIP])


def held_out(count: int, seed: int) -> Tensor:
    """`count` crops from inside the held-out strip, (count, 3, 16, 16), float32 in [-1, 1], on the CPU."""
    strip = replace(SOURCE, read=lambda: crops(photographs()[..., STRIP:]))
    return strip.sample(count, torch.Generator().manual_seed(seed))


def labelled() -> Labelled:
    """Crops and classes to train a classifier on, then others to test it on.

    The class says where a crop is from: which photograph, and which of BANDS x BANDS equal areas of it. Crops
    to test on overlap with those to train on: accuracy speaks of places, not of new photographs.
    """
    everything = photographs()[..., :STRIP]
    rows, columns = (size - SIDE + 1 for size in everything.shape[2:])
    picture, row, column = np.indices((len(everything), rows, columns)).reshape(3, -1)
    classes = (picture * BANDS + row * BANDS // rows) * BANDS + column * BANDS // columns
    which = np.random.default_rng(LABELLED_SEED).permutation(len(classes))[: sum(LABELLED)]
    images, classes = to_signed(torch.from_numpy(crops(everything)[which])).numpy(), classes[which]
    train, test = slice(LABELLED[0]), slice(LABELLED[0], None)
    return images[train], classes[train], images[test], classes[test]


SOURCE = Images("patches", (3, SIDE, SIDE), True, pixels)
