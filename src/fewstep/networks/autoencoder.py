"""Autoencoders of images, diffusers' AutoencoderKL: small and trained here, or a published one."""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import AutoencoderKL  # isort: skip
from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights
from .batches import filled
from .published.repository import Repository
from .published.repository import checksum as checksum

# what a published autoencoder consists of, and what describes one that a stage has trained or found
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
TRAINED, DESCRIBED = "autoencoder.safetensors", "described.json"
# SHA-256 of the weights as they were published
PUBLISHED = {"stabilityai/sd-vae-ft-mse": "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"}
# images that go through an autoencoder together, fewer where they are large
TOGETHER, PIXELS_TOGETHER = 32, 2**20
# log variance that an untrained encoder starts near: with the usual 0 the noise drowns what the latents say,
# and the first minutes of a training go into silencing it
QUIET = -4.0


class Autoencoder(nn.Module):
    """Images (batch, channels, height, width) in [-1, 1] to moments of Gaussian latents, and back.

    With a `bypass` the first latent channels are the shrunken image plus what the model adds to it, and a
    decoded image is these channels enlarged plus what the model adds: a training need not discover colours
    first.
    """

    def __init__(self, model: AutoencoderKL, bypass: bool = False):
        super().__init__()
        self.model, self.bypass = model, bypass

    @property
    def factor(self) -> int:
        """How many times smaller latents are than images, along each side."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """Latents' shape for images of `shape` (channels, height, width); raises ValueError for others."""
        channels, height, width = shape
        if channels != self.model.config.in_channels or height % self.factor or width % self.factor:
            wanted = f"{self.model.config.in_channels} channels whose sides are divisible by {self.factor}"
            raise ValueError(f"the autoencoder takes images of {wanted}, not {tuple(shape)}")
        return self.model.config.latent_channels, height // self.factor, width // self.factor

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of latents, each (batch, latent channels, height / factor, width / factor)."""
        found = self.model.encode(images).latent_dist
        if not self.bypass:
            return found.mean, found.std
        others = (0, 0, 0, 0, 0, found.mean.shape[1] - images.shape[1])
        return found.mean + F.pad(F.avg_pool2d(images, self.factor), others), found.std

    def decode(self, latents: Tensor) -> Tensor:
        """Images, about in [-1, 1], of latents that are not scaled."""
        images = self.model.decode(latents, return_dict=False)[0]
        if not self.bypass:
            return images
        colours = latents[:, : images.shape[1]]
        return images + F.interpolate(colours, scale_factor=self.factor, mode="bilinear")

    @torch.no_grad()
    def encode_many(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `encode`, without gradients, and the same bits for an image whatever others come with it."""
        parts = filled(images, _together(*images.shape[2:]))
        found = [[moment[:count] for moment in self.encode(part)] for part, count in parts]
        return torch.cat([mean for mean, _ in found]), torch.cat([std for _, std in found])

    @torch.no_grad()
    def decode_many(self, latents: Tensor) -> Tensor:
        """As `decode`, without gradients, and the same bits for an image whatever others come with it."""
        parts = filled(latents, _together(*(self.factor * side for side in latents.shape[2:])))
        return torch.cat([self.decode(part)[:count] for part, count in parts])


def _together(height: int, width: int) -> int:
    """How many images of this size go through an autoencoder together."""
    return max(min(TOGETHER, PIXELS_TOGETHER // (height * width)), 1)


def small(
    shape: Sequence[int], channels: Sequence[int], layers: int, groups: int, latent_channels: int
) -> Autoencoder:
    """An untrained autoencoder of images of `shape` (channels, height, width).

    `channels` gives the width of each level, from the finest to the coarsest; all but the last halve the
    image. Raises ValueError for images that the levels do not halve evenly, or of more channels than the
    latents.
    """
    if latent_channels < shape[0]:
        wanted = f"the shrunken image, which has {shape[0]}: give them as many at least"
        raise ValueError(f"latents of {latent_channels} channels do not hold {wanted}")
    levels = len(channels)
    model = AutoencoderKL(
        in_channels=shape[0], out_channels=shape[0], sample_size=shape[1], block_out_channels=tuple(channels),
        layers_per_block=layers, norm_num_groups=groups, latent_channels=latent_channels,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        # the coarsest level of a small image sees it whole without attention
        mid_block_add_attention=False,
    )  # fmt: skip
    with torch.no_grad():
        model.quant_conv.bias[latent_channels:] += QUIET
    network = Autoencoder(model, bypass=True)
    network.latent_shape(shape)
    return network


def published(name: str) -> Repository:
    """The published autoencoder `name` (owner/name) on this machine."""
    return Repository(name, "autoencoder", (CONFIG, WEIGHTS), WEIGHTS, PUBLISHED.get(name))


def check(repository: str, checksums: bool = True) -> None:
    """Raise as `Repository.check` where the published autoencoder `repository` is not as it was published."""
    published(repository).check(checksums)


def pretrained(repository: str, expected: str | None = None) -> tuple[Autoencoder, dict[str, str]]:
    """The published autoencoder `repository`, frozen, with its `checksum` and where it was `found`.

    Raises as `Repository.find` and, for weights that are not `expected`, `Repository.verified`; ValueError
    for files that do not hold an AutoencoderKL.
    """
    own = published(repository)
    folder, words = own.find()
    found = own.verified(folder, expected)
    # diffusers lists at length what it thinks of the names of old weights
    logger = logging.getLogger("diffusers")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        model, info = AutoencoderKL.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False,
            output_loading_info=True,
        )  # fmt: skip
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        found = f"holds no autoencoder that diffusers can load ({' '.join(str(error).split())[:200]})"
        raise ValueError(f"{folder} {found}: download it again") from None
    finally:
        logger.setLevel(level)
    if info["missing_keys"] or info["unexpected_keys"]:
        odd = [*info["missing_keys"], *info["unexpected_keys"]][0]
        differ = f"'{odd}' is in one and not in the other"
        raise ValueError(f"{folder / WEIGHTS} does not fit {CONFIG} beside it: {differ}; download both again")
    described = {"autoencoder": own.title(folder), "checksum": found, "found": words}
    return Autoencoder(model).requires_grad_(False).eval(), described


def read_described(folder: Path) -> dict[str, Any]:
    """What a stage has said of the autoencoder in `folder`; raises FileNotFoundError where none has."""
    path = folder / DESCRIBED
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run `dvc repro`, or the notebook 0-autoencoder, first")
    return json.loads(path.read_text(encoding="utf-8"))


def trained(path: Path) -> Autoencoder:
    """The autoencoder, frozen, that a stage has trained; raises CheckpointError for another file."""
    weights, info = load_checkpoint(path)
    if "network" not in info or "channels" not in info["network"]:
        raise CheckpointError(f"{path} is no trained autoencoder: its header names no network")
    sizes = {name: info["network"][name] for name in ("channels", "layers", "groups", "latent_channels")}
    network = small(info["shape"], **sizes)
    load_weights(network, weights, path)
    return network.requires_grad_(False).eval()


def load(folder: Path, device: str | torch.device = "cpu") -> Autoencoder:
    """The autoencoder, frozen, that a stage has trained in `folder`, or found and described there.

    Raises FileNotFoundError where it is gone, CheckpointError for a damaged file, ValueError for a published
    one that is not the described one.
    """
    described = read_described(folder)
    if "repository" in described:
        return pretrained(described["repository"], described["checksum"])[0].to(device)
    return trained(folder / TRAINED).to(device)
