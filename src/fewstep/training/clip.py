"""The stage of text-to-image experiments that makes the CLIP: trained here or found, and how well it brings pictures and captions together.

A picture and its caption are drawn to one point of the sphere, and away from the other captions and pictures of the
batch (arXiv 2103.00020). Its text tower is what a flow attends to, and its cosines are the CLIP score.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import data
from ..networks import clip, clip_files, tokens
from ..networks.clip import Clip
from ..networks.published import clip as published_clip
from ..networks.tokens import Tokenizer
from ..settings.clip import Clip as ClipSettings
from ..storage.checkpoint import load_weights
from ..storage.files import write_atomically
from ..storage.fingerprint import fingerprint
from . import optimisers
from .caption_pairs import Pairs, pairs_of, unseen_pairs
from .pool import one_thread
from .preparation import Preparation
from .resumable import Progressing, to_the_end, under

LOG = "log.csv"
WARMUP, STEEPEST = 0.05, 1.0
# a temperature below this is none: logits of cosines would go on growing
COLDEST = 0.01
# pairs that are told apart, among which each must be found
MEASURED = 256


@dataclass(frozen=True)
class ClipPreparation(Preparation):
    """An entry of a tier's `clip`: its settings, and where its files are."""

    settings: ClipSettings
    SECTION = "clip"

    @cached_property
    def pairs(self) -> Pairs:
        """The pairs that it is trained on."""
        return pairs_of(self.settings.data, self.settings.pairs)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of their captions."""
        return tokens.train(self.pairs.captions, self.settings.vocabulary, self.settings.tokens)

    @cached_property
    def encoded(self) -> tuple[Tensor, Tensor]:
        """The tokens of their captions, (count, the most of any), and which caption each pair has, (count,)."""
        ids, mask = self.tokenizer.encode(self.pairs.captions)
        # no token looks ahead: what stands behind the longest caption changes nothing
        return ids[:, : mask.sum(1).max()], torch.unique(ids, dim=0, return_inverse=True)[1]

    def fingerprint(self) -> str:
        """What a training depends on; a state on disk with another fingerprint is of another run."""
        return fingerprint(self.settings.model_dump(), [__name__, f"{data.__name__}.{self.settings.data}"])

    @property
    def state(self) -> Path:
        """Where the state of the training is kept; one whose settings or code changed starts afresh."""
        return self.workspace.write(f"states/clip/{self.name}-{self.fingerprint()}.safetensors")

    @property
    def folder(self) -> Path:
        """What `train` wrote; raises FileNotFoundError, naming the cure, where it has not run."""
        return self.workspace.read(f"clip/{self.name}/{clip_files.DESCRIBED}").parent


def loss(images: Tensor, texts: Tensor, scale: Tensor, groups: Tensor) -> Tensor:
    """What each pair of a batch loses, (batch,): the mean of its picture's and its caption's cross-entropy.

    images, texts  points of the sphere, (batch, projection); pair k is row k of both
    scale          logits are cosines times it, a scalar: 1 / temperature
    groups         which caption each pair has, (batch,), whole numbers

    Where two pairs of a batch have the same caption, neither's picture is a negative of the other's caption: their logits
    leave the sums over the batch, and only a pair's own remains.
    """
    logits = scale * images @ texts.T
    others = (groups[:, None] == groups) & ~torch.eye(len(groups), dtype=torch.bool, device=groups.device)
    logits = logits.masked_fill(others, -torch.inf)
    return -(logits.log_softmax(1).diagonal() + logits.log_softmax(0).diagonal()) / 2


def untrained(preparation: ClipPreparation) -> Clip:
    """The CLIP that a training begins from: the tokenizer of the training captions, and weights that the seed decides."""
    own = preparation.settings
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own.seed)
        return clip.small(
            preparation.pairs.pictures.shape[1:],
            preparation.tokenizer,
            own.width,
            own.layers,
            own.heads,
            own.patch,
            own.projection,
        ).to(preparation.device)


def advance(preparation: ClipPreparation, until: int, tick: Callable[[int], None] | None = None) -> Path:
    """Bring the training from its state on disk, or from nothing, to step `until`, and store it; returns the state's file.

    Equal seeds give equal bits on a CPU, however often it was stopped. `tick(step)` is called about once a second.
    Raises CheckpointError for a damaged state and FloatingPointError where the training diverged.
    """
    own, network, path = preparation.settings, untrained(preparation), preparation.state
    optimiser = optimisers.build("adam", network.model.parameters(), own.lr)
    generator, logged = torch.Generator(preparation.device).manual_seed(own.seed), torch.zeros(own.steps, 2)
    now = Progressing(network.model, optimiser, generator, logged)
    step = now.restore(path)
    pictures, ids, groups = (
        held.to(preparation.device) for held in (preparation.pairs.tensor(), *preparation.encoded)
    )
    said, warm, scale = time.monotonic(), max(WARMUP * own.steps, 1), network.model.logit_scale
    with one_thread():
        while step < until:
            optimiser.param_groups[0]["lr"] = own.lr * min((step + 1) / warm, 1) * (1 - step / own.steps)
            which = torch.randint(len(pictures), (own.batch,), generator=generator, device=preparation.device)
            images = network.embed_images(pictures[which])
            total = loss(images, network.embed_tokens(ids[which]), scale.exp(), groups[which]).mean()
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(network.model.parameters(), STEEPEST)
            optimiser.step()
            with torch.no_grad():
                scale.clamp_(max=log(1 / COLDEST))
            logged[step] = torch.stack([total.detach(), (-scale).exp().detach()])
            step += 1
            if tick and time.monotonic() - said > 1:
                said = time.monotonic()
                tick(step)
    if not torch.isfinite(logged[:step]).all():
        raise FloatingPointError(
            f"the training of the clip {preparation.name} diverged: its loss is not finite; lower its `lr`"
        )
    now.store(path, step)
    return path


def _trained(preparation: ClipPreparation, folder: Path) -> dict[str, Any]:
    """Train to the end, write weights, tokenizer and log to `folder`, and say what they are."""
    own = preparation.settings
    tensors = to_the_end(
        preparation.state,
        own.steps,
        lambda until, tick: advance(preparation, until, tick),
        f"training the CLIP of {own.data}",
    )
    network = untrained(preparation)
    load_weights(network.model, under(tensors, "weights."), preparation.state)
    described = {
        "network": own.model_dump(),
        "shape": list(preparation.pairs.pictures.shape[1:]),
        "data": own.data,
        "fingerprint": preparation.fingerprint(),
    }
    clip_files.save(network, folder, described)
    logged = pd.DataFrame(
        tensors["log"].double().numpy(),
        columns=["loss", "temperature"],
        index=pd.RangeIndex(1, own.steps + 1, name="step"),
    )
    write_atomically(folder / LOG, logged.to_csv(float_format="%.6g").encode())
    dropped = network.tokenizer.dropped(preparation.pairs.captions)
    return {
        "clip": f"trained here, {own.steps:,} steps of {own.batch} pairs",
        "checksum": published_clip.checksum(folder / clip_files.TRAINED),
        "pairs": len(dropped),
        "captions cut": sum(count > 0 for count in dropped),
        "temperature": float(tensors["log"][-1, 1]),
    }


def train(preparation: ClipPreparation) -> dict[str, Any]:
    """Train the CLIP, or find the published one; measure its retrieval; returns what there is to say of it.

    Writes clip/<name>/ below the tier's artifacts: described.json and, where it is trained, clip.safetensors, vocab.json,
    merges.txt and log.csv (loss and temperature of every step). Keys of the result: clip, checksum, data, tokens, width,
    vocabulary, score (how a score is meant), figures by part of the data; pairs, captions cut (training captions that are
    longer than the context) and temperature where it is trained; repository, towers and found where it is published.
    """
    folder = preparation.workspace.write(f"clip/{preparation.name}/{clip_files.DESCRIBED}").parent
    # a description of other weights must not stand beside these, not even if this is killed here
    (folder / clip_files.DESCRIBED).unlink(missing_ok=True)
    if preparation.settings.kind == "published":
        network, described = published_clip.published(
            preparation.settings.repository, preparation.settings.towers
        )
        network = network.to(preparation.device)
    else:
        described = _trained(preparation, folder)
        network = clip_files.trained(folder).to(preparation.device)
    described |= {
        "data": preparation.settings.data,
        "tokens": network.length,
        "width": network.width,
        "vocabulary": len(network.tokenizer.vocabulary),
    }
    described |= {"score": clip.SCORE, "figures": figures(network, measured_pairs(preparation))}
    write_atomically(folder / clip_files.DESCRIBED, (json.dumps(described, indent=1) + "\n").encode())
    return described


def measured_pairs(preparation: ClipPreparation) -> dict[str, Pairs]:
    """The pairs that retrieval is measured on, by what they are; none where a published CLIP has no data set."""
    return {} if preparation.settings.data is None else unseen_pairs(preparation.settings.data, MEASURED)


def retrieved(cosines: Tensor) -> tuple[float, float]:
    """Of cosines (pictures, captions) of pairs, the fraction of pictures nearer to their own caption than to any other, and of captions likewise.

    A tie is no find: points that all coincide find nothing.
    """
    own = cosines.diagonal()
    others = cosines.masked_fill(torch.eye(len(cosines), dtype=torch.bool, device=cosines.device), -torch.inf)
    return float((own > others.amax(1)).double().mean()), float((own > others.amax(0)).double().mean())


def figures(network: Clip, parts: dict[str, Pairs]) -> dict[str, dict[str, float]]:
    """For each part of the data: how many pairs, the retrieval among them both ways, and the mean score of pairs and of mismatches."""
    found = {}
    with one_thread():
        for part, pairs in parts.items():
            cosines = (
                (network.image_features(pairs.tensor()) @ network.text_features(pairs.captions).T)
                .cpu()
                .double()
            )
            images, texts = retrieved(cosines)
            scores = 100 * cosines.clamp(min=0)
            apart = (scores.sum() - scores.trace()) / max(len(scores) * (len(scores) - 1), 1)
            found[part] = {
                "pairs": len(scores), "image to text": images, "text to image": texts, "score": float(scores.diagonal().mean()), "score of mismatches": float(apart),
            }  # fmt: skip
    return found


def load(preparation: ClipPreparation) -> Clip:
    """The CLIP that `train` has trained or found, frozen; raises as `clip_files.load`."""
    return clip_files.load(preparation.folder, preparation.device)


def as_table(described: dict[str, Any]) -> pd.DataFrame:
    """What `train` returned, rounded, one row a fact."""
    rows = {"CLIP": described["clip"], "data": described["data"] or "none", "score": described["score"]}
    rows |= {
        "a text": f"{described['tokens']} tokens of {described['vocabulary']:,}, {described['width']} numbers each"
    }
    if "captions cut" in described:
        rows["captions cut"] = f"{described['captions cut']} of {described['pairs']:,}"
        rows["temperature"] = f"{described['temperature']:.3f}"
    if "found" in described:
        rows["found in"] = described["found"]
    return pd.DataFrame({"": rows})


def retrieval(preparation: ClipPreparation) -> pd.DataFrame:
    """How often the right one comes first, one row for each part of the data, and the mean score of pairs and of mismatches."""
    rows = {
        part: {"pairs": own["pairs"]}
        | {way: f"{own[way]:.1%}" for way in ("image to text", "text to image")}
        | {name: f"{own[name]:.1f}" for name in ("score", "score of mismatches")}
        for part, own in clip_files.read_described(preparation.folder)["figures"].items()
    }
    return pd.DataFrame(rows).T


def training_log(preparation: ClipPreparation) -> pd.DataFrame:
    """The `loss` and the `temperature` of every step of the training, indexed by step."""
    return pd.read_csv(preparation.folder / LOG, index_col="step")


def curves(preparation: ClipPreparation) -> dict[str, np.ndarray]:
    """What `training_log` holds, (steps,) each, under names for a picture; nothing for a published CLIP."""
    if preparation.settings.kind == "published":
        return {}
    return {
        name: column.to_numpy()
        for name, column in training_log(preparation).rename(columns={"loss": "contrastive loss"}).items()
    }
