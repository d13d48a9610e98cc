"""The CLIP of text-to-image experiments, trained here or published, and how well it retrieves pairs.

A picture and its caption are drawn to one point of the sphere, and away from the other captions and pictures
of the batch (arXiv 2103.00020). Flows attend to its text tower, and its cosines are the CLIP score.
"""

from dataclasses import dataclass
from functools import cached_property
from math import log
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from ..networks import clip, clip_files, tokens
from ..networks.clip import Clip
from ..networks.tokens import Tokenizer
from ..settings.prepared import Clip as ClipSettings
from ..storage.files import write_atomically
from .caption_pairs import Pairs, pairs_of, unseen_pairs
from .precision import one_thread
from .preparation import Preparation, fact_table, figure_table
from .trainer import Trainer

LOG = "log.csv"
# the lowest temperature: without it the logits of cosines would go on growing
COLDEST = 0.01
# unambiguous pairs, among which each must be found
MEASURED = 256
PERCENT = {"pairs": "{}", "image to text": "{:.1%}", "text to image": "{:.1%}"}
PERCENT |= {"score": "{:.1f}", "score of mismatches": "{:.1f}"}


@dataclass(frozen=True)
class ClipPreparation(Preparation):
    """An entry of a tier's `clip`."""

    settings: ClipSettings
    SECTION = OUTPUT = "clip"

    @cached_property
    def pairs(self) -> Pairs:
        return pairs_of(self.settings.data, self.settings.pairs)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        return tokens.train(self.pairs.captions, self.settings.vocabulary, self.settings.tokens)

    @cached_property
    def encoded(self) -> tuple[Tensor, Tensor]:
        """The tokens of the captions, (count, longest), and the index of each pair's caption, (count,)."""
        ids, mask = self.tokenizer.encode(self.pairs.captions)
        # no token looks ahead: what stands behind the longest caption changes nothing
        return ids[:, : mask.sum(1).max()], torch.unique(ids, dim=0, return_inverse=True)[1]


def loss(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
    """The loss of each pair of a batch, (batch,): the mean of its picture's and its caption's cross-entropy.

    images, texts  points of the sphere, (batch, projection); pair k is row k of both
    scale          logits are cosines times it, a scalar: 1 / temperature
    groups         the index of each pair's caption, (batch,)

    Where two pairs of a batch have the same caption, neither's picture is a negative of the other's
    caption: their logits leave the sums over the batch, and only a pair's own remains.
    """
    logits = scale * images @ texts.T
    others = (groups[:, None] == groups) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    logits = logits.masked_fill(others, -torch.inf)
    return -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()) / 2


def untrained(preparation: ClipPreparation) -> Clip:
    """The CLIP before training: the tokenizer of the training captions, and weights drawn from the seed."""
    settings = preparation.settings
    sizes = (settings.width, settings.layers, settings.heads, settings.patch, settings.projection)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = clip.small(preparation.pairs.pictures.shape[1:], preparation.tokenizer, *sizes)
    return network.to(preparation.device)


def advance(preparation: ClipPreparation, until: int) -> tuple[Clip, Tensor]:
    """The CLIP after `until` steps, trained from the state on disk as `Trainer.advance` does, and the log."""
    settings, device, network = preparation.settings, preparation.device, untrained(preparation)
    trainer = Trainer(preparation.state, network.model, settings, device, ("loss", "temperature"))
    tensors = (preparation.pairs.tensor(), *preparation.encoded)
    pictures, ids, groups = (tensor.to(device) for tensor in tensors)
    scale = network.model.logit_scale

    def one_step() -> dict[str, Tensor]:
        batch = torch.randint(len(pictures), (settings.batch,), generator=trainer.generator, device=device)
        images = network.embed_images(pictures[batch])
        total = loss(images, network.embed_tokens(ids[batch]), scale.exp(), groups[batch]).mean()
        trainer.descend(total)
        with torch.no_grad():
            scale.clamp_(max=log(1 / COLDEST))
        return {"loss": total, "temperature": (-scale).exp()}

    return network, trainer.advance(until, one_step, f"clip {preparation.name}")


def _train(preparation: ClipPreparation) -> dict[str, Any]:
    """Train to the end, write weights, tokenizer and log, and return their description."""
    settings, folder = preparation.settings, preparation.output
    network, logged = advance(preparation, settings.steps)
    info = {"network": settings.model_dump(), "shape": list(preparation.pairs.pictures.shape[1:])}
    info |= {"data": settings.data, "fingerprint": preparation.fingerprint()}
    clip_files.save(network, folder, info)
    steps = pd.RangeIndex(1, settings.steps + 1, name="step")
    table = pd.DataFrame(logged.double().numpy(), steps, ["loss", "temperature"])
    write_atomically(folder / LOG, table.to_csv(float_format="%.6g").encode())
    dropped = network.tokenizer.dropped(preparation.pairs.captions)
    return {
        "clip": f"trained here, {settings.steps:,} steps of {settings.batch} pairs",
        "checksum": clip_files.checksum(folder / clip_files.TRAINED),
        "pairs": len(dropped),
        "captions cut": sum(count > 0 for count in dropped),
        "temperature": float(logged[-1, 1]),
    }


def train(preparation: ClipPreparation) -> dict[str, Any]:
    """Train the CLIP, or find the published one, and measure its retrieval; returns its description.

    Writes clip/<name>/ below the tier's artifacts: the description and, where it is trained,
    clip.safetensors, vocab.json, merges.txt and log.csv (loss and temperature of every step). Keys: clip,
    checksum, data, tokens, width, vocabulary, score (its protocol), figures by part of the data; pairs,
    captions cut (those longer than the context) and temperature where it is trained; repository, towers and
    found where it is published.
    """
    settings = preparation.settings
    preparation.retract()
    if settings.kind == "published":
        network, description = clip_files.published(settings.repository, settings.towers)
    else:
        description, network = _train(preparation), clip_files.trained(preparation.output)
    network = network.to(preparation.device)
    # a published CLIP need not have a data set
    parts = unseen_pairs(settings.data, MEASURED) if settings.data else {}
    vocabulary = len(network.tokenizer.vocabulary)
    sizes = {"tokens": network.length, "width": network.width, "vocabulary": vocabulary}
    measured = {"data": settings.data, **sizes, "score": clip.SCORE, "figures": figures(network, parts)}
    return preparation.describe(description | measured)


def retrieved(cosines: Tensor) -> tuple[float, float]:
    """The fraction of pictures nearer to their own caption than to any other, and of captions likewise.

    `cosines` (pictures, captions) are those of pairs. A tie counts as not found.
    """
    pairs = cosines.diagonal()
    others = cosines.masked_fill(torch.eye(len(cosines), dtype=torch.bool, device=cosines.device), -torch.inf)
    return tuple(float((pairs > others.amax(axis)).double().mean()) for axis in (1, 0))


def figures(network: Clip, parts: dict[str, Pairs]) -> dict[str, dict[str, float]]:
    """By part of the data: pairs, retrieval among them both ways, mean score of pairs and of mismatches."""
    found = {}
    with one_thread():
        for part, pairs in parts.items():
            cosines = network.image_features(pairs.tensor()) @ network.text_features(pairs.captions).T
            images, texts = retrieved(cosines := cosines.cpu().double())
            scores = 100 * cosines.clamp(min=0)
            mismatches = (scores.sum() - scores.trace()) / max(len(scores) * (len(scores) - 1), 1)
            found[part] = {"pairs": len(scores), "image to text": images, "text to image": texts}
            found[part] |= {
                "score": float(scores.diagonal().mean()),
                "score of mismatches": float(mismatches),
            }
    return found


def load(preparation: ClipPreparation) -> Clip:
    """The CLIP, frozen; raises as `clip_files.load`."""
    return clip_files.load(preparation.folder, preparation.device)


def as_table(description: dict[str, Any]) -> pd.DataFrame:
    """What `train` returned, rounded, one row a fact."""
    tokens, vocabulary = f"{description['tokens']} tokens", f"{description['vocabulary']:,}"
    facts = {
        "CLIP": description["clip"],
        "data": description["data"] or "none",
        "score": description["score"],
        "a text": f"{tokens} of {vocabulary}, {description['width']} numbers each",
    }
    if "captions cut" in description:
        facts["captions cut"] = f"{description['captions cut']} of {description['pairs']:,}"
        facts["temperature"] = f"{description['temperature']:.3f}"
    return fact_table(facts | {"found in": description.get("found")})


def retrieval(preparation: ClipPreparation) -> pd.DataFrame:
    """By part of the data: how often the right one comes first, and mean scores of pairs and mismatches."""
    return figure_table(preparation.description["figures"], PERCENT)


def curves(preparation: ClipPreparation) -> dict[str, np.ndarray]:
    """Contrastive loss and temperature of every step, (steps,), by name; nothing for a published CLIP."""
    if preparation.settings.kind == "published":
        return {}
    logged = pd.read_csv(preparation.folder / LOG, index_col="step")
    return {"contrastive loss": logged["loss"].to_numpy(), "temperature": logged["temperature"].to_numpy()}
