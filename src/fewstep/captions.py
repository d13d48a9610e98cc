"""The captions of a data set, read by a CLIP's text tower once and for all: what the flows of a text-to-image experiment attend to."""

from __future__ import annotations

import hashlib
import io
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from . import data
from .data import latents as made
from .files import write_atomically
from .growing import Growing
from .parallel import one_thread
from .progress import Progress

if TYPE_CHECKING:
    from . import contrastive
    from .autoencoding import Maker

# captions read between two marks of progress
BLOCK = 512


@dataclass(frozen=True, eq=False)
class Read:
    """The captions of some images, and the empty one behind them, as a text tower has read them; and what there is to say of it."""

    hidden: Growing
    masks: Tensor
    said: dict[str, Any]

    def finish(self, folder: Path) -> None:
        """Put them into `folder`: texts.npy, (images + 1, tokens, width), float32, and masks.npy, (images + 1, tokens), bool."""
        file = io.BytesIO()
        np.save(file, self.masks.numpy())
        write_atomically(folder / made.MASKS, file.getvalue())
        self.hidden.finish(folder / made.TEXTS)


def _reader(maker: Maker) -> contrastive.Maker:
    from . import contrastive  # here, and not above: transformers takes seconds to load, and most latents have no captions

    return contrastive.Maker.open(maker.workspace.tier, maker.settings.clip)


def _texts(maker: Maker, count: int) -> list[str]:
    """The captions of the first `count` images, and the empty one behind them; raises ValueError where there are fewer captions."""
    if maker.source.images.flip:
        raise ValueError(f"the data set '{maker.settings.data}' is drawn mirrored, and captions say left and right: it has no texts")
    found = import_module(f"{data.__name__}.{maker.settings.data}").captions()
    if len(found) < count:
        raise ValueError(f"the data set '{maker.settings.data}' has {len(found)} captions for {count} images: give one each")
    return [getattr(caption, "text", caption) for caption in found[:count]] + [""]


def mark(maker: Maker, count: int) -> list[str]:
    """What the read captions depend on: the CLIP that reads them, by its checksum, and the texts, by theirs."""
    from .networks import clip

    content = "\n".join(_texts(maker, count)).encode()
    return [clip.read_described(_reader(maker).folder)["checksum"], hashlib.sha256(content).hexdigest()]


def read_all(maker: Maker, count: int, path: Path) -> Read:
    """Read the captions of the first `count` images, and the empty one, into `path`, from wherever an earlier run has stopped.

    What there is to say: clip (checksum of its weights), tokens, width, cut (captions longer than the context). Raises
    FileNotFoundError where there is no CLIP yet, and ValueError for captions that do not go with the images.
    """
    from . import contrastive

    texts, reader = _texts(maker, count), contrastive.load(_reader(maker))
    hidden = Growing.open(path, (len(texts), reader.length, reader.width))
    with Progress(len(texts), f"reading the captions of {maker.settings.data}") as bar, one_thread():
        for start in range(hidden.done * BLOCK, len(texts), BLOCK):
            hidden.values[start : start + BLOCK] = reader.text(texts[start : start + BLOCK]).hidden.cpu().numpy()
            hidden.note(start // BLOCK + 1)
            bar.update(min(start + BLOCK, len(texts)))
    # a tokenizer takes ten kilobytes a text while it is at it
    blocks = [texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK)]
    cut = sum(lost > 0 for block in blocks for lost in reader.tokenizer.dropped(block))
    said = {"clip": mark(maker, count)[0], "tokens": reader.length, "width": reader.width, "cut": cut}
    return Read(hidden, torch.cat([reader.tokenizer.encode(block)[1] for block in blocks]), said)
