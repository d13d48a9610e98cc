"""A CLIP in its files: trained here, or published in the formats of transformers and of diffusers."""

from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from transformers.utils import logging

from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights, save_checkpoint
from ..storage.files import checksum as checksum
from ..storage.files import mapping
from . import tokens
from .clip import ATTENTION, Clip, CLIPModel, CLIPTextModel, Preparation, small
from .published.repository import DESCRIBED as DESCRIBED
from .published.repository import Repository, load_model, read_description

TRAINED = "clip.safetensors"
CONFIG, WEIGHTS, PREPARATION = "config.json", "model.safetensors", "preprocessor_config.json"
# where towers and vocabulary lie in the folder of a CLIP, and of a text-to-image model in diffusers' format
PLACES = {"both": ("", ""), "text": ("text_encoder", "tokenizer")}
PUBLISHED = {  # SHA-256 of the weights as they were published
    "openai/clip-vit-large-patch14": "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"
}


def repository_of(name: str, towers: str) -> Repository:
    """The published CLIP `name` (owner/name) on this machine, of both towers or the text encoder alone."""
    model, vocabulary = (Path(place) for place in PLACES[towers])
    files = [model / CONFIG, model / WEIGHTS]
    files += [vocabulary / file for file in (tokens.VOCABULARY, tokens.MERGES, tokens.CONFIG)]
    files += [Path(PREPARATION)] if towers == "both" else []
    on_record = PUBLISHED.get(name) if towers == "both" else None
    names = [path.as_posix() for path in files]
    return Repository(name, "CLIP", tuple(names), names[1], on_record)


def _model(folder: Path, kind: type[CLIPModel] | type[CLIPTextModel]) -> CLIPModel | CLIPTextModel:
    """The model in `folder`, loaded without a bar; raises as `load_model`."""

    def unused(name: str) -> bool:
        # which position is which was once stored, and a text encoder with the projection that a CLIP uses
        return name.endswith("position_ids") or kind is CLIPTextModel and name.startswith("text_projection.")

    drawn = logging.is_progress_bar_enabled()
    settings = {"attn_implementation": ATTENTION, "dtype": torch.float32}
    try:
        logging.disable_progress_bar()
        return load_model(kind, folder, WEIGHTS, kind.__name__, unused, **settings)
    finally:
        if drawn:
            logging.enable_progress_bar()


def _preparation(path: Path, side: int) -> Preparation:
    """What is done to images, as the published file says; the side is the tower's."""
    found = mapping(path, "download it again")
    with suppress(ValueError, KeyError, TypeError):
        mean, std = (tuple(map(float, found[key])) for key in ("image_mean", "image_std"))
        if len(mean) == len(std) == 3 and min(std) > 0:
            return Preparation(side, mean, std)
    wanted = "`image_mean` and `image_std`, three numbers each, those of the second above 0"
    raise ValueError(f"{path} does not say {wanted}: download it again")


def published(repository: str, towers: str = "both", expected: str | None = None) -> tuple[Clip, dict]:
    """The published CLIP `repository`, frozen, and its description.

    `towers` is "both", or "text" for the text encoder of a text-to-image model. Raises as `described`,
    ValueError for files that do not hold a CLIP, TokenizerError for a damaged vocabulary.
    """
    folder, found = repository_of(repository, towers).described(expected)
    place, vocabulary = (folder / name for name in PLACES[towers])
    both = towers == "both"
    model = _model(place, CLIPModel if both else CLIPTextModel)
    config = model.config.text_config if both else model.config
    tokenizer = tokens.read(vocabulary, config.max_position_embeddings, "download it again")
    if len(tokenizer.vocabulary) != config.vocab_size:
        counts = f"holds {len(tokenizer.vocabulary)} tokens and the CLIP knows {config.vocab_size}"
        raise ValueError(f"{vocabulary / tokens.VOCABULARY} {counts}: download both again")
    preparation = _preparation(folder / PREPARATION, model.config.vision_config.image_size) if both else None
    described = {"clip": found["clip"], "repository": repository, "towers": towers} | found
    return Clip(model, tokenizer, preparation).requires_grad_(False).eval(), described


def save(network: Clip, folder: Path, info: Mapping[str, Any]) -> None:
    """Write a trained CLIP: tokenizer, then weights with `info` (`network` as for `small`, `shape`)."""
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
    """The CLIP of `folder`, frozen; raises as `read_described`, `trained` or `published`."""
    described = read_described(folder)
    if "repository" in described:
        return published(described["repository"], described["towers"], described["checksum"])[0].to(device)
    return trained(folder).to(device)
