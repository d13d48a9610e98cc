"""Autoencoders of images: diffusers' AutoencoderKL, small and trained here, or a published one that is found on this machine."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..storage import stand_in
from . import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import AutoencoderKL  # isort: skip
from huggingface_hub import try_to_load_from_cache

from ..data.formats.archives import ENVIRONMENT, folder_of
from ..storage.checkpoint import CheckpointError, load_checkpoint, load_weights

# what a published autoencoder consists of, and what describes one that a stage has trained or found
CONFIG, WEIGHTS = "config.json", "diffusion_pytorch_model.safetensors"
TRAINED, DESCRIBED = "autoencoder.safetensors", "described.json"
# SHA-256 of the weights as they were published
PUBLISHED = {"stabilityai/sd-vae-ft-mse": "a1d993488569e928462932c8c38a0760b874d166399b14414135bd9c42df5815"}
# Images that go through an autoencoder together, fewer where they are large: for images of one size always the same
# number, because convolutions of another number of images take their sums in another order
TOGETHER, PIXELS_TOGETHER = 32, 2**20
# log variance that an untrained encoder starts near: with the usual 0 the noise drowns what the latents say, and the
# first minutes of a training go into silencing it
QUIET = -4.0


class Autoencoder(nn.Module):
    """Images (batch, channels, height, width) in [-1, 1] to the moments of Gaussian latents, and latents back to images.

    With a `bypass` the first latent channels are the shrunken image plus what the model adds to it, and a decoded image
    is these channels enlarged plus what the model adds: a training need not discover colours first.
    """

    def __init__(self, model: AutoencoderKL, bypass: bool = False):
        super().__init__()
        self.model, self.bypass = model, bypass

    @property
    def factor(self) -> int:
        """How many times smaller latents are than images, along each side."""
        return 2 ** (len(self.model.config.block_out_channels) - 1)

    def latent_shape(self, shape: Sequence[int]) -> tuple[int, int, int]:
        """The shape of the latents of images of `shape` (channels, height, width); raises ValueError for images that it cannot take."""
        channels, height, width = shape
        if channels != self.model.config.in_channels or height % self.factor or width % self.factor:
            raise ValueError(
                f"the autoencoder takes images of {self.model.config.in_channels} channels whose sides are divisible by {self.factor}, not {tuple(shape)}"
            )
        return self.model.config.latent_channels, height // self.factor, width // self.factor

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of the latents, each (batch, latent channels, height / factor, width / factor)."""
        found = self.model.encode(images).latent_dist
        if not self.bypass:
            return found.mean, found.std
        shrunken = F.avg_pool2d(images, self.factor)
        return found.mean + F.pad(shrunken, (0, 0, 0, 0, 0, found.mean.shape[1] - images.shape[1])), found.std

    def decode(self, latents: Tensor) -> Tensor:
        """Images, about in [-1, 1], of latents that are not scaled."""
        images = self.model.decode(latents, return_dict=False)[0]
        if not self.bypass:
            return images
        return images + F.interpolate(
            latents[:, : images.shape[1]], scale_factor=self.factor, mode="bilinear"
        )

    def _parts(self, values: Tensor, height: int, width: int) -> Iterator[tuple[Tensor, int]]:
        """`values` a fixed number at a time for images of one size, the last filled up with zeros, and how many of each count."""
        size = max(min(TOGETHER, PIXELS_TOGETHER // (height * width)), 1)
        for part in values.split(size):
            yield torch.cat([part, part.new_zeros(size - len(part), *part.shape[1:])]), len(part)

    @torch.no_grad()
    def encode_many(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """As `encode`, without gradients, and the same bits for an image whatever others come with it."""
        found = [
            [moment[:count] for moment in self.encode(part)]
            for part, count in self._parts(images, *images.shape[2:])
        ]
        return torch.cat([mean for mean, _ in found]), torch.cat([std for _, std in found])

    @torch.no_grad()
    def decode_many(self, latents: Tensor) -> Tensor:
        """As `decode`, without gradients, and the same bits for an image whatever others come with it."""
        parts = self._parts(latents, *(self.factor * side for side in latents.shape[2:]))
        return torch.cat([self.decode(part)[:count] for part, count in parts])


def small(
    shape: Sequence[int], channels: Sequence[int], layers: int, groups: int, latent_channels: int
) -> Autoencoder:
    """An untrained autoencoder of images of `shape` (channels, height, width), its weights drawn from torch's own generator.

    `channels` gives the width of each level, from the finest to the coarsest; all but the last halve the image. Raises
    ValueError for images that the levels do not halve evenly, or of more channels than the latents.
    """
    if latent_channels < shape[0]:
        raise ValueError(
            f"latents of {latent_channels} channels do not hold the shrunken image, which has {shape[0]}: give them as many at least"
        )
    levels = len(channels)
    model = AutoencoderKL(
        in_channels=shape[0], out_channels=shape[0], block_out_channels=tuple(channels), layers_per_block=layers, norm_num_groups=groups,
        down_block_types=("DownEncoderBlock2D",) * levels, up_block_types=("UpDecoderBlock2D",) * levels, latent_channels=latent_channels,
        # the coarsest level of a small image sees it whole without attention
        sample_size=shape[1], mid_block_add_attention=False,
    )  # fmt: skip
    with torch.no_grad():
        model.quant_conv.bias[latent_channels:] += QUIET
    network = Autoencoder(model, bypass=True)
    network.latent_shape(shape)
    return network


def checksum(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def find(repository: str) -> tuple[Path, str]:
    """The folder of the published autoencoder `repository` (owner/name), and where that is in words.

    It is a folder beside the archives, or in the hub's cache; the network is never asked. Raises FileNotFoundError,
    saying what to fetch and where to put it.
    """
    folder = folder_of(repository.partition("/")[2])
    if all((folder / name).is_file() for name in (CONFIG, WEIGHTS)):
        return folder, f"the folder {folder.name} beside the data"
    cached = [try_to_load_from_cache(repository, name) for name in (CONFIG, WEIGHTS)]
    if all(isinstance(path, str) for path in cached):
        snapshot = Path(cached[0]).parent
        return snapshot, f"the hub's cache, revision {snapshot.name}"
    raise FileNotFoundError(
        f"the autoencoder {repository} is not in {folder}: download {CONFIG} and {WEIGHTS} from https://huggingface.co/{repository} to that folder "
        f"(fewstep never does), set {ENVIRONMENT} to the folder that holds '{folder.name}', or fill the hub's cache with `hf download {repository}`"
    )


def check(repository: str, checksums: bool = True) -> None:
    """Raise as `find`, and ValueError where (with `checksums`) the weights are not the published ones, as far as those are on record."""
    folder, _ = find(repository)
    if stand_in.is_marked(folder):
        raise ValueError(
            f"{folder} holds a rehearsal's autoencoder ({stand_in.FILE} says so): put {repository} in its place"
        )
    if checksums:
        _verified(folder, PUBLISHED.get(repository), repository)


def _verified(folder: Path, expected: str | None, repository: str) -> str:
    """The checksum of the weights in `folder`; raises ValueError where it is not the expected one."""
    found = checksum(folder / WEIGHTS)
    if expected not in (None, found):
        raise ValueError(
            f"{folder / WEIGHTS} has SHA-256 {found} and not {expected}: it was not loaded; delete it and download it from "
            f"https://huggingface.co/{repository} again"
        )
    return found


def pretrained(repository: str, expected: str | None = None) -> tuple[Autoencoder, dict[str, str]]:
    """The published autoencoder `repository`, frozen, with the `checksum` of its weights and where it was `found`.

    Raises as `find`, and ValueError for weights whose checksum is not `expected`, or not the published one where that
    is on record and this is no rehearsal, and for files that do not hold an AutoencoderKL.
    """
    folder, words = find(repository)
    found = _verified(
        folder, expected or (None if stand_in.is_marked(folder) else PUBLISHED.get(repository)), repository
    )
    # diffusers lists at length what it thinks of the names of old weights
    logger = logging.getLogger("diffusers")
    level = logger.level
    try:
        logger.setLevel(logging.ERROR)
        model, info = AutoencoderKL.from_pretrained(
            folder,
            local_files_only=True,
            use_safetensors=True,
            low_cpu_mem_usage=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError, TypeError) as error:
        raise ValueError(
            f"{folder} holds no autoencoder that diffusers can load ({' '.join(str(error).split())[:200]}): download it again"
        ) from None
    finally:
        logger.setLevel(level)
    if info["missing_keys"] or info["unexpected_keys"]:
        odd = [*info["missing_keys"], *info["unexpected_keys"]][0]
        raise ValueError(
            f"{folder / WEIGHTS} does not fit {CONFIG} beside it: '{odd}' is in one and not in the other; download both again"
        )
    name = f"a rehearsal's stand-in for {repository}" if stand_in.is_marked(folder) else repository
    return Autoencoder(model).requires_grad_(False).eval(), {
        "autoencoder": name,
        "checksum": found,
        "found": words,
    }


def read_described(folder: Path) -> dict[str, Any]:
    """What a stage has said of the autoencoder in `folder`; raises FileNotFoundError, naming the cure, where none has."""
    path = folder / DESCRIBED
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run `dvc repro`, or the notebook 0-autoencoder, first")
    return json.loads(path.read_text())


def trained(path: Path) -> Autoencoder:
    """The autoencoder, frozen, that a stage has trained and written to `path`; raises CheckpointError for a damaged or foreign file."""
    weights, info = load_checkpoint(path)
    if "network" not in info or "channels" not in info["network"]:
        raise CheckpointError(f"{path} is no trained autoencoder: its header names no network")
    sizes = info["network"]
    network = small(
        info["shape"], sizes["channels"], sizes["layers"], sizes["groups"], sizes["latent_channels"]
    )
    load_weights(network, weights, path)
    return network.requires_grad_(False).eval()


def load(folder: Path, device: str | torch.device = "cpu") -> Autoencoder:
    """The autoencoder, frozen, that a stage has trained in `folder`, or found and described there.

    Raises FileNotFoundError where it is gone, CheckpointError for a damaged file, ValueError for a published one
    that is not the described one.
    """
    described = read_described(folder)
    if "repository" in described:
        return pretrained(described["repository"], described["checksum"])[0].to(device)
    return trained(folder / TRAINED).to(device)
