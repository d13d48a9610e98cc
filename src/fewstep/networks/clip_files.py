"""A CLIP in the folder where a stage has trained it, or has found a published one and described it."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch

from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from . import tokens
from .clip import Clip, small
from .published.clip import published
from .published.repository import DESCRIBED as DESCRIBED
from .published.repository import read_description

TRAINED = "clip.safetensors"


def save(network: Clip, folder: Path, info: Mapping[str, Any]) -> None:
    """Write a CLIP that was trained here to `folder`: its tokenizer's files, then its weights with `info`.

    `info` holds the sizes that `small` takes as `network`, and the images' `shape`.
    """
    tokens.write(network.tokenizer, folder)
    held = {"length": network.length, "tokenizer": network.tokenizer.checksum}
    save_checkpoint(folder / TRAINED, network.model.state_dict(), {**info, **held})


def trained(folder: Path) -> Clip:
    """The CLIP, frozen, that `save` wrote to `folder`.

    Raises CheckpointError for weights that are missing, damaged or foreign, and for a vocabulary that is not
    theirs; TokenizerError for a vocabulary that is missing or damaged.
    """
    path = folder / TRAINED
    weights, info = load_checkpoint(path)
    if not {"network", "shape", "length", "tokenizer"} <= set(info) or "vocabulary" not in info["network"]:
        raise CheckpointError(f"{path} is no trained CLIP: its header names no towers")
    tokenizer = tokens.read(folder, info["length"])
    if tokenizer.checksum != info["tokenizer"]:
        other = f"another vocabulary than {tokens.VOCABULARY} and {tokens.MERGES} beside it"
        raise CheckpointError(f"{path} was trained with {other}: delete them and run `dvc repro` again")
    sizes = {name: info["network"][name] for name in ("width", "layers", "heads", "patch", "projection")}
    with torch.random.fork_rng(devices=[]):
        network = small(info["shape"], tokenizer, **sizes)
    load_weights(network.model, weights, path)
    return network.requires_grad_(False).eval()


read_described = partial(read_description, kind="CLIP")


def load(folder: Path, device: str | torch.device = "cpu") -> Clip:
    """The CLIP, frozen, that a stage has trained in `folder`, or found and described there.

    Raises as `read_description`, `trained` and, for a published one, `published`.
    """
    described = read_described(folder)
    if "repository" in described:
        return published(described["repository"], described["towers"], described["checksum"])[0].to(device)
    return trained(folder).to(device)
