"""COCO's validation captions as zero-shot prompts, with their pictures, from the published files.

Of each picture the first caption by its number is the prompt, and pictures come in the order of the
annotation file: so do the prompts that SCFlow published for COCO-2014, which however take any one of a
picture's five captions. Each picture is the centred square, made 512 pixels wide as LAION's are; which crop
the published numbers took is not on record.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .formats.archives import Archive, content_of, raise_together, text_of, tidy
from .formats.pictures import Pictures, decoded

SIDE = 512
ADDRESS = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Split:
    """A published validation set, below the data set's folder."""

    year: int
    count: int  # its pictures
    prompts: int  # how many of these are prompts

    @property
    def annotations(self) -> str:
        """The file of captions."""
        return f"annotations/captions_val{self.year}.json"

    @property
    def pictures(self) -> str:
        """The folder of pictures."""
        return f"val{self.year}"

    @property
    def archive(self) -> Archive:
        """The folder of the data set, and what to get for this set, and where."""
        year, unpacked = self.year, f"unpacked to {self.annotations} and {self.pictures}/"
        zips = f"{ADDRESS}/annotations/annotations_trainval{year}.zip and {ADDRESS}/zips/val{year}.zip"
        return Archive("coco", f"COCO-{year}'s validation set ({zips}, {unpacked})")

    def pairs(self) -> list[tuple[str, str]]:
        """File name and first caption of each picture, in the order of the annotation file."""
        path = self.archive.present(self.annotations)
        text = text_of(path, f"get {self.archive.source} again")
        try:
            found = json.loads(text)
            pictures = {int(entry["id"]): Path(entry["file_name"]).name for entry in found["images"]}
            annotations = sorted(found["annotations"], key=lambda entry: int(entry["id"]), reverse=True)
            # later entries win: the first caption of each picture stays
            first = {int(entry["image_id"]): tidy(entry["caption"]) for entry in annotations}
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
            what = f"is cut short, or no file of COCO's captions ({type(error).__name__})"
            raise self.archive.damaged(path, what) from None
        if len(pictures) != (count := self.archive.count(f"coco{self.year}", self.count)):
            raise self.archive.damaged(path, f"describes {len(pictures):,} pictures instead of {count:,}")
        for number, file in pictures.items():
            if not first.get(number):
                raise self.archive.damaged(path, f"has no caption of {file}")
        return [(file, first[number]) for number, file in pictures.items()]

    def paths(self, pairs: Sequence[tuple[str, str]]) -> list[Path]:
        """Where the pictures of `pairs` lie; raises FileNotFoundError, naming the first that is missing."""
        return [self.archive.present(f"{self.pictures}/{file}") for file, _ in pairs]

    def check(self) -> None:
        """Raise as `prompt_set`, and for a rehearsal's files; no picture is decoded."""
        self.archive.require_published()
        self.paths(self.pairs())


SETS = {"coco2017": Split(2017, 5000, 5000), "coco2014": Split(2014, 40_504, 30_000)}


@dataclass(frozen=True)
class Prompt:
    """The text that a sample is conditioned on."""

    text: str


@dataclass(frozen=True, eq=False)
class Prompts:
    """Prompts and the pictures that they describe, (count, 3, 512, 512), uint8, decoded when looked at."""

    captions: tuple[Prompt, ...]
    pixels: Pictures


def prompt_set(name: str, count: int) -> Prompts:
    """The first `count` prompts of the set `name`, one of SETS, always the same, and their pictures.

    Raises ValueError for more than there are; FileNotFoundError, with the addresses, where the annotation
    file or a picture is missing; ArchiveError for an annotation file that is damaged or describes another
    number of pictures, and, when it is looked at, for a picture that cannot be decoded.
    """
    split, pairs = SETS[name], SETS[name].pairs()
    most = min(split.prompts, len(pairs))
    if not 0 < count <= most:
        found = f"there are {most:,} prompts '{name}', and {count:,} are asked for"
        raise ValueError(f"{found}: lower `sampling.count`")
    paths = split.paths(pairs[:count])

    def decode(k: int) -> np.ndarray:
        try:
            return decoded(content_of(paths[k], f"get {split.archive.source} again"), SIDE)
        except ValueError as error:
            raise split.archive.damaged(paths[k], str(error)) from None

    return Prompts(tuple(Prompt(text) for _, text in pairs[:count]), Pictures(decode, np.arange(count), SIDE))


def check() -> None:
    """Raise for every set as `prompt_set`, and for a rehearsal's files; no picture is decoded."""
    raise_together(*(split.check for split in SETS.values()))
