"""Untrained networks, always the same, in the formats of the published ones, marked as a rehearsal's."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from .. import networks
from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import AutoencoderKL  # isort: skip
from transformers import CLIPConfig, CLIPModel

from ..networks import clip_files, tokens
from ..networks.published import conversion
from ..settings.prepared import PUBLISHED, SCALE
from ..storage import stand_in
from ..storage.files import write_json
from . import tiny_archives

SEED = tiny_archives.SEED
# the levels of Stable Diffusion's autoencoder (83.7M weights), and of one that takes a sixteenth of its time
AUTOENCODER, NARROW_AUTOENCODER = (128, 256, 512, 512), (32, 64, 128, 128)
# pictures on which the spread of latents is looked at, and their side
LOOKED_AT, SIDE = 4, 64
# the tokens that there are here
VOCABULARY = 560
# channels of pictures as OpenAI's CLIPs take them, roughly: levels in [0, 1]
PREPARATION = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED + seed)
        yield


def autoencoder_model(channels: Sequence[int] = AUTOENCODER) -> AutoencoderKL:
    """An untrained autoencoder of Stable Diffusion's kind; `channels` of its levels, the finest first."""
    with _seeded(0):
        return AutoencoderKL(
            block_out_channels=tuple(channels), layers_per_block=2, latent_channels=PUBLISHED[0],
            norm_num_groups=32, sample_size=256,
            down_block_types=("DownEncoderBlock2D",) * len(channels),
            up_block_types=("UpDecoderBlock2D",) * len(channels),
        )  # fmt: skip


@torch.no_grad()
def autoencoder(folder: Path, channels: Sequence[int] = AUTOENCODER) -> None:
    """An untrained autoencoder in `folder`, in diffusers' format, whose latents spread as published ones."""
    model = autoencoder_model(channels)
    # latents, times the published scale, have a standard deviation of 1: those of another would be refused
    pictures = tiny_archives.levels(LOOKED_AT, (SIDE, SIDE), 700)
    found = model.encode(pictures / 127.5 - 1).latent_dist
    factor = ((SCALE**-2 - found.std.square().mean()) / found.mean.var(unbiased=False)).sqrt()
    half = len(model.quant_conv.weight) // 2
    model.quant_conv.weight[:half] *= factor
    model.quant_conv.bias[:half] *= factor
    model.save_pretrained(folder, safe_serialization=True)
    stand_in.mark(folder)


def clip(folder: Path, width: int, towers: str) -> None:
    """An untrained CLIP of two layers in `folder`, in transformers' format, token states `width` wide.

    `towers` is "both", or "text" for the text encoder of a text-to-image model. Its tokenizer is one of the
    captions of a rehearsal, which knows all bytes.
    """
    words = tokens.train(tiny_archives.captions(), VOCABULARY, tiny_archives.TOKENS)
    marks = {"bos": words.vocabulary[tokens.START], "eos": words.end, "pad": words.vocabulary[words.filling]}
    text: dict[str, int] = {f"{name}_token_id": mark for name, mark in marks.items()}
    text |= {"vocab_size": len(words.vocabulary), "max_position_embeddings": words.length}
    text |= {"hidden_size": width, "intermediate_size": 4 * width}
    vision = {"hidden_size": 64, "intermediate_size": 256, "image_size": 224, "patch_size": 32}
    common = {"projection_dim": 64, "num_hidden_layers": 2, "num_attention_heads": 1}
    with _seeded(0):
        sizes = {"text_config": text | common, "vision_config": vision | common, "projection_dim": 64}
        model = CLIPModel(CLIPConfig(**sizes))
    own, vocabulary = (folder / place for place in clip_files.PLACES[towers])
    (model if towers == "both" else model.text_model).save_pretrained(own)
    tokens.write(words, vocabulary)
    write_json(vocabulary / tokens.CONFIG, {"pad_token": words.filling, "model_max_length": words.length})
    if towers == "both":
        write_json(folder / clip_files.PREPARATION, PREPARATION)
    stand_in.mark(folder)


def weights(path: Path, network: Mapping[str, Any], shape: Sequence[int], seed: int) -> None:
    """Untrained weights of a flow map, of settings `network` for points of `shape`, as a conversion's.

    Convolutions that are built of zeros, to start from nothing, are drawn too: they would teach nothing.
    """
    with _seeded(seed):
        flow_map = networks.build(network, tuple(shape))
        for layer in flow_map.modules():
            if isinstance(layer, nn.Conv2d) and not layer.weight.any():
                layer.reset_parameters()
    stand_in.mark(path.parent)
    # the file that says what they are stands for the published one that they come from
    source, said = path.parent / stand_in.FILE, {"says": stand_in.SAYS}
    conversion.save(flow_map, source, path, network, shape, "a rehearsal's stand-in", said)
