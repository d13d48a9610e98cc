"""The settings of features: what images are measured in, and what they are measured against."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .. import data
from .base import Settings, listed, optional


class Features(Settings):
    """An entry of a tier's `features`.

    data           the data set
    extractor      "classifier": a small one, trained for `steps` from `seed`; "inception": that of clean-fid
    reference      how many images of the data are drawn to measure against; without it, every image once
    prompts        of images with captions: which set of zero-shot prompts, the first `reference` of whose
                   pictures are measured against in the place of images drawn
    probe_steps    of images with captions: the steps of training of a probe that reads back what they show
    classifier_of  the entry whose classifier and probe these are too, in the place of training the same ones
                   again; all tiers name the same one. Of Inception, which is not trained, nothing is taken
    """

    data: str
    extractor: Literal["classifier", "inception"]
    steps: int = Field(default=800, ge=1)
    seed: int = 0
    reference: int | None = Field(default=None, ge=2)
    probe_steps: int | None = optional(ge=1)
    prompts: str | None = optional()
    classifier_of: str | None = optional()

    def problems(self) -> Iterator[str]:
        if self.data not in data.names():
            yield f"there is no data set '{self.data}'; {listed(data.names())}"
        if self.prompts is not None and self.prompts not in (there := data.prompt_sets(self.data)):
            yield f"the data set '{self.data}' has no prompts '{self.prompts}'; {listed(there)}"
        if self.prompts is not None and self.reference is None:
            yield "`prompts` are measured against their pictures: say how many under `reference`"
        if self.probe_steps and not data.offers(self.data, "any_pairs"):
            yield f"'{self.data}' has nothing for `probe_steps`, which asks for its `any_pairs`: remove it"
