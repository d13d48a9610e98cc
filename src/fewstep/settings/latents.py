"""The settings of latents: which images are encoded, and by which autoencoder."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import data
from .base import Settings, listed, optional
from .limits import Batch, Count, Few, Name, Positive, Rate, Repository, Seed, Size, Weight

# What the autoencoders of Stable Diffusion are used with (arXiv 2112.10752), and SCFlow with them.
SCALE = 0.18215
# the channels of their latents, and how many times smaller these are than the image
PUBLISHED = (4, 8)


class TrainedAutoencoder(Settings):
    """A small autoencoder that is trained here, on the images themselves; see fewstep.networks.autoencoder.

    Trained by Adam, its learning rate falling to zero along a straight line. `kl_weight` is that of the
    latents' divergence from N(0, I), beside a reconstruction in units of [-1, 1].
    """

    kind: Literal["trained"]
    # by level, the finest first; all but the last halve the image
    channels: list[Size] = Field(min_length=2, max_length=16)
    layers: Few  # residual blocks a level
    groups: Few  # of every normalisation
    latent_channels: Few = 4
    steps: Count
    batch: Batch
    lr: Rate
    kl_weight: Weight
    seed: Seed = 0

    def problems(self) -> Iterator[str]:
        if any(width % self.groups for width in self.channels):
            yield f"every width of `channels` {self.channels} must be divisible by the {self.groups} groups"


class PretrainedAutoencoder(Settings):
    """A published autoencoder in diffusers' format, found on this machine and never fetched."""

    kind: Literal["pretrained"]
    repository: Repository  # its name on the hub, owner/name
    scale: Positive = SCALE  # of its latents, so that their variance is about 1


def of_images(name: str) -> bool:
    """Whether there is such a data set, of images, and no stage makes it."""
    return name in data.names() and not data.is_prepared(name) and len(data.load(name).shape) == 3


def prompt_problems(name: str, prompts: str | None, key: str, count: int | None) -> Iterator[str]:
    """Why there are not `count` of the `prompts` of a data set of captioned images, a sentence each."""
    if prompts not in (there := data.prompt_sets(name)):
        yield f"the data set '{name}' has no prompts '{prompts}'; {listed(there)}"
        return
    # those of a published set are known before its archive is opened; others are drawn
    has = getattr(data.module(name).PROMPTS[prompts], "prompts", None)
    if has is not None and (count or 0) > has:
        yield f"`{key}` asks for {count} prompts, and '{prompts}' of '{name}' has {has}: lower it"


class Latents(Settings):
    """An entry of a tier's `latents`: the data set of images that is encoded, and the autoencoder."""

    data: str
    autoencoder: Annotated[TrainedAutoencoder | PretrainedAutoencoder, Field(discriminator="kind")]
    count: Count | None = None  # how many images are encoded, the first; else all
    measured: Count | None = optional()  # how many images the reconstruction is measured on; else 256
    clip: Name | None = optional()  # the entry of `clip` whose text tower reads the images' captions

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one latent, (channels, height, width)."""
        (channels, factor), (_, height, width) = PUBLISHED, data.load(self.data).shape
        if self.autoencoder.kind == "trained":
            channels, factor = self.autoencoder.latent_channels, 2 ** (len(self.autoencoder.channels) - 1)
        return channels, height // factor, width // factor

    def problems(self) -> Iterator[str]:
        if not of_images(self.data):
            there = listed(filter(of_images, data.names()))
            yield f"latents are made of a data set of images, and '{self.data}' is none; {there}"
        # an archive says how many it holds when it is opened; what ships here has a constant
        has = None if data.offers(self.data, "check") else getattr(data.module(self.data), "COUNT", None)
        if has is not None and (self.count or 0) > has:
            yield f"`count` asks for {self.count} images, and '{self.data}' has {has}: lower it"
        if self.clip is not None and not data.offers(self.data, "captions"):
            yield f"`clip` reads the captions of images, and those of '{self.data}' have none: remove it"
        if self.autoencoder.kind == "trained":
            channels, *sides = data.load(self.data).shape
            images, widths = f"the images of '{self.data}'", len(self.autoencoder.channels)
            if self.autoencoder.latent_channels < channels:
                yield f"`autoencoder.latent_channels` must be at least the {channels} channels of {images}"
            factor = 2 ** (widths - 1)
            if any(side % factor for side in sides):
                halve = f"{widths} widths in `autoencoder.channels` halve the image {widths - 1} times"
                yield f"{halve}, and {images}, {sides[0]} x {sides[1]}, are not divisible by {factor}"
