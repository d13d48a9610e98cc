"""What the images of an experiment are measured in, and the data's own features, computed once.

At tier paper that is clean-fid's Inception network, at the others a small classifier, trained here.
"""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

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
from ..settings.prepared import Features
from ..storage import stand_in
from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from ..storage.files import write_atomically
from ..storage.progress import Progress
from .precision import MORE_MEMORY, enough_memory, one_thread
from .preparation import DRAW_SEED, Preparation, data_name, fact_table

CLASSIFIER, PROBE, VALUES = "classifier.safetensors", "probe.safetensors", "features.npy"
# pictures that a probe is trained on, and those that its accuracy is measured on
PROBE_PICTURES, PROBE_UNSEEN = 12_000, 1000
# images that are decoded together for the checksum
BLOCK = 256


@dataclass(frozen=True)
class FeaturePreparation(Preparation):
    """An entry of a tier's `features`."""

    settings: Features
    SECTION = OUTPUT = "features"


@dataclass(frozen=True)
class Reference:
    """The extractor, the data's features (count, dim), and the data's part and checksum for a protocol."""

    extractor: Extractor
    values: np.ndarray
    split: str
    checksum: str


class OnLevels(nn.Module):
    """A classifier's features of images with levels 0..top, as clean-fid calls a custom extractor.

    Each is divided by its deviation (features) on the reference: a Fréchet distance then means the same for
    every data set. Without deviations it is the features as the classifier has them.
    """

    def __init__(self, classifier: Classifier, top: int, deviations: Tensor | None = None):
        super().__init__()
        self.classifier, self.top, self.deviations = classifier, top, deviations

    def forward(self, images: Tensor) -> Tensor:
        features = self.classifier.features(images / (self.top / 2) - 1)
        return features if self.deviations is None else features / self.deviations.to(features.device)


def _images(settings: Features) -> tuple[np.ndarray | Pictures, str]:
    """The images that are measured against, uint8, and which part of the data they are."""
    source, name, count = data.load(settings.data), data_name(settings.data), settings.reference
    if count is None:
        return np.asarray(source.pixels), f"all {len(source.pixels)} training images of {name}"
    if settings.prompts:
        pixels = data.module(settings.data).prompt_set(settings.prompts, count).pixels
        return pixels, f"the pictures of the first {count} prompts {settings.prompts} of {name}"
    drawn = source.sample(count, torch.Generator().manual_seed(DRAW_SEED))
    return source.to_uint8(drawn).numpy(), f"{count} images drawn from {name}, as in training"


def _checksum(images: np.ndarray | Pictures) -> str:
    """The first digits of the SHA-256 of images, which may be decoded only as they are read."""
    digest = hashlib.sha256()
    for start in range(0, len(images), BLOCK):
        digest.update(np.ascontiguousarray(images[start : start + BLOCK]).tobytes())
    return digest.hexdigest()[:16]


def _weights_digest(weights: Iterable[Tensor]) -> str:
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in weights)).hexdigest()[:8]


def _extractor(
    preparation: FeaturePreparation, network: Classifier | None, deviations: Tensor | None = None
) -> Extractor:
    """The features of a classifier, or of Inception where there is none."""
    if network is None:
        folder = folder_of("inception")
        return channel_means() if stand_in.is_marked(folder) else inception(folder / INCEPTION)
    digest = _weights_digest(network.state_dict().values())
    name = f"classifier of {preparation.settings.data} (sha256 {digest}), each feature over its deviation"
    return Extractor(name, OnLevels(network, preparation.source.top, deviations))


def _deviations(values: np.ndarray) -> np.ndarray:
    """The deviation of each feature over the reference (count, dim); 1 where a feature is constant."""
    found = values.std(0)
    return np.where(found > 0, found, 1.0)


def _train_classifier(preparation: FeaturePreparation, path: Path) -> float:
    """Train the classifier and write it to `path`; returns its accuracy on unseen images."""
    settings, images = preparation.settings, data.module(preparation.settings.data).labelled()
    with Progress(settings.steps, f"training the classifier of {settings.data}") as bar, one_thread():
        network = train_classifier(*images[:2], settings.steps, settings.seed, tick=bar.update)
        right = accuracy(network, *images[2:])
    info = {"shape": list(preparation.source.shape), "classes": network.out.out_features}
    save_checkpoint(path, network.state_dict(), info)
    return right


def _read(path: Path, *names: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The checkpoint in `path`; raises CheckpointError also where its header lacks one of `names`."""
    tensors, info = load_checkpoint(path)
    if lacking := [name for name in names if name not in info]:
        problem = f"{path} holds another network: its header names no {lacking[0]}"
        raise CheckpointError(f"{problem}; delete it and run `dvc repro` again")
    return tensors, info


def _load_classifier(path: Path) -> Classifier:
    tensors, info = _read(path, "shape", "classes")
    network = Classifier(tuple(info["shape"]), info["classes"])
    load_weights(network, tensors, path)
    return network.requires_grad_(False).eval()


def _train_probe(preparation: FeaturePreparation, path: Path) -> None:
    """Train the probe on pictures of all that the data set can show; write it with its accuracy on others."""
    from ..networks import probe  # here, and not above: it belongs to one data set

    settings, module = preparation.settings, data.module(preparation.settings.data)
    pictures, unseen = module.all_pairs(PROBE_PICTURES, 0), module.all_pairs(PROBE_UNSEEN, 1)
    with Progress(settings.probe_steps, f"training the probe of {settings.data}") as bar, one_thread():
        images, others = (to_signed(torch.from_numpy(drawn.pixels)) for drawn in (pictures, unseen))
        how = (settings.probe_steps, settings.seed)
        network = probe.train_probe(images.numpy(), pictures.scenes, *how, tick=bar.update)
        right, stated = judge(unseen.captions, probe.read(network, others))
    info = {"data": settings.data, "accuracy": float(right.sum() / stated.sum()), "pictures": PROBE_UNSEEN}
    save_checkpoint(path, network.state_dict(), info)


def prepare(preparation: FeaturePreparation) -> dict:
    """Train the classifier, or copy another entry's, compute the data's features, and describe them.

    Writes features/<name>/ below the tier's artifacts: classifier.safetensors, probe.safetensors,
    features.npy and the description. Keys: data, images, features, extractor, accuracy (of the classifier
    on images that it has not seen, or None), checksum.
    """
    settings, folder = preparation.settings, preparation.output
    classified, right = settings.extractor == "classifier", None
    if classified and settings.classifier_of:
        other = replace(preparation, name=settings.classifier_of)
        for name in (CLASSIFIER, PROBE) if settings.probe_steps else (CLASSIFIER,):
            write_atomically(folder / name, (other.folder / name).read_bytes())
        right = other.description["accuracy"]
    elif classified:
        right = _train_classifier(preparation, folder / CLASSIFIER)
    if settings.probe_steps and not settings.classifier_of:
        _train_probe(preparation, folder / PROBE)
    images, split = _images(settings)
    extractor = _extractor(preparation, _load_classifier(folder / CLASSIFIER) if classified else None)
    with one_thread(), enough_memory(f"measuring {settings.data} in features", MORE_MEMORY):
        features = extract(images, extractor, device=preparation.device)
    np.save(folder / VALUES, features.values.astype(np.float32))
    description = {"data": settings.data, "images": split, "features": features.values.shape[1]}
    description |= {"extractor": extractor.name, "accuracy": right, "checksum": _checksum(images)}
    return preparation.describe(description)


def load(preparation: FeaturePreparation) -> Reference:
    """What `prepare` wrote; raises FileNotFoundError, naming the cure, or CheckpointError for damage."""
    folder, own = preparation.folder, preparation.description
    classified = preparation.settings.extractor == "classifier"
    network = _load_classifier(folder / CLASSIFIER) if classified else None
    try:
        values = np.load(folder / VALUES).astype(np.float64)
    except (OSError, ValueError, EOFError) as error:
        cure = "delete it and run `dvc repro` again"
        raise CheckpointError(f"{folder / VALUES} is damaged ({type(error).__name__}): {cure}") from None
    if network is not None:
        deviations = _deviations(values)
        extractor = _extractor(preparation, network, torch.from_numpy(deviations).float())
        return Reference(extractor, values / deviations, own["images"], own["checksum"])
    return Reference(_extractor(preparation, None), values, own["images"], own["checksum"])


def probe_file(preparation: FeaturePreparation) -> Path | None:
    """The probe's file, if the entry has one; raises FileNotFoundError, naming the cure, before training."""
    name = f"{preparation.OUTPUT}/{preparation.name}/{PROBE}"
    return preparation.workspace.read(name) if preparation.settings.probe_steps else None


@cache
def load_probe(path: Path) -> nn.Module:
    """The probe stored in `path`; raises CheckpointError for damage."""
    from ..networks.probe import Probe

    network = Probe()
    load_weights(network, _read(path, "accuracy")[0], path)
    return network.requires_grad_(False).eval()


def probe_name(path: Path) -> str:
    """A name that identifies the probe in `path`, for the evaluation protocol."""
    tensors, info = _read(path, "data", "accuracy", "pictures")
    digest, right = _weights_digest(tensors[name] for name in sorted(tensors)), 100 * info["accuracy"]
    name = f"probe of {info['data']} (sha256 {digest})"
    return f"{name}, {right:.1f} % right on {info['pictures']} other pictures"


def as_table(description: dict) -> pd.DataFrame:
    """What `prepare` returned, rounded, one row a fact."""
    right = description["accuracy"]
    facts = {
        "data": description["data"],
        "measured against": description["images"],
        "features": description["features"],
        "extractor": description["extractor"].partition(" (")[0],
        "accuracy on unseen images": None if right is None else f"{100 * right:.1f} %",
    }
    return fact_table(facts)


def some_images(preparation: FeaturePreparation, count: int) -> np.ndarray:
    """`count` images of the data, (count, channels, height, width), float32 in [-1, 1], always the same."""
    return preparation.sample(count).numpy()
