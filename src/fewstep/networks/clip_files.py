"""A CLIP in the folder where a stage has trained it, or has found a published one and described it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from . import tokens
from .clip import Clip, small
from .published.clip import published

# what a stage writes beside the tokenizer's two files: the weights, and what it has to say of them
TRAINED, DESCRIBED = "clip.safetensors", "described.json"


def save(network: Clip, folder: Path, info: Mapping[str, Any]) -> None:
    """Write a CLIP that was trained here to `folder`: its tokenizer's files, then its weights.

    `info` goes with the weights: it says under `network` the sizes that `small` takes, and `shape`, what the
    images are.
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


def read_described(folder: Path) -> dict[str, Any]:
    """What a stage has said of the CLIP in `folder`.

    Raises FileNotFoundError, naming the cure, where none has, and CheckpointError for a damaged file.
    """
    path = folder / DESCRIBED
    if not path.is_file():
        cure = "run `dvc repro`, or the notebook that trains the CLIP, first"
        raise FileNotFoundError(f"{path} is not there: {cure}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        found["checksum"]
    except (ValueError, KeyError, TypeError):
        cure = "delete it and run `dvc repro` again"
        raise CheckpointError(f"{path} is damaged, or describes no CLIP: {cure}") from None
    return found


def load(folder: Path, device: str | torch.device = "cpu") -> Clip:
    """The CLIP, frozen, that a stage has trained in `folder`, or found and described there.

    Raises as `read_described`, as `trained`, and as `published` for a published one that is not the described
    one.
    """
    described = read_described(folder)
    if "repository" in described:
        return published(described["repository"], described["towers"], described["checksum"])[0].to(device)
    return trained(folder).to(device)
