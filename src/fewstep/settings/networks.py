"""The settings of networks, one class a kind, and what of them fits together, and to the data."""

from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Literal

from pydantic import Field

from .base import Settings
from .limits import Few, Fraction, Frequency, Size

# the width of each level, from the finest to the coarsest
Levels = Annotated[list[Size], Field(min_length=1, max_length=16)]
Highest = Annotated[float, Field(gt=1, le=1_000_000)]
ADM_GROUPS = 32  # of every normalisation of an ADM
HEAD = 64  # channels of a head of EDM2's attention
# what a network's output is: v_{s,t}(x), or data, from which v_{s,t}(x) follows
Prediction = Literal["velocity", "data"]
_VELOCITY: Any = Field("velocity", exclude_if=lambda value: value == "velocity")


class MLPSettings(Settings):
    """A perceptron for points; see fewstep.networks.mlp."""

    kind: Literal["mlp"]
    width: Size
    depth: Few
    activation: Literal["silu", "gelu"]
    frequencies: list[Frequency]
    time_frequencies: list[Frequency]
    predicts: Prediction = _VELOCITY


class _OfChannels(Settings):
    """What UNets have in common: `channels` by level, of which each but the first halves the image."""

    def problems(self) -> Iterator[str]:
        if len(self.attention) != len(self.channels):
            wanted = f"one entry of `attention` for each of the {len(self.channels)} `channels`"
            yield f"a {self.kind} needs {wanted}, not {len(self.attention)}"
        for what in ("groups", "heads"):
            number = getattr(self, what, 1)
            if any(width % number for width in self.channels):
                yield f"every width of `channels` {self.channels} must be divisible by `{what}` {number}"
        if self.channels[0] % 2:
            pairs = "of which an embedding of times makes sines and cosines"
            yield f"the first of `channels` must be even, {pairs}, not {self.channels[0]}"


class UNetSettings(_OfChannels):
    """A two-time UNet for images; see fewstep.networks.unet."""

    kind: Literal["unet"]
    channels: Levels
    layers: Few
    attention: list[bool]
    groups: Few
    time_scale: Highest
    dropout: Fraction = 0.0
    predicts: Prediction = _VELOCITY

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        narrow = [width for width, attends in zip(self.channels, self.attention) if attends]
        # the middle, as wide as the last level, attends where any level does
        heads, attending = min([64, *narrow]), [*narrow, self.channels[-1]]
        if narrow and any(width % heads for width in attending):
            wanted = f"heads of {heads} channels must divide the widths that attend, {attending}"
            yield f"{wanted}: change `channels` or `attention`"


class _OfMultipliers(Settings):
    """What UNets have in common whose levels are `multipliers` of a `width`, as their papers write them."""

    kind: str
    width: Size
    multipliers: list[Few] = Field(min_length=1, max_length=16)
    blocks: Few
    attention: list[int]
    dropout: Fraction = 0.0
    predicts: Prediction = _VELOCITY

    @property
    def channels(self) -> list[int]:
        """The width of each level, from the finest to the coarsest."""
        return [k * self.width for k in self.multipliers]

    @property
    def attending(self) -> list[int]:
        """The widths that attend: those of `attention`, and the coarsest."""
        last = len(self.multipliers) - 1
        return [own for k, own in enumerate(self.channels) if 2**k in self.attention or k == last]

    def problems(self) -> Iterator[str]:
        smaller = [2**level for level in range(len(self.multipliers))]
        if strangers := sorted(set(self.attention) - set(smaller)):
            yield f"`attention` names {strangers[0]} times smaller images, and levels are of {smaller}"


class ADMSettings(_OfMultipliers):
    """The ADM UNet of Latent Flow Matching; see fewstep.networks.adm."""

    kind: Literal["adm"]
    heads: Few

    def problems(self) -> Iterator[str]:
        if self.width % ADM_GROUPS:
            yield f"`width` {self.width} of an adm must be divisible by its {ADM_GROUPS} groups"
        yield from super().problems()
        for width in self.attending:
            if width % self.heads:
                yield f"{width} channels attend, and `heads` {self.heads} does not divide them"


class EDM2Settings(_OfMultipliers):
    """EDM2's magnitude-preserving UNet for images; see fewstep.networks.edm2."""

    kind: Literal["edm2"]
    data_std: float = Field(gt=0, le=1000)

    def problems(self) -> Iterator[str]:
        if self.width % 2:
            pairs = "an embedding of times makes cosines and sines"
            yield f"`width` {self.width} of an edm2 must be even: of it {pairs}"
        yield from super().problems()
        for width in self.attending:
            if width % (heads := max(width // HEAD, 1)):
                cure = "change `width` or `multipliers`"
                yield f"{width} channels attend, and their {heads} heads do not divide them: {cure}"


class _ConditionalUNetSettings(_OfChannels):
    """What networks conditioned on captions have in common; `width` is that of a caption's tokens."""

    channels: Levels
    layers: Few
    attention: list[bool]
    heads: Few
    groups: Few
    width: Size


class TextUNetSettings(_ConditionalUNetSettings):
    """A two-time UNet that is conditioned on a caption; see fewstep.networks.text_unet."""

    kind: Literal["text_unet"]
    time_scale: Highest
    text_layers: int = Field(default=0, ge=0, le=1024, exclude_if=lambda value: value == 0)

    def problems(self) -> Iterator[str]:
        yield from super().problems()
        if self.text_layers and self.width % self.heads:
            yield f"`text_layers` need a `width` divisible by the {self.heads} heads, and {self.width} is not"


class PublishedUNetSettings(_ConditionalUNetSettings):
    """Stable Diffusion's UNet as InstaFlow and SCFlow publish it; see fewstep.networks.published_unet."""

    kind: Literal["published_unet"]
    checkpointing: bool = True


# the kinds of networks that are conditioned on captions
CONDITIONAL = ("text_unet", "published_unet")
_Any = MLPSettings | UNetSettings | ADMSettings | EDM2Settings | TextUNetSettings | PublishedUNetSettings
Network = Annotated[_Any, Field(discriminator="kind")]


def shape_problems(network: Network, shape: Sequence[int]) -> Iterator[str]:
    """Why a network cannot take data of `shape`, a sentence each."""
    if network.kind == "mlp":
        if len(shape) != 1:
            yield f"an mlp takes points, and the data are images of shape {tuple(shape)}: give a unet"
        return
    levels = len(network.channels)
    if len(shape) != 3:
        points = f"and the data are points of shape {tuple(shape)}: give an mlp"
        yield f"networks of kind {network.kind} take images, {points}"
    elif any(side % 2 ** (levels - 1) for side in shape[1:]):
        halve = f"{levels} levels of kind {network.kind} halve the image {levels - 1} times"
        yield f"{halve}, and {shape[1]} x {shape[2]} is not divisible by {2 ** (levels - 1)}"
