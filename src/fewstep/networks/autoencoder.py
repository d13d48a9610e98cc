"""Autoencoders of images, diffusers' AutoencoderKL: small and trained here, or a published one."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn
from torch.nn import functional as F

from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights
from ..storage.files import checksum as checksum
from . import filled
from .published.repository import DESCRIBED as DESCRIBED
from .published.repository import Repository, load_model, read_description

# what a published autoencoder consists of, and one that a stage has trained
CONFIG, WEIGHTS, TRAINED = "config.json", "diffusion_pytorch_model.safetensors", "autoencoder.safetensors"
# SHA-256 of the weights as they were published
PUBLISHED = {"stabilityai/sd-vae-ft-mse": "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"}
# images that go through an autoencoder together, fewer where they are large
TOGETHER, PIXELS_TOGETHER = 32, 2**20
# log variance that an untrained encoder starts near: with the usual 0 the noise drowns what the latents say
QUIET = -4.0


class Autoencoder(nn.Module):
    """Images (batch, channels, height, width) in [-1, 1] to moments of Gaussian latents, and back.

    Latents are smaller by `factor`, along each side. With a `bypass` the first latent channels are the
    shrunken image plus what the model adds, and a decoded image is these enlarged plus what the model adds.
    """

    def __init__(self, model: AutoencoderKL, bypass: bool = False):
        super().__init__()
        self.model, self.bypass = model, bypass
        self.factor = 2 ** (len(model.config.block_out_channels) - 1)

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
        parts = filled(images, TOGETHER, PIXELS_TOGETHER // images[0, 0].numel())
        means, stds = zip(*([moment[:count] for moment in self.encode(part)] for part, count in parts))
        return torch.cat(means), torch.cat(stds)

    @torch.no_grad()
    def decode_many(self, latents: Tensor) -> Tensor:
        """As `decode`, without gradients, and the same bits for an image whatever others come with it."""
        parts = filled(latents, TOGETHER, PIXELS_TOGETHER // (self.factor**2 * latents[0, 0].numel()))
        return torch.cat([self.decode(part)[:count] for part, count in parts])


def small(
    shape: Sequence[int], channels: Sequence[int], layers: int, groups: int, latent_channels: int
) -> Autoencoder:
    """An untrained autoencoder of images of `shape` (channels, height, width).

    `channels` gives the width of each level, from the finest to the coarsest; latents have as many channels
    as the images at least. Raises ValueError for images that the levels do not halve evenly.
    """
    levels = len(channels)
    model = AutoencoderKL(
        in_channels=shape[0], out_channels=shape[0], sample_size=shape[1], block_out_channels=tuple(channels),
        layers_per_block=layers, norm_num_groups=groups, latent_channels=latent_channels,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels,
        mid_block_add_attention=False,  # the coarsest level of a small image sees it whole without attention
    )  # fmt: skip
    with torch.no_grad():
        model.quant_conv.bias[latent_channels:] += QUIET
    network = Autoencoder(model, bypass=True)
    network.latent_shape(shape)
    return network


def published(name: str) -> Repository:
    """The published autoencoder `name` (owner/name) on this machine."""
    return Repository(name, "autoencoder", (CONFIG, WEIGHTS), WEIGHTS, PUBLISHED.get(name))


def pretrained(repository: str, expected: str | None = None) -> tuple[Autoencoder, dict[str, str]]:
    """The published autoencoder, frozen, and its description; raises as `described` and `load_model`."""
    folder, described = published(repository).described(expected)
    model = load_model(AutoencoderKL, folder, WEIGHTS, "autoencoder", low_cpu_mem_usage=False)
    return Autoencoder(model).requires_grad_(False).eval(), described


read_described = partial(read_description, kind="autoencoder")


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
    """The autoencoder of `folder`, frozen; raises as `read_described`, `trained` or `pretrained`."""
    described = read_described(folder)
    if "repository" in described:
        return pretrained(described["repository"], described["checksum"])[0].to(device)
    return trained(folder / TRAINED).to(device)
