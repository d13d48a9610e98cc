"""The settings of features: what images are measured in, and what they are measured against."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from .. import data
from .base import Settings, listed, optional
from .latents import of_images, prompt_problems
from .limits import Count, Name, Seed


class Features(Settings):
    """An entry of a tier's `features`: of a classifier trained for `steps`, or clean-fid's Inception.

    With `prompts`, the name of a set of zero-shot prompts, the first `reference` of their pictures are what
    is measured against. `classifier_of` is the entry whose classifier and probe these are too; all tiers name
    the same one, and of Inception, which is not trained, nothing is taken.
    """

    data: str
    extractor: Literal["classifier", "inception"]
    steps: Count = 800
    seed: Seed = 0
    # images drawn to measure against; else all, once
    reference: int | None = Field(default=None, ge=2, le=10_000_000)
    probe_steps: Count | None = optional()  # of the probe that reads back what captioned images show
    prompts: str | None = optional()
    classifier_of: Name | None = optional()

    def problems(self) -> Iterator[str]:
        if not of_images(self.data):
            there = listed(filter(of_images, data.names()))
            yield f"features are of a data set of images, and '{self.data}' is none; {there}"
        if self.extractor == "classifier" and not data.offers(self.data, "labelled"):
            yield f"'{self.data}' has no classes to train a classifier on: take `extractor: inception`"
        if self.prompts is not None:
            yield from prompt_problems(self.data, self.prompts, "reference", self.reference)
        if self.prompts is not None and self.reference is None:
            yield "`prompts` are measured against their pictures: say how many under `reference`"
        if self.probe_steps and not data.offers(self.data, "all_pairs"):
            yield f"'{self.data}' has nothing for `probe_steps`, which asks for its `all_pairs`: remove it"
