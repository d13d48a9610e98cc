"""The settings of the CLIP that reads captions: trained here, or published and found on this machine."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from .. import data
from .base import Settings, listed
from .limits import Count, Few, Rate, Repository, Seed, Size

# what every vocabulary holds: each byte inside a word and at its end, and the start and the end of a text
SMALLEST_VOCABULARY = 514


def _draws_pairs(name: str) -> bool:
    # it is judged on pairs that nobody has trained on: only a data set that draws its pictures has them
    return data.offers(name, "captions") and data.offers(name, "validation")


def _data_problems(name: str) -> Iterator[str]:
    if not _draws_pairs(name):
        there = listed(filter(_draws_pairs, data.names()))
        yield f"a CLIP needs pictures with captions, as many as it asks for, and '{name}' draws none; {there}"


class TrainedClip(Settings):
    """A small CLIP that is trained here, on pictures and their captions; see fewstep.networks.clip.

    Trained by Adam, its learning rate falling to zero along a straight line. `pairs` are those that are
    modelled ("training"), or drawn over all that there can be, for a measure of what no model has seen.
    """

    kind: Literal["trained"]
    data: str
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
        yield from _data_problems(self.data)
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
    data: str | None = None  # the data set on whose pairs its retrieval is measured, if it is

    def problems(self) -> Iterator[str]:
        if self.data is not None:
            yield from _data_problems(self.data)
            if self.towers == "text":
                yield "a text encoder alone retrieves no pictures: remove `data`, or give `towers: both`"


Clip = Annotated[TrainedClip | PublishedClip, Field(discriminator="kind")]
