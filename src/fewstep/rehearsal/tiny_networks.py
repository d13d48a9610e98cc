"""Untrained networks in the formats in which the published ones come: an autoencoder, a CLIP and the weights of flows, for rehearsals.

As fewstep.rehearsal.tiny_archives makes pictures: always the same, where the published files would lie, each folder marked as a rehearsal's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from .. import networks
from ..networks import torchvision_operators  # noqa: F401 - before diffusers
from ..storage import stand_in
from . import tiny_archives, tiny_captioned

from diffusers import AutoencoderKL  # isort: skip
from transformers import CLIPConfig, CLIPModel  # isort: skip
from transformers.utils import logging

from ..networks import tokens
from ..networks.published import clip as published_clip
from ..networks.published import conversion
from ..settings.latents import PUBLISHED, SCALE
from ..storage.files import write_atomically

if TYPE_CHECKING:
    from ..networks.tokens import Tokenizer

SEED = 4_000_037
# the levels of Stable Diffusion's autoencoder (83.7M weights), and of one that takes a sixteenth of its time
AUTOENCODER, NARROW_AUTOENCODER = (128, 256, 512, 512), (32, 64, 128, 128)
# pictures on which the spread of latents is looked at, and their side
LOOKED_AT, SIDE = 4, 64
# the towers of openai/clip-vit-large-patch14 (428M weights): all that takes time of them but the words that there are
LARGE = {
    "text": {
        "hidden_size": 768,
        "intermediate_size": 3072,
        "num_hidden_layers": 12,
        "num_attention_heads": 12,
    },
    "vision": {
        "hidden_size": 1024,
        "intermediate_size": 4096,
        "num_hidden_layers": 24,
        "num_attention_heads": 16,
        "image_size": 224,
        "patch_size": 14,
    },
    "projection": 768,
}
# the context of every CLIP of OpenAI's, and what a stand-in knows of words
TOKENS, VOCABULARY = 77, 560
# channels of pictures as OpenAI's CLIPs take them, roughly: levels in [0, 1]
PREPARATION = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}


def autoencoder_model(channels: Sequence[int] = AUTOENCODER) -> AutoencoderKL:
    """An untrained autoencoder of Stable Diffusion's kind, with levels of so many `channels`, the finest first."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return AutoencoderKL(
            block_out_channels=tuple(channels), layers_per_block=2, latent_channels=PUBLISHED[0], norm_num_groups=32, sample_size=256,
            down_block_types=("DownEncoderBlock2D",) * len(channels), up_block_types=("UpDecoderBlock2D",) * len(channels),
        )  # fmt: skip


@torch.no_grad()
def _spread(model: AutoencoderKL) -> None:
    """Bring the latents of pictures, times the published scale, to a standard deviation of 1: those of another would be refused."""
    pictures = tiny_archives.levels(LOOKED_AT, (SIDE, SIDE), 700)
    found = model.encode(pictures / 127.5 - 1).latent_dist
    factor = ((SCALE**-2 - found.std.square().mean()) / found.mean.var(unbiased=False)).sqrt()
    half = len(model.quant_conv.weight) // 2
    model.quant_conv.weight[:half] *= factor
    model.quant_conv.bias[:half] *= factor


def autoencoder(folder: Path, channels: Sequence[int] = AUTOENCODER) -> None:
    """An untrained autoencoder in `folder`, in diffusers' format, whose latents of pictures spread as the published one's do."""
    model = autoencoder_model(channels)
    _spread(model)
    model.save_pretrained(folder, safe_serialization=True)
    stand_in.mark(folder)


def tokenizer() -> Tokenizer:
    """A tokenizer of the captions of a rehearsal, which knows all bytes, for texts of 77 tokens."""
    return tokens.train(tiny_captioned.captions(), VOCABULARY, TOKENS)


def clip_model(
    words: Tokenizer, text: Mapping[str, int], vision: Mapping[str, int], projection: int
) -> CLIPModel:
    """An untrained CLIP with towers of the sizes that transformers calls so, of the texts of a tokenizer."""
    special = {
        "bos_token_id": words.vocabulary[tokens.START],
        "eos_token_id": words.end,
        "pad_token_id": words.vocabulary[words.filling],
    }
    known = {
        "vocab_size": len(words.vocabulary),
        "max_position_embeddings": words.length,
        "projection_dim": projection,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        return CLIPModel(
            CLIPConfig(
                text_config={**text, **special, **known},
                vision_config={**vision, "projection_dim": projection},
                projection_dim=projection,
            )
        )


def clip(folder: Path, width: int, towers: str) -> None:
    """An untrained CLIP of two layers in `folder`, in transformers' format: its texts are `width` numbers a token.

    `towers` is "both", or "text" for the text encoder of a text-to-image model.
    """
    words = tokenizer()
    text = {
        "hidden_size": width,
        "intermediate_size": width,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
    }
    vision = {
        "hidden_size": 64,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 1,
        "image_size": 224,
        "patch_size": 32,
    }
    model, (own, vocabulary) = (
        clip_model(words, text, vision, 64),
        (folder / place for place in published_clip.PLACES[towers]),
    )
    drawn = logging.is_progress_bar_enabled()
    try:
        logging.disable_progress_bar()
        (model if towers == "both" else model.text_model).save_pretrained(own)
    finally:
        if drawn:
            logging.enable_progress_bar()
    tokens.write(words, vocabulary)
    said = {vocabulary / tokens.CONFIG: {"pad_token": words.filling, "model_max_length": words.length}}
    if towers == "both":
        said[folder / published_clip.PREPARATION] = PREPARATION
    for path, content in said.items():
        write_atomically(path, (json.dumps(content, indent=1) + "\n").encode())
    stand_in.mark(folder)


def weights(path: Path, network: Mapping[str, Any], shape: Sequence[int], seed: int) -> None:
    """Untrained weights of a flow map as a conversion writes them to `path`: of the settings `network`, for samples of `shape`, drawn from `seed`.

    Where a network is built with convolutions of zeros, so that it starts from nothing, these are drawn too: it would teach nothing.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + seed)
        flow_map = networks.build(network, tuple(shape))
        for layer in flow_map.modules():
            if isinstance(layer, nn.Conv2d) and not layer.weight.any():
                layer.reset_parameters()
    stand_in.mark(path.parent)
    # the file that the weights come from, in the place of the published one, is the one that says what they are
    conversion.save(
        flow_map,
        path.parent / stand_in.FILE,
        path,
        network,
        shape,
        "a rehearsal's stand-in",
        {"says": stand_in.SAYS},
    )
