"""The captions of a data set, read by a CLIP's text tower once and for all: what the flows of a text-to-image experiment attend to."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .. import data
from ..data import latents as made
from ..storage.block_array import BlockArray
from ..storage.files import write_atomically
from ..storage.progress import Progress
from .pool import one_thread

if TYPE_CHECKING:
    from . import clip as contrastive
    from .autoencoder import LatentPreparation

# captions read between two marks of progress
BLOCK = 512


@dataclass(frozen=True, eq=False)
class Read:
    """The captions of some images, and the empty one behind them, as a text tower has read them; and what there is to say of it."""

    hidden: BlockArray
    masks: Tensor
    said: dict[str, Any]

    def finish(self, folder: Path) -> None:
        """Put them into `folder`: texts.npy, (images + 1, tokens, width), float32, and masks.npy, (images + 1, tokens), bool."""
        file = io.BytesIO()
        np.save(file, self.masks.numpy())
        write_atomically(folder / made.MASKS, file.getvalue())
        self.hidden.finish(folder / made.TEXTS)


def _reader(preparation: LatentPreparation) -> contrastive.ClipPreparation:
    from . import (
        clip as contrastive,  # here, and not above: transformers takes seconds to load, and most latents have no captions
    )

    return contrastive.ClipPreparation.open(preparation.workspace.tier, preparation.settings.clip)


def _texts(preparation: LatentPreparation, count: int) -> list[str]:
    """The captions of the first `count` images, and the empty one behind them; raises ValueError where there are fewer captions."""
    if preparation.source.images.flip:
        raise ValueError(
            f"the data set '{preparation.settings.data}' is drawn mirrored, and captions say left and right: it has no texts"
        )
    found = data.module(preparation.settings.data).captions()
    if len(found) < count:
        raise ValueError(
            f"the data set '{preparation.settings.data}' has {len(found)} captions for {count} images: give one each"
        )
    return [getattr(caption, "text", caption) for caption in found[:count]] + [""]


def mark(preparation: LatentPreparation, count: int) -> list[str]:
    """What the read captions depend on: the CLIP that reads them, by its checksum, and the texts, by theirs."""
    from ..networks import clip_files

    content = "\n".join(_texts(preparation, count)).encode()
    return [
        clip_files.read_described(_reader(preparation).folder)["checksum"],
        hashlib.sha256(content).hexdigest(),
    ]


def read_all(preparation: LatentPreparation, count: int, path: Path) -> Read:
    """Read the captions of the first `count` images, and the empty one, into `path`, from wherever an earlier run has stopped.

    What there is to say: clip (checksum of its weights), tokens, width, cut (captions longer than the context). Raises
    FileNotFoundError where there is no CLIP yet, and ValueError for captions that do not go with the images.
    """
    from . import clip as contrastive

    texts, reader = _texts(preparation, count), contrastive.load(_reader(preparation))
    hidden = BlockArray.open(path, (len(texts), reader.length, reader.width))
    with Progress(len(texts), f"reading the captions of {preparation.settings.data}") as bar, one_thread():
        for start in range(hidden.done * BLOCK, len(texts), BLOCK):
            hidden.values[start : start + BLOCK] = (
                reader.text(texts[start : start + BLOCK]).hidden.cpu().numpy()
            )
            hidden.mark_done(start // BLOCK + 1)
            bar.update(min(start + BLOCK, len(texts)))
    # a tokenizer takes ten kilobytes a text while it is at it
    blocks = [texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK)]
    cut = sum(lost > 0 for block in blocks for lost in reader.tokenizer.dropped(block))
    said = {"clip": mark(preparation, count)[0], "tokens": reader.length, "width": reader.width, "cut": cut}
    return Read(hidden, torch.cat([reader.tokenizer.encode(block)[1] for block in blocks]), said)
