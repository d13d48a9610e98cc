"""The captions of a data set, read by a CLIP's text tower once and for all: what the flows of a text-to-image experiment attend to."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import data
from .data import latents as made
from .files import write_atomically
from .parallel import one_thread
from .progress import Progress

if TYPE_CHECKING:
    from .autoencoding import Maker

# captions read between two marks of progress
BLOCK = 512


def _reader(maker: Maker):
    from . import contrastive  # here, and not above: transformers takes seconds to load, and most latents have no captions

    return contrastive.Maker.open(maker.workspace.tier, maker.settings.clip)


def mark(maker: Maker) -> str:
    """The checksum of the CLIP that reads the captions."""
    from .networks import clip

    return clip.read_described(_reader(maker).folder)["checksum"]


def _texts(maker: Maker, count: int) -> list[str]:
    """The captions of the first `count` images, and the empty one behind them; raises ValueError where there are fewer captions."""
    if maker.source.images.flip:
        raise ValueError(f"the data set '{maker.settings.data}' is drawn mirrored, and captions say left and right: it has no texts")
    found = import_module(f"{data.__name__}.{maker.settings.data}").captions()
    if len(found) < count:
        raise ValueError(f"the data set '{maker.settings.data}' has {len(found)} captions for {count} images: give one each")
    return [getattr(caption, "text", caption) for caption in found[:count]] + [""]


def _grown(path: Path, shape: tuple[int, ...]) -> tuple[np.ndarray, int]:
    """The array of `shape` that is being filled in `path`, and how many of its rows are; a new one unless the file is whole."""
    marker = path.with_suffix(".rows")
    try:
        array = np.load(path, mmap_mode="r+", allow_pickle=False)
        if array.shape == shape and array.dtype == np.float32:
            return array, int(marker.read_text())
    except (OSError, ValueError, EOFError):
        pass  # absent, or damaged: it is made again
    marker.unlink(missing_ok=True)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape), 0


def read_all(maker: Maker, count: int, folder: Path) -> dict[str, Any]:
    """Read the captions of the first `count` images, and the empty one, going on from wherever an earlier run has stopped.

    Writes texts.npy, (count + 1, tokens, width), float32, and masks.npy, (count + 1, tokens), bool, into `folder`. Returns
    {"captions": ...} with clip (checksum of its weights), tokens, width, cut (captions longer than the context). Raises
    FileNotFoundError where there is no CLIP yet, and ValueError for captions that do not go with the images.
    """
    from . import contrastive

    checksum, texts = mark(maker), _texts(maker, count)
    reader = contrastive.load(_reader(maker))
    shape = (count + 1, reader.length, reader.width)
    partial = maker.workspace.write(f"states/latents/{maker.name}-texts-{checksum[:16]}-{count}.npy")
    array, done = _grown(partial, shape)
    with Progress(len(texts), f"reading the captions of {maker.settings.data}") as bar, one_thread():
        for start in range(done, len(texts), BLOCK):
            array[start : start + BLOCK] = reader.text(texts[start : start + BLOCK]).hidden.cpu().numpy()
            array.flush()
            write_atomically(partial.with_suffix(".rows"), str(min(start + BLOCK, len(texts))).encode())
            bar.update(min(start + BLOCK, len(texts)))
    folder.mkdir(parents=True, exist_ok=True)
    np.save(folder / made.MASKS, reader.tokenizer.encode(texts)[1].numpy())
    os.replace(partial, folder / made.TEXTS)
    partial.with_suffix(".rows").unlink(missing_ok=True)
    cut = sum(lost > 0 for lost in reader.tokenizer.dropped(texts))
    return {"captions": {"clip": checksum, "tokens": reader.length, "width": reader.width, "cut": cut}}
