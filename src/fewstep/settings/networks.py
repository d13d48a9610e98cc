"""The settings of networks, one class a kind."""

from typing import Annotated, Literal

from pydantic import Field

from .base import Settings


class MLPSettings(Settings):
    """A perceptron for points; see fewstep.networks.mlp."""

    kind: Literal["mlp"]
    width: int = Field(ge=1)
    depth: int = Field(ge=1)
    activation: Literal["silu", "gelu"]
    frequencies: list[int | float]
    time_frequencies: list[int | float]


class UNetSettings(Settings):
    """A two-time UNet for images; see fewstep.networks.unet."""

    kind: Literal["unet"]
    channels: list[int] = Field(min_length=1)
    layers: int = Field(ge=1)
    attention: list[bool]
    groups: int = Field(ge=1)
    time_scale: float = Field(gt=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class ADMSettings(Settings):
    """The ADM UNet of Latent Flow Matching; see fewstep.networks.adm."""

    kind: Literal["adm"]
    width: int = Field(ge=32)
    multipliers: list[int] = Field(min_length=1)
    blocks: int = Field(ge=1)
    attention: list[int]
    heads: int = Field(ge=1)
    head_channels: int | None = Field(default=None, ge=1)
    dropout: float = Field(default=0.0, ge=0, lt=1)


class _ConditionalUNetSettings(Settings):
    """What networks conditioned on captions have in common; `width` is that of a caption's tokens."""

    channels: list[int] = Field(min_length=1)
    layers: int = Field(ge=1)
    attention: list[bool]
    heads: int = Field(ge=1)
    groups: int = Field(ge=1)
    width: int = Field(ge=1)


class TextUNetSettings(_ConditionalUNetSettings):
    """A two-time UNet that is conditioned on a caption; see fewstep.networks.text_unet."""

    kind: Literal["text_unet"]
    time_scale: float = Field(gt=1)
    text_layers: int = Field(default=0, ge=0, exclude_if=lambda value: value == 0)


class PublishedUNetSettings(_ConditionalUNetSettings):
    """Stable Diffusion's UNet as InstaFlow and SCFlow publish it; see fewstep.networks.published_unet."""

    kind: Literal["published_unet"]
    checkpointing: bool = True


# the kinds of networks that are conditioned on captions
CONDITIONAL = ("text_unet", "published_unet")
_Any = MLPSettings | UNetSettings | ADMSettings | TextUNetSettings | PublishedUNetSettings
Network = Annotated[_Any, Field(discriminator="kind")]
