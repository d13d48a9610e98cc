"""The settings of features: what images are measured in, and what they are measured against."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, model_validator

from .. import data
from .base import Settings, optional


class Features(Settings):
    """An entry of a tier's `features`.

    data           the data set
    extractor      "classifier": a small one, trained here for `steps` from `seed`; "inception": clean-fid's network
    reference      how many images of the data are drawn to measure against; without it, every image once
    prompts        where the images have captions: which set of zero-shot prompts, the first `reference` of whose
                   pictures are measured against in the place of images drawn
    probe_steps    where the images have captions: for how many steps a probe is trained that reads back what they show
    classifier_of  the entry whose classifier and probe these are too, in the place of training the same ones again; all
                   tiers name the same one, and of Inception, which is not trained here, nothing is taken
    """

    data: str
    extractor: Literal["classifier", "inception"]
    steps: int = Field(default=800, ge=1)
    seed: int = 0
    reference: int | None = Field(default=None, ge=2)
    probe_steps: int | None = optional(ge=1)
    prompts: str | None = optional()
    classifier_of: str | None = optional()

    @model_validator(mode="after")
    def _known(self) -> Features:
        if self.data not in data.names():
            raise ValueError(f"there is no data set '{self.data}'; there are {', '.join(data.names())}")
        if self.prompts is not None and self.prompts not in (there := data.prompt_sets(self.data)):
            raise ValueError(
                f"the data set '{self.data}' has no prompts '{self.prompts}'; there are {', '.join(there) or 'none'}"
            )
        if self.prompts is not None and self.reference is None:
            raise ValueError("`prompts` are measured against their pictures: say how many under `reference`")
        if self.probe_steps and not data.offers(self.data, "any_pairs"):
            raise ValueError(
                f"the data set '{self.data}' has nothing for `probe_steps`, which asks for its `any_pairs`: remove it"
            )
        return self
