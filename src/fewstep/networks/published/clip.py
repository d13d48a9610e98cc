"""Published CLIPs, in the formats of transformers and of diffusers, found on this machine and never fetched."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import torch
from huggingface_hub import try_to_load_from_cache

from ...storage import stand_in
from .. import torchvision_operators  # noqa: F401 - before diffusers

from transformers import CLIPModel, CLIPTextModel  # isort: skip
from transformers.utils import logging

from ...data.formats.archives import ENVIRONMENT, folder_of
from .. import tokens
from ..clip import ATTENTION, Clip, Preparation

CONFIG, WEIGHTS, PREPARATION = "config.json", "model.safetensors", "preprocessor_config.json"
# where the towers and the vocabulary lie, below the folder of a CLIP and of a text-to-image model in diffusers' format
PLACES = {"both": ("", ""), "text": ("text_encoder", "tokenizer")}
# SHA-256 of the weights as they were published
PUBLISHED = {
    "openai/clip-vit-large-patch14": "a2bf730a0c7debf160f7a6b50b3aaf3703e7e88ac73de7a314903141db026dcb"
}


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def wanted(towers: str) -> list[str]:
    """The files that are read, below the folder of a published CLIP."""
    model, vocabulary = (Path(place) for place in PLACES[towers])
    own = [
        model / CONFIG,
        model / WEIGHTS,
        vocabulary / tokens.VOCABULARY,
        vocabulary / tokens.MERGES,
        vocabulary / tokens.CONFIG,
    ]
    return [path.as_posix() for path in (*own, *([Path(PREPARATION)] if towers == "both" else []))]


def find(repository: str, towers: str) -> tuple[Path, str]:
    """The folder of the published CLIP `repository` (owner/name), and where that is in words.

    It is a folder beside the data sets, or in the hub's cache; the network is never asked. Raises FileNotFoundError,
    saying what to fetch and where to put it.
    """
    folder, names = folder_of(repository.partition("/")[2]), wanted(towers)
    absent = [name for name in names if not (folder / name).is_file()]
    if not absent:
        return folder, f"the folder {folder.name} beside the data"
    cached = [try_to_load_from_cache(repository, name) for name in names]
    if all(isinstance(path, str) for path in cached):
        snapshot = Path(cached[0].removesuffix(names[0]))
        return snapshot, f"the hub's cache, revision {snapshot.name}"
    raise FileNotFoundError(
        f"the CLIP {repository} is not in {folder}: download {', '.join(absent)} from https://huggingface.co/{repository} to that folder "
        f"(fewstep never does), set {ENVIRONMENT} to the folder that holds '{folder.name}', or fill the hub's cache with `hf download {repository}`"
    )


def check(repository: str, towers: str, checksums: bool = True) -> None:
    """Raise as `find`, and ValueError where (with `checksums`) the weights are not the published ones, as far as those are on record."""
    folder, _ = find(repository, towers)
    if stand_in.is_marked(folder):
        raise ValueError(
            f"{folder} holds a rehearsal's CLIP ({stand_in.FILE} says so): put {repository} in its place"
        )
    if checksums:
        _verified(
            folder / PLACES[towers][0] / WEIGHTS,
            PUBLISHED.get(repository) if towers == "both" else None,
            repository,
        )


def _verified(path: Path, expected: str | None, repository: str) -> str:
    """The checksum of the weights in `path`; raises ValueError where it is not the expected one."""
    found = checksum(path)
    if expected not in (None, found):
        raise ValueError(
            f"{path} has SHA-256 {found} and not {expected}: it was not loaded; delete it and download it from https://huggingface.co/{repository} again"
        )
    return found


def _model(folder: Path, kind: type[CLIPModel] | type[CLIPTextModel]) -> CLIPModel | CLIPTextModel:
    """The model in `folder`; raises ValueError, in one sentence, for files that do not hold one, whole."""
    # transformers draws a bar while it loads, and lists at length what it thinks of old names
    level, drawn = logging.get_verbosity(), logging.is_progress_bar_enabled()
    try:
        logging.set_verbosity(logging.CRITICAL)
        logging.disable_progress_bar()
        model, info = kind.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            attn_implementation=ATTENTION,
            dtype=torch.float32,
            output_loading_info=True,
        )
    except Exception as error:
        # whatever it was, a file is not what it should be: safetensors, json and transformers have errors of many kinds
        raise ValueError(
            f"{folder} holds no {kind.__name__} that transformers can load ({' '.join(str(error).split())[:200]}): download it again"
        ) from None
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
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG} beside it: '{odd[0]}' is in one and not, or otherwise, in the other; download both again"
        )
    return model


def _preparation(path: Path, side: int) -> Preparation:
    """What is done to images, as the published file says; the side is the tower's."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        mean, std = (tuple(map(float, found[key])) for key in ("image_mean", "image_std"))
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not say `image_mean` and `image_std` ({type(error).__name__}): download it again"
        ) from None
    return Preparation(side, mean, std)


def published(
    repository: str, towers: str = "both", expected: str | None = None
) -> tuple[Clip, dict[str, str]]:
    """The published CLIP `repository`, frozen, with the `checksum` of its weights and where it was `found`.

    `towers` is "both", or "text" for the text encoder of a text-to-image model. Raises as `find`; ValueError for weights
    whose checksum is not `expected`, or not the published one where that is on record and this is no rehearsal, and for
    files that do not hold a CLIP; TokenizerError for a damaged vocabulary.
    """
    folder, words = find(repository, towers)
    place, vocabulary = (folder / name for name in PLACES[towers])
    on_record = None if towers == "text" or stand_in.is_marked(folder) else PUBLISHED.get(repository)
    found = _verified(place / WEIGHTS, expected or on_record, repository)
    model = _model(place, CLIPModel if towers == "both" else CLIPTextModel)
    config = model.config.text_config if towers == "both" else model.config
    tokenizer = tokens.read(vocabulary, config.max_position_embeddings, "download it again")
    if len(tokenizer.vocabulary) != config.vocab_size:
        raise ValueError(
            f"{vocabulary / tokens.VOCABULARY} holds {len(tokenizer.vocabulary)} tokens and the CLIP knows {config.vocab_size}: download both again"
        )
    preparation = (
        _preparation(folder / PREPARATION, model.config.vision_config.image_size)
        if towers == "both"
        else None
    )
    name = f"a rehearsal's stand-in for {repository}" if stand_in.is_marked(folder) else repository
    described = {"clip": name, "repository": repository, "towers": towers, "checksum": found, "found": words}
    return Clip(model, tokenizer, preparation).requires_grad_(False).eval(), described
