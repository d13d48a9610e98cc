"""The settings of latents: which images are encoded, and by which autoencoder."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from .. import data
from .base import Settings, optional

# What the autoencoders of Stable Diffusion are used with (arXiv 2112.10752), and SCFlow with them.
SCALE = 0.18215
# the channels of their latents, and how many times smaller these are than the image
PUBLISHED = (4, 8)


class TrainedAutoencoder(Settings):
    """A small autoencoder that is trained here, on the images themselves; see fewstep.networks.autoencoder.

    channels         the width of each level, from the finest to the coarsest; all but the last halve the image
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

    @model_validator(mode="after")
    def _divisible(self) -> TrainedAutoencoder:
        if any(width < 1 or width % self.groups for width in self.channels):
            raise ValueError(
                f"every width of `channels` {self.channels} must be divisible by the {self.groups} groups of `groups`"
            )
        return self


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
    clip      the entry of the tier's `clip` whose text tower reads the captions of the images, where they have some
    """

    data: str
    autoencoder: Autoencoder
    count: int | None = Field(default=None, ge=1)
    measured: int | None = optional(ge=1)
    clip: str | None = optional()

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one latent, (channels, height, width)."""
        own, (_, height, width) = self.autoencoder, data.load(self.data).shape
        channels, factor = (
            (own.latent_channels, 2 ** (len(own.channels) - 1)) if own.kind == "trained" else PUBLISHED
        )
        return channels, height // factor, width // factor

    @model_validator(mode="after")
    def _images(self) -> Latents:
        if not _of_images(self.data):
            raise ValueError(
                f"latents are made of a data set of images, and '{self.data}' is none; "
                f"there are {', '.join(filter(_of_images, data.names()))}"
            )
        if self.clip is not None and not data.offers(self.data, "captions"):
            raise ValueError(
                f"`clip` reads the captions of images, and those of '{self.data}' have none: remove it"
            )
        if self.autoencoder.kind == "trained":
            channels, height, width = data.load(self.data).shape
            if self.autoencoder.latent_channels < channels:
                raise ValueError(
                    f"`autoencoder.latent_channels` must be at least the {channels} channels of the images of "
                    f"'{self.data}'"
                )
            halvings = len(self.autoencoder.channels) - 1
            if height % 2**halvings or width % 2**halvings:
                raise ValueError(
                    f"{halvings + 1} widths in `autoencoder.channels` halve the image {halvings} times, and the images "
                    f"of '{self.data}', {height} x {width}, are not divisible by {2**halvings}"
                )
        return self
