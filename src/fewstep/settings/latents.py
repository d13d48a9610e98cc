"""The settings of latents: which images are encoded, and by which autoencoder."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import data
from .base import Settings, listed, optional

# What the autoencoders of Stable Diffusion are used with (arXiv 2112.10752), and SCFlow with them.
SCALE = 0.18215
# the channels of their latents, and how many times smaller these are than the image
PUBLISHED = (4, 8)


class TrainedAutoencoder(Settings):
    """A small autoencoder that is trained here, on the images themselves; see fewstep.networks.autoencoder.

    channels         the width of each level, the finest first; all but the last halve the image
    layers           residual blocks a level
    groups           the groups of every normalisation
    latent_channels  the channels of the latents, as many as the images have or more
    steps, batch, lr how it is trained: Adam, its learning rate falling to zero along a straight line
    kl_weight        that of the latents' divergence from N(0, I), beside a reconstruction in units of [-1, 1]
    """

    kind: Literal["trained"]
    channels: list[int] = Field(min_length=2)
    layers: int = Field(ge=1)
    groups: int = Field(ge=1)
    latent_channels: int = Field(default=4, ge=1)
    steps: int = Field(ge=1)
    batch: int = Field(ge=1)
    lr: float = Field(gt=0)
    kl_weight: float = Field(ge=0)
    seed: int = 0

    def problems(self) -> Iterator[str]:
        if any(width < 1 or width % self.groups for width in self.channels):
            yield f"every width of `channels` {self.channels} must be divisible by `groups` {self.groups}"


class PretrainedAutoencoder(Settings):
    """A published autoencoder in diffusers' format, found on this machine and never fetched.

    repository  its name on the hub, owner/name
    scale       what its latents are multiplied by, so that their variance is about 1
    """

    kind: Literal["pretrained"]
    repository: str = Field(pattern=r"^[\w.-]+/[\w.-]+$")
    scale: float = Field(default=SCALE, gt=0)


Autoencoder = Annotated[TrainedAutoencoder | PretrainedAutoencoder, Field(discriminator="kind")]


def _of_images(name: str) -> bool:
    return name in data.names() and not data.is_prepared(name) and len(data.load(name).shape) == 3


class Latents(Settings):
    """An entry of a tier's `latents`: the data set of images that is encoded, and the autoencoder.

    count     how many of the images are encoded, the first ones; without it, all of them
    measured  how many images the reconstruction is measured on; without it, 256
    clip      the entry of the tier's `clip` whose text tower reads the images' captions, where they have some
    """

    data: str
    autoencoder: Autoencoder
    count: int | None = Field(default=None, ge=1)
    measured: int | None = optional(ge=1)
    clip: str | None = optional()

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one latent, (channels, height, width)."""
        (channels, factor), (_, height, width) = PUBLISHED, data.load(self.data).shape
        if self.autoencoder.kind == "trained":
            channels, factor = self.autoencoder.latent_channels, 2 ** (len(self.autoencoder.channels) - 1)
        return channels, height // factor, width // factor

    def problems(self) -> Iterator[str]:
        if not _of_images(self.data):
            there = listed(filter(_of_images, data.names()))
            yield f"latents are made of a data set of images, and '{self.data}' is none; {there}"
        if self.clip is not None and not data.offers(self.data, "captions"):
            yield f"`clip` reads the captions of images, and those of '{self.data}' have none: remove it"
        if self.autoencoder.kind == "trained":
            channels, height, width = data.load(self.data).shape
            if self.autoencoder.latent_channels < channels:
                there = f"the {channels} channels of the images of '{self.data}'"
                yield f"`autoencoder.latent_channels` must be at least {there}"
            halvings = len(self.autoencoder.channels) - 1
            if height % 2**halvings or width % 2**halvings:
                yield (
                    f"{halvings + 1} widths in `autoencoder.channels` halve the image {halvings} times, and "
                    f"the images of '{self.data}', {height} x {width}, are not divisible by {2**halvings}"
                )
