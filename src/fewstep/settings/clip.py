"""The settings of the CLIP that reads captions: trained here, or published and found on this machine."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import data
from .base import Settings, listed

# what every vocabulary holds: each byte inside a word and at its end, and the start and the end of a text
SMALLEST_VOCABULARY = 514


def _offers_pairs(name: str) -> bool:
    # it is judged on pairs that nobody has trained on: only a data set that draws its pictures has them
    return data.offers(name, "captions") and data.offers(name, "fresh")


def _data_problems(name: str) -> Iterator[str]:
    if not _offers_pairs(name):
        yield (
            f"a CLIP needs pictures with captions, as many as it asks for, and '{name}' draws none; "
            f"{listed(filter(_offers_pairs, data.names()))}"
        )


class TrainedClip(Settings):
    """A small CLIP that is trained here, on pictures and their captions; see fewstep.networks.clip.

    data         the data set of pictures with captions
    pairs        what it is trained on: "training", those that are modelled, or "all", drawn over
                 all that there can be, as a measure is that must judge what a model has never seen
    width, layers, heads  of both towers; a head is width / heads wide
    patch        the side of the square patches that a picture is cut into, in pixels
    projection   the numbers in which pictures and texts meet
    vocabulary   the tokens there are, at most: 514 and as many merges as the captions give
    tokens       the context length: what every text is cut or filled up to, with its start and its end
    steps, batch, lr  how it is trained: Adam, its learning rate falling to zero along a straight line
    """

    kind: Literal["trained"]
    data: str
    pairs: Literal["training", "all"] = "training"
    width: int = Field(ge=1)
    layers: int = Field(ge=1)
    heads: int = Field(ge=1)
    patch: int = Field(ge=1)
    projection: int = Field(ge=1)
    vocabulary: int = Field(ge=SMALLEST_VOCABULARY)
    tokens: int = Field(ge=3)
    steps: int = Field(ge=1)
    batch: int = Field(ge=2)
    lr: float = Field(gt=0)
    seed: int = 0

    def problems(self) -> Iterator[str]:
        yield from _data_problems(self.data)
        if self.width % self.heads:
            yield f"`width` {self.width} must be divisible by the {self.heads} heads of `heads`"
        _, height, width = data.load(self.data).shape
        if height != width or height % self.patch:
            yield (
                f"the pictures of '{self.data}', {height} x {width}, do not fall into squares of `patch` "
                f"{self.patch}: give a divisor of their side"
            )


class PublishedClip(Settings):
    """A published CLIP in transformers' format, found on this machine and never fetched.

    repository  its name on the hub, owner/name; its files are in the folder `name` below the data folder
    towers      "both", of a CLIP, or "text", the text encoder of a text-to-image model in diffusers' format,
                which has no image tower and gives no score
    data        the data set on whose pairs its retrieval is measured; without it, none is
    """

    kind: Literal["published"]
    repository: str = Field(pattern=r"^\w[\w.-]*/\w[\w.-]*$")
    towers: Literal["both", "text"] = "both"
    data: str | None = None

    def problems(self) -> Iterator[str]:
        yield from _data_problems(self.data) if self.data is not None else ()
        if self.data is not None and self.towers == "text":
            yield "a text encoder alone retrieves no pictures: remove `data`, or give `towers: both`"


Clip = Annotated[TrainedClip | PublishedClip, Field(discriminator="kind")]
