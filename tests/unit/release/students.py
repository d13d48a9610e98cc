"""The students of these tests: one of each kind, their weights random, written as a training writes them."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from torch import nn

from fewstep import networks, sampling
from fewstep.checkpoint import save_checkpoint
from fewstep.networks import autoencoder

NETWORK = {"kind": "unet", "channels": [8, 8], "layers": 1, "attention": [False, True], "groups": 4, "time_scale": 10.0, "dropout": 0.0}
PIXELS, FACES = "selfdistill-cifar10", "scflow-celebahq"
# one of each: pixels and latents, jumps and Euler steps
STUDENTS = ((PIXELS, "lsd"), ("fmm-cifar10", "si"), (FACES, "scflow"), (FACES, "lmd"))
# more than a chunk, and no multiple of one
COUNT, STEPS = sampling.IMAGES + 6, (1, 3)


def weights(path: Path, shape: tuple[int, ...]) -> None:
    """A trained flow map as a training writes it, its weights random, the last layer's too."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(path.parts[-2]))
        built = networks.build(NETWORK, shape)
        nn.init.normal_(built.network.model.conv_out.weight, std=0.1)
    info = {"fingerprint": "0123456789abcdef", "network": NETWORK, "shape": list(shape)}
    save_checkpoint(path, {f"weights.{name}": value for name, value in built.state_dict().items()}, info)


def latents(place: Path) -> None:
    """Latents and their autoencoder as their stages leave them: 3 x 8 x 8 images, 4 x 4 x 4 latents, scale 0.7."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = autoencoder.small((3, 8, 8), [8, 8], 1, 4, 4)
    sizes = {"channels": [8, 8], "layers": 1, "groups": 4, "latent_channels": 4}
    save_checkpoint(place / "autoencoder" / autoencoder.TRAINED, network.state_dict(), {"network": sizes, "shape": [3, 8, 8]})
    (place / "autoencoder" / autoencoder.DESCRIBED).write_text(json.dumps({"checksum": "abc"}))
    described = {"data": "faces", "count": 6, "mirrored": False, "shape": [3, 8, 8], "top": 255, "latents": [4, 4, 4], "scale": 0.7, "autoencoder": "abc"}
    (place / "described.json").write_text(json.dumps(described))
    moments = np.random.default_rng(0).normal(size=(6, 8, 4, 4)).astype(np.float32)
    moments[:, 4:] = 0.1
    np.save(place / "moments.npy", moments)
