"""Stage 0 of the image experiments: what images are measured in, and the data's own features.

At tier paper that is clean-fid's Inception network, at the others a small classifier, trained here; either way the
features of the data are computed once, and every number of a table is measured against the same ones.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from .. import data
from ..data.formats.archives import folder_of
from ..data.formats.pictures import Pictures
from ..data.images import to_signed
from ..metrics.attributes import judge
from ..metrics.features import INCEPTION, Extractor, channel_means, extract, inception
from ..networks.classifier import Classifier, accuracy, train_classifier
from ..settings.features import Features
from ..storage import stand_in
from ..storage.checkpoint import load_checkpoint, load_weights, save_checkpoint
from ..storage.files import write_atomically
from ..storage.progress import Progress
from .pool import one_thread
from .preparation import Preparation

DRAW_SEED = 2_000_003
CLASSIFIER = "classifier.safetensors"
# the probe's file, the pictures that it is trained on and those that it is judged on
PROBE, PROBE_PICTURES, PROBE_UNSEEN = "probe.safetensors", 12_000, 1000
# images whose checksum is taken together
TOGETHER = 256


@dataclass(frozen=True)
class FeaturePreparation(Preparation):
    """An entry of a tier's `features`: its settings, and where its files are."""

    settings: Features
    SECTION = "features"


@dataclass(frozen=True)
class Reference:
    """The extractor, the data's features (count, dim), and what the protocol of a number says of them."""

    extractor: Extractor
    values: np.ndarray
    split: str
    checksum: str


class OnLevels(nn.Module):
    """A classifier's features of images with levels 0..top, as clean-fid calls an extractor of one's own."""

    def __init__(self, classifier: Classifier, top: int):
        super().__init__()
        self.classifier, self.top = classifier, top

    def forward(self, images: Tensor) -> Tensor:
        return self.classifier.features(images / (self.top / 2) - 1)


def _images(settings: Features) -> tuple[np.ndarray | Pictures, str]:
    """The images that are measured against, uint8, and which part of the data they are."""
    source = data.load(settings.data)
    # under its own name no published number could be kept from standing beside what is measured against a stand-in
    name = (
        f"a rehearsal's stand-in for {settings.data}"
        if stand_in.is_marked(folder_of(settings.data))
        else settings.data
    )
    if settings.reference is None:
        return np.asarray(source.images.pixels), f"all {len(source.images.pixels)} training images of {name}"
    if settings.prompts:
        shown = data.module(settings.data).prompt_set(settings.prompts, settings.reference)
        return (
            shown.pixels,
            f"the pictures of the first {settings.reference} prompts {settings.prompts} of {name}",
        )
    drawn = source.sample(settings.reference, torch.Generator().manual_seed(DRAW_SEED))
    return source.to_uint8(drawn).numpy(), f"{settings.reference} images drawn from {name}, as in training"


def _checksum(images: np.ndarray | Pictures) -> str:
    """Of images that may be decoded as they are looked at: some at a time."""
    found = hashlib.sha256()
    for start in range(0, len(images), TOGETHER):
        found.update(np.ascontiguousarray(images[start : start + TOGETHER]).tobytes())
    return found.hexdigest()[:16]


def _classifier(settings: Features, bar: Progress) -> tuple[Classifier, float]:
    images, labels, unseen, their_labels = data.module(settings.data).labelled()
    with one_thread():
        network = train_classifier(images, labels, settings.steps, settings.seed, tick=bar.update)
        return network, accuracy(network, unseen, their_labels)


def _extractor(preparation: FeaturePreparation, network: Classifier | None) -> Extractor:
    if network is None:
        folder = folder_of("inception")
        return channel_means() if stand_in.is_marked(folder) else inception(folder / INCEPTION)
    weights = b"".join(value.numpy().tobytes() for value in network.state_dict().values())
    name = f"classifier of {preparation.settings.data} (sha256 {hashlib.sha256(weights).hexdigest()[:8]})"
    return Extractor(name, OnLevels(network, data.load(preparation.settings.data).top))


def _stored(folder: Path) -> Classifier:
    """The classifier in `folder`; raises CheckpointError for damage."""
    tensors, info = load_checkpoint(folder / CLASSIFIER)
    network = Classifier(tuple(info["shape"]), info["classes"])
    load_weights(network, tensors, folder / CLASSIFIER)
    return network.requires_grad_(False).eval()


def _taken(preparation: FeaturePreparation, folder: Path) -> tuple[Classifier, float]:
    """The classifier that another entry has trained and its accuracy; its files, and those of the probe, are copied to `folder`."""
    described = preparation.workspace.read(f"features/{preparation.settings.classifier_of}/described.json")
    for name in (CLASSIFIER, PROBE) if preparation.settings.probe_steps else (CLASSIFIER,):
        write_atomically(folder / name, (described.parent / name).read_bytes())
    return _stored(folder), json.loads(described.read_text())["accuracy"]


def prepare(preparation: FeaturePreparation) -> dict:
    """Train the classifier if one is asked for, or take another entry's, and compute the data's features; returns what there is to say of them.

    Writes features/<name>/ below the tier's artifacts: classifier.safetensors, features.npy, described.json. Keys of
    the result: data, images, features, extractor, accuracy (of the classifier on images it has not seen, or None).
    """
    settings, network, right = preparation.settings, None, None
    folder = preparation.workspace.write(f"features/{preparation.name}/features.npy").parent
    if settings.extractor == "classifier" and settings.classifier_of:
        network, right = _taken(preparation, folder)
    elif settings.extractor == "classifier":
        with Progress(settings.steps, f"training the classifier of {settings.data}") as bar:
            network, right = _classifier(settings, bar)
        shape = list(data.load(settings.data).shape)
        save_checkpoint(
            folder / CLASSIFIER, network.state_dict(), {"shape": shape, "classes": network.out.out_features}
        )
    if settings.probe_steps and not settings.classifier_of:
        _probe(preparation, folder)
    images, split = _images(settings)
    extractor = _extractor(preparation, network)
    with one_thread():
        found = extract(images, extractor, device=preparation.device)
    np.save(folder / "features.npy", found.values.astype(np.float32))
    described = {
        "data": settings.data, "images": split, "features": found.values.shape[1], "extractor": extractor.name, "accuracy": right,
        "checksum": _checksum(images),
    }  # fmt: skip
    write_atomically(folder / "described.json", (json.dumps(described, indent=1) + "\n").encode())
    return described


def _probe(preparation: FeaturePreparation, folder: Path) -> None:
    """Train the probe, on pictures of everything that there can be, and store it with its accuracy on others."""
    from ..networks import probe  # here, and not above: it belongs to one data set

    module, steps = data.module(preparation.settings.data), preparation.settings.probe_steps
    shown, unseen = module.any_pairs(PROBE_PICTURES, 0), module.any_pairs(PROBE_UNSEEN, 1)
    with Progress(steps, f"training the probe of {preparation.settings.data}") as bar, one_thread():
        network = probe.train_probe(
            to_signed(torch.from_numpy(shown.pixels)).numpy(),
            shown.scenes,
            steps,
            preparation.settings.seed,
            tick=bar.update,
        )
        right, said = judge(unseen.captions, probe.read(network, to_signed(torch.from_numpy(unseen.pixels))))
    save_checkpoint(
        folder / PROBE,
        network.state_dict(),
        {
            "data": preparation.settings.data,
            "accuracy": float(right.sum() / said.sum()),
            "pictures": PROBE_UNSEEN,
        },
    )


def probe_file(preparation: FeaturePreparation) -> Path | None:
    """Where the probe of a preparation lies, if it has one; raises FileNotFoundError, naming the cure, before it is trained."""
    return (
        preparation.workspace.read(f"features/{preparation.name}/{PROBE}")
        if preparation.settings.probe_steps
        else None
    )


@cache
def load_probe(path: Path) -> nn.Module:
    """The probe stored in `path`; raises CheckpointError for damage."""
    from ..networks.probe import Probe

    network = Probe()
    load_weights(network, load_checkpoint(path)[0], path)
    return network.requires_grad_(False).eval()


def probe_name(path: Path) -> str:
    """A name that identifies the probe in `path`, for the evaluation protocol."""
    tensors, info = load_checkpoint(path)
    weights = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    return f"probe of {info['data']} (sha256 {hashlib.sha256(weights).hexdigest()[:8]}), {100 * info['accuracy']:.1f} % right on {info['pictures']} other pictures"


def as_table(described: dict) -> pd.DataFrame:
    """What `prepare` returned, rounded, one row a fact."""
    right = described["accuracy"]
    rows = {
        "data": described["data"],
        "measured against": described["images"],
        "features": described["features"],
        "extractor": described["extractor"].partition(" (")[0],
    }
    if right is not None:
        rows["accuracy on unseen images"] = f"{100 * right:.1f} %"
    return pd.DataFrame({"": rows})


def some_images(preparation: FeaturePreparation, count: int) -> np.ndarray:
    """`count` images of the data, (count, channels, height, width), float32 in [-1, 1], always the same."""
    return (
        data.load(preparation.settings.data).sample(count, torch.Generator().manual_seed(DRAW_SEED)).numpy()
    )


def load(preparation: FeaturePreparation) -> Reference:
    """What `prepare` wrote; raises FileNotFoundError, naming the cure, where it has not run, and CheckpointError for damage."""
    network = None
    folder = preparation.workspace.read(f"features/{preparation.name}/described.json").parent
    described = json.loads((folder / "described.json").read_text())
    if preparation.settings.extractor == "classifier":
        network = _stored(folder)
    values = np.load(folder / "features.npy").astype(np.float64)
    return Reference(_extractor(preparation, network), values, described["images"], described["checksum"])
