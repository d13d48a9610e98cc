"""The students of these tests: one of each kind, their weights random, written as a training writes them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from fewstep import networks
from fewstep.data import scenes
from fewstep.evaluation import sample
from fewstep.networks import autoencoder, clip_files
from fewstep.settings import tiers
from fewstep.storage.checkpoint import save_checkpoint
from fewstep.storage.workspace import PIPELINE, Workspace
from fewstep.training import clip as contrastive
from fewstep.training.caption_pairs import Pairs

NETWORK = {
    "kind": "unet",
    "channels": [8, 8],
    "layers": 1,
    "attention": [False, True],
    "groups": 4,
    "time_scale": 10.0,
    "dropout": 0.0,
}
TEXT_NETWORK = {
    "kind": "text_unet",
    "channels": [8, 8],
    "layers": 1,
    "attention": [False, True],
    "heads": 2,
    "groups": 4,
    "time_scale": 10.0,
    "width": 16,
}
PIXELS, FACES, TEXTS = "selfdistill-cifar10", "scflow-celebahq", "scflow-coco2017"
# one of each: pixels and latents, jumps and Euler steps, conditioned on captions with guidance and without
STUDENTS = (
    (PIXELS, "lsd"),
    ("fmm-cifar10", "si"),
    (FACES, "scflow"),
    (FACES, "lmd"),
    (TEXTS, "si"),
    (TEXTS, "scflow"),
)
LATENTS = {FACES: "celebahq", TEXTS: "laion"}
# more than a chunk, and no multiple of one
COUNT, STEPS = sample.IMAGES + 6, (1, 3)


def trained(experiment: str, method: str) -> str:
    """Where the weights of a method lie below a tier's artifacts."""
    return f"{experiment}/{'teacher' if method == 'si' else 'students'}/{method}/seed-0.safetensors"


def weights(path: Path, shape: tuple[int, ...], network: dict = NETWORK) -> None:
    """A trained flow map as a training writes it, its weights random, the last layer's too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(path.parts[-2]))
        built = networks.build(network, shape)
        nn.init.normal_(built.network.model.conv_out.weight, std=0.1)
    info = {"fingerprint": "0123456789abcdef", "network": network, "shape": list(shape)}
    save_checkpoint(path, {f"weights.{name}": value for name, value in built.state_dict().items()}, info)


def reader(root: Path) -> contrastive.ClipPreparation:
    """The CLIP of the clone `root`, trained for four steps on 200 scenes."""
    drawn = scenes.draw(200, 0)
    pairs = Pairs(drawn.pixels, tuple(caption.text for caption in drawn.captions))
    settings = tiers.load(root / "params.yaml", "smoke").clip["captions"].model_copy(update={"steps": 4})
    maker = contrastive.ClipPreparation("captions", Workspace(root, "smoke"), settings, "cpu")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(PIPELINE, "1")
        patch.setattr(contrastive, "pairs_of", lambda name, which: pairs)
        patch.setattr(contrastive, "unseen_pairs", lambda name, count: {})
        contrastive.train(maker)
    return maker


def latents(place: Path, clip: contrastive.ClipPreparation | None = None) -> None:
    """Latents and their autoencoder as stages leave them: 3 x 8 x 8 images, 4 x 4 x 4 latents, scale 0.7.

    With captions where a `clip` reads them.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = autoencoder.small((3, 8, 8), [8, 8], 1, 4, 4)
    sizes = {"channels": [8, 8], "layers": 1, "groups": 4, "latent_channels": 4}
    save_checkpoint(
        place / "autoencoder" / autoencoder.TRAINED,
        network.state_dict(),
        {"network": sizes, "shape": [3, 8, 8]},
    )
    (place / "autoencoder" / autoencoder.DESCRIBED).write_text(
        json.dumps({"checksum": "abc"}), encoding="utf-8"
    )
    described = {
        "data": "faces",
        "count": 6,
        "mirrored": False,
        "shape": [3, 8, 8],
        "top": 255,
        "latents": [4, 4, 4],
        "scale": 0.7,
        "autoencoder": "abc",
        "checksum": "def",
    }
    if clip:
        read = contrastive.load(clip).text([*(caption.text for caption in scenes.draw(6, 0).captions), ""])
        np.save(place / "texts.npy", read.hidden.numpy())
        np.save(place / "masks.npy", read.mask.numpy())
        checksum = clip_files.read_described(clip.folder)["checksum"]
        described |= {
            "data": "scenes",
            "captions": {
                "clip": checksum,
                "tokens": read.hidden.shape[1],
                "width": read.hidden.shape[2],
                "cut": 0,
            },
        }
    (place / "described.json").write_text(json.dumps(described), encoding="utf-8")
    moments = np.random.default_rng(0).normal(size=(6, 8, 4, 4)).astype(np.float32)
    moments[:, 4:] = 0.1
    np.save(place / "moments.npy", moments)


EMPTY = ("sd", "sd_sampling", "published", "source")


def table(path: Path, columns: list[str]) -> None:
    """A table of the students that are conditioned on captions, its numbers all different."""
    rows = []
    for label, calls in (("SI", (1, 2, 8)), ("SCFlow", (1, 2, 4))):
        for metric in (
            "FID",
            "CLIP score",
            "attribute accuracy",
            "shape accuracy",
            "colour accuracy",
            "place accuracy",
        ):
            for n in calls:
                own = {
                    "experiment": TEXTS,
                    "table": TEXTS,
                    "method": label,
                    "metric": metric,
                    "nfe": n,
                    "tier": "smoke",
                    "value": f"{len(rows) + 0.25}",
                    "samples": "150",
                    "protocol": f"metric={metric}; prompts=coco2017",
                    "seeds": "1 training",
                }
                rows.append(dict.fromkeys(columns, "abc") | dict.fromkeys(EMPTY, "") | own)
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(rows)
