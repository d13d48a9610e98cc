"""The captions of a data set, encoded once by a CLIP's text tower: what text-to-image flows attend to."""

import hashlib
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .. import data
from ..data.latents import MASKS, TEXTS
from ..networks import clip_files
from ..storage.block_array import BlockArray
from ..storage.files import write_atomically
from ..storage.progress import Progress
from . import clip
from .autoencoder import LatentPreparation
from .caption_pairs import texts_of
from .precision import MORE_MEMORY, enough_memory, one_thread

# captions encoded between two updates of progress
BLOCK = 512


@dataclass(frozen=True, eq=False)
class EncodedCaptions:
    """The captions of some images and, last, the empty one, encoded by a text tower; their description."""

    hidden: BlockArray
    masks: Tensor
    description: dict[str, Any]

    def finish(self, folder: Path) -> None:
        """Move them to texts.npy, (images + 1, tokens, width), and masks.npy, (images + 1, tokens)."""
        file = io.BytesIO()
        np.save(file, self.masks.numpy())
        write_atomically(folder / MASKS, file.getvalue())
        self.hidden.finish(folder / TEXTS)


def _clip(preparation: LatentPreparation) -> clip.ClipPreparation:
    return clip.ClipPreparation.open(preparation.workspace.tier, preparation.settings.clip)


def _texts(preparation: LatentPreparation, count: int) -> list[str]:
    """The captions of the first `count` images, and the empty one; raises ValueError for too few."""
    name = preparation.settings.data
    if preparation.source.flip:
        problem = f"the data set '{name}' is drawn mirrored, and captions say left and right"
        raise ValueError(f"{problem}: it has no texts")
    found = data.module(name).captions()
    if len(found) < count:
        raise ValueError(f"the data set '{name}' has {len(found)} captions for {count} images: give one each")
    return [*texts_of(found[:count]), ""]


def checksums(preparation: LatentPreparation, count: int) -> list[str]:
    """What the encoded captions depend on: the checksum of the CLIP's weights, and of the texts."""
    content = "\n".join(_texts(preparation, count)).encode()
    weights = clip_files.read_described(_clip(preparation).folder)["checksum"]
    return [weights, hashlib.sha256(content).hexdigest()]


def encode_captions(preparation: LatentPreparation, count: int, path: Path) -> EncodedCaptions:
    """Encode the captions of the first `count` images, and the empty one, into `path`; resumes a run.

    The description: clip (checksum of its weights), tokens, width, cut (captions longer than the context).
    Raises FileNotFoundError where there is no CLIP, and ValueError for captions that do not fit the images.
    """
    texts, network = _texts(preparation, count), clip.load(_clip(preparation))
    hidden = BlockArray.open(path, (len(texts), network.length, network.width))
    blocks = [texts[start : start + BLOCK] for start in range(0, len(texts), BLOCK)]
    work = f"encoding the captions of {preparation.settings.data}"
    with Progress(len(texts), work) as bar, one_thread(), enough_memory(work, MORE_MEMORY):
        for k in range(hidden.done, len(blocks)):
            start, stop = k * BLOCK, k * BLOCK + len(blocks[k])
            hidden.values[start:stop] = network.text(blocks[k]).hidden.cpu().numpy()
            hidden.mark_done(k + 1)
            bar.update(stop)
    # in blocks too: a tokenizer takes ten kilobytes a text
    cut = sum(dropped > 0 for block in blocks for dropped in network.tokenizer.dropped(block))
    masks = torch.cat([network.tokenizer.encode(block)[1] for block in blocks])
    weights, _ = checksums(preparation, count)
    description = {"clip": weights, "tokens": network.length, "width": network.width, "cut": cut}
    return EncodedCaptions(hidden, masks, description)
