"""Published CLIPs in the formats of transformers and of diffusers, found on this machine."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from .. import torchvision_operators  # noqa: F401 - before diffusers

from transformers import CLIPModel, CLIPTextModel  # isort: skip
from transformers.utils import logging

from .. import tokens
from ..clip import ATTENTION, Clip, Preparation
from .repository import Repository
from .repository import checksum as checksum

CONFIG, WEIGHTS, PREPARATION = "config.json", "model.safetensors", "preprocessor_config.json"
# where the towers and the vocabulary lie, below the folder of a CLIP and of a text-to-image model in
# diffusers' format
PLACES = {"both": ("", ""), "text": ("text_encoder", "tokenizer")}
# SHA-256 of the weights as they were published
PUBLISHED = {
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


def check(repository: str, towers: str, checksums: bool = True) -> None:
    """Raise as `Repository.check` where the published CLIP `repository` is not as it was published."""
    repository_of(repository, towers).check(checksums)


def _model(folder: Path, kind: type[CLIPModel] | type[CLIPTextModel]) -> CLIPModel | CLIPTextModel:
    """The model in `folder`; raises ValueError, in one sentence, for files that do not hold one, whole."""
    # transformers draws a bar while it loads, and lists at length what it thinks of old names
    level, drawn = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        model, info = kind.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, attn_implementation=ATTENTION,
            dtype=torch.float32, output_loading_info=True,
        )  # fmt: skip
    except Exception as error:
        # whatever it was, a file is not what it should be: safetensors, json and transformers have errors of
        # many kinds
        reason = " ".join(str(error).split())[:200]
        found = f"holds no {kind.__name__} that transformers can load ({reason})"
        raise ValueError(f"{folder} {found}: download it again") from None
    finally:
        logging.set_verbosity(level)
        if drawn:
            logging.enable_progress_bar()
    # which position is which was once stored, and is no weight
    unknown = [name for name in info["unexpected_keys"] if not name.endswith("position_ids")]
    if kind is CLIPTextModel:
        # a text encoder may have been published with the projection that only a CLIP uses
        unknown = [name for name in unknown if not name.startswith("text_projection.")]
    odd = sorted([*info["missing_keys"], *unknown, *(entry[0] for entry in info["mismatched_keys"])])
    if odd:
        differ = f"'{odd[0]}' is in one and not, or otherwise, in the other"
        raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG} beside it: {differ}; download both again")
    return model


def _preparation(path: Path, side: int) -> Preparation:
    """What is done to images, as the published file says; the side is the tower's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (tuple(map(float, found[key])) for key in ("image_mean", "image_std"))
    except (ValueError, KeyError, TypeError) as error:
        found = f"does not say `image_mean` and `image_std` ({type(error).__name__})"
        raise ValueError(f"{path} {found}: download it again") from None
    return Preparation(side, mean, std)


def published(
    repository: str, towers: str = "both", expected: str | None = None
) -> tuple[Clip, dict[str, str]]:
    """The published CLIP `repository`, frozen, with the `checksum` of its weights and where it was `found`.

    `towers` is "both", or "text" for the text encoder of a text-to-image model. Raises as `Repository.find`
    and, for weights that are not `expected`, `Repository.verified`; ValueError for files that do not hold a
    CLIP; TokenizerError for a damaged vocabulary.
    """
    own, both = repository_of(repository, towers), towers == "both"
    folder, words = own.find()
    place, vocabulary = (folder / name for name in PLACES[towers])
    found = own.verified(folder, expected)
    model = _model(place, CLIPModel if both else CLIPTextModel)
    config = model.config.text_config if both else model.config
    tokenizer = tokens.read(vocabulary, config.max_position_embeddings, "download it again")
    if len(tokenizer.vocabulary) != config.vocab_size:
        counts = f"holds {len(tokenizer.vocabulary)} tokens and the CLIP knows {config.vocab_size}"
        raise ValueError(f"{vocabulary / tokens.VOCABULARY} {counts}: download both again")
    preparation = _preparation(folder / PREPARATION, model.config.vision_config.image_size) if both else None
    described = {"clip": own.title(folder), "repository": repository, "towers": towers}
    described |= {"checksum": found, "found": words}
    return Clip(model, tokenizer, preparation).requires_grad_(False).eval(), described
