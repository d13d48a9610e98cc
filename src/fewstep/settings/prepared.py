"""The settings of what is prepared: features that images are measured in, autoencoders and latents, CLIPs."""

from collections.abc import Callable, Iterator
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from .. import data
from .base import Settings, listed, optional
from .limits import Batch, Count, Few, Name, Positive, Rate, Repository, Seed, Size, Weight

# What the autoencoders of Stable Diffusion are used with (arXiv 2112.10752), and SCFlow with them.
SCALE = 0.18215
# the channels of their latents, and how many times smaller these are than the image
PUBLISHED = (4, 8)
# what every vocabulary holds: each byte inside a word and at its end, and the start and the end of a text
SMALLEST_VOCABULARY = 514


def _data_set(wanted: str, is_one: Callable[[str], bool]) -> AfterValidator:
    """The names of data sets that are `wanted`."""

    def check(name: str) -> str:
        if name not in (there := data.names()) or not is_one(name):
            said = f"this is a data set {wanted}, and '{name}' is none"
            raise ValueError(f"{said}; {listed(filter(is_one, there))}")
        return name

    return AfterValidator(check)


_IMAGES = _data_set("of images", lambda name: not data.is_prepared(name) and len(data.load(name).shape) == 3)
# a CLIP is judged on pairs that nobody has trained on: only a data set that draws its pictures has them
_PAIRS = _data_set(
    "that draws pictures with captions",
    lambda name: data.offers(name, "captions") and data.offers(name, "validation"),
)
OfImages, OfPairs = Annotated[str, _IMAGES], Annotated[str, _PAIRS]


def prompt_problems(name: str, prompts: str | None, key: str, count: int | None) -> Iterator[str]:
    """Why there are not `count` of the `prompts` of a data set of captioned images, a sentence each."""
    if prompts not in (there := data.prompt_sets(name)):
        yield f"the data set '{name}' has no prompts '{prompts}'; {listed(there)}"
        return
    # those of a published set are known before its archive is opened; others are drawn
    has = getattr(data.module(name).PROMPTS[prompts], "prompts", None)
    if has is not None and (count or 0) > has:
        yield f"`{key}` asks for {count} prompts, and '{prompts}' of '{name}' has {has}: lower it"


class Features(Settings):
    """An entry of a tier's `features`: of a classifier trained for `steps`, or clean-fid's Inception.

    With `prompts`, the name of a set of zero-shot prompts, the first `reference` of their pictures are what
    is measured against. `classifier_of` is the entry whose classifier and probe these are too; all tiers name
    the same one, and of Inception, which is not trained, nothing is taken.
    """

    data: OfImages
    extractor: Literal["classifier", "inception"]
    steps: Count = 800
    seed: Seed = 0
    # images drawn to measure against; else all, once
    reference: int | None = Field(default=None, ge=2, le=10_000_000)
    probe_steps: Count | None = optional()  # of the probe that reads back what captioned images show
    prompts: str | None = optional()
    classifier_of: Name | None = optional()

    def problems(self) -> Iterator[str]:
        if self.extractor == "classifier" and not data.offers(self.data, "labelled"):
            yield f"'{self.data}' has no classes to train a classifier on: take `extractor: inception`"
        if self.prompts is not None:
            yield from prompt_problems(self.data, self.prompts, "reference", self.reference)
        if self.prompts is not None and self.reference is None:
            yield "`prompts` are measured against their pictures: say how many under `reference`"
        if self.probe_steps and not data.offers(self.data, "all_pairs"):
            yield f"'{self.data}' has nothing for `probe_steps`, which asks for its `all_pairs`: remove it"


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


class Latents(Settings):
    """An entry of a tier's `latents`: the data set of images that is encoded, and the autoencoder."""

    data: OfImages
    autoencoder: Annotated[TrainedAutoencoder | PretrainedAutoencoder, Field(discriminator="kind")]
    count: Count | None = None  # how many images are encoded, the first; else all
    measured: Count | None = optional()  # how many images the reconstruction is measured on; else 256
    clip: Name | None = optional()  # the entry of `clip` whose text tower reads the images' captions

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of one latent, (channels, height, width)."""
        coder, (_, height, width) = self.autoencoder, data.load(self.data).shape
        trained = coder.kind == "trained"
        channels, factor = (coder.latent_channels, 2 ** (len(coder.channels) - 1)) if trained else PUBLISHED
        return channels, height // factor, width // factor

    def problems(self) -> Iterator[str]:
        # an archive says how many it holds when it is opened; what ships here has a constant
        has = None if data.offers(self.data, "check") else getattr(data.module(self.data), "COUNT", None)
        if has is not None and (self.count or 0) > has:
            yield f"`count` asks for {self.count} images, and '{self.data}' has {has}: lower it"
        if self.clip is not None and not data.offers(self.data, "captions"):
            yield f"`clip` reads the captions of images, and those of '{self.data}' have none: remove it"
        if self.autoencoder.kind == "trained":
            channels, *sides = data.load(self.data).shape
            images, times = f"the images of '{self.data}'", len(self.autoencoder.channels) - 1
            if self.autoencoder.latent_channels < channels:
                yield f"`autoencoder.latent_channels` must be at least the {channels} channels of {images}"
            if any(side % 2**times for side in sides):
                halve = f"{times + 1} widths in `autoencoder.channels` halve the image {times} times"
                yield f"{halve}, and {images}, {sides[0]} x {sides[1]}, are not divisible by {2**times}"


class TrainedClip(Settings):
    """A small CLIP that is trained here, on pictures and their captions; see fewstep.networks.clip.

    Trained by Adam, its learning rate falling to zero along a straight line. `pairs` are those that are
    modelled ("training"), or drawn over all that there can be, for a measure of what no model has seen.
    """

    kind: Literal["trained"]
    data: OfPairs
    pairs: Literal["training", "all"] = "training"
    width: Size  # of both towers, like `layers` and `heads`
    layers: Few
    heads: Few
    patch: Few  # the side of the square patches that a picture is cut into, in pixels
    projection: Size  # the numbers in which pictures and texts meet
    vocabulary: int = Field(ge=SMALLEST_VOCABULARY, le=1_000_000)  # tokens, at most
    tokens: int = Field(ge=3, le=65_536)  # the context length, the start and the end of a text among it
    steps: Count
    batch: int = Field(ge=2, le=1_000_000)
    lr: Rate
    seed: Seed = 0

    def problems(self) -> Iterator[str]:
        if self.width % self.heads:
            yield f"`width` {self.width} must be divisible by the {self.heads} heads of `heads`"
        _, height, width = data.load(self.data).shape
        if height != width or height % self.patch:
            pictures = f"the pictures of '{self.data}', {height} x {width},"
            yield f"{pictures} do not fall into squares of `patch` {self.patch}: give a divisor of their side"


class PublishedClip(Settings):
    """A published CLIP in transformers' format, found on this machine and never fetched.

    `towers` is "both" of a CLIP, or "text": the text encoder of a text-to-image model in diffusers' format,
    which has no image tower and gives no score.
    """

    kind: Literal["published"]
    repository: Repository  # on the hub; in `name` below the data folder
    towers: Literal["both", "text"] = "both"
    data: OfPairs | None = None  # the data set on whose pairs its retrieval is measured, if it is

    def problems(self) -> Iterator[str]:
        if self.data is not None and self.towers == "text":
            yield "a text encoder alone retrieves no pictures: remove `data`, or give `towers: both`"


Clip = Annotated[TrainedClip | PublishedClip, Field(discriminator="kind")]
