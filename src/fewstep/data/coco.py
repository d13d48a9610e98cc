"""COCO's validation captions as zero-shot prompts, with their pictures, from the published files.

Of each picture the first caption by its number is the prompt, and pictures come in the order of the
annotation file: so do the prompts that SCFlow published for COCO-2014, which however take any one of a
picture's five captions. Each picture is the centred square, made 512 pixels wide as LAION's are; which crop
the published numbers took is not on record.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .formats.archives import ENVIRONMENT, Archive, content_of, folder_of, no_file, raise_together, text_of
from .formats.captioned import tidy
from .formats.pictures import Pictures, decoded

SIDE = 512
ADDRESS = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Split:
    """A published validation set: its year, how many pictures it has, and how many of these are prompts.

    Below the data set's folder, `annotations` is the file of captions and `pictures` the folder of pictures.
    """

    year: int
    count: int
    prompts: int

    @property
    def annotations(self) -> str:
        return f"annotations/captions_val{self.year}.json"

    @property
    def pictures(self) -> str:
        return f"val{self.year}"

    @property
    def archive(self) -> Archive:
        """The folder of the data set, and what to get for this set, and where."""
        year, unpacked = self.year, f"unpacked to {self.annotations} and {self.pictures}/"
        zips = f"{ADDRESS}/annotations/annotations_trainval{year}.zip and {ADDRESS}/zips/val{year}.zip"
        return Archive(folder_of("coco"), f"COCO-{year}'s validation set ({zips}, {unpacked})")


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


def _pairs(name: str) -> list[tuple[str, str]]:
    """File name and first caption of each picture of the set `name`, in the order of the annotation file."""
    split, archive = SETS[name], SETS[name].archive
    path = archive.folder / split.annotations
    if not path.exists():
        cure = f"get {archive.source}, or set {ENVIRONMENT} to the folder that holds 'coco'"
        raise FileNotFoundError(f"{path} is not there: {cure}")
    text = text_of(path, f"get {archive.source} again")
    try:
        found: dict[str, Any] = json.loads(text)
        pictures = [(int(entry["id"]), Path(str(entry["file_name"])).name) for entry in found["images"]]
        annotations = sorted(found["annotations"], key=lambda entry: int(entry["id"]))
        captions = [(int(entry["image_id"]), str(entry["caption"])) for entry in annotations]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError) as error:
        what = f"is cut short, or no file of COCO's captions ({type(error).__name__})"
        raise archive.damaged(path, what) from None
    if len(pictures) != (count := archive.count(name, split.count)):
        raise archive.damaged(path, f"describes {len(pictures):,} pictures instead of {count:,}")
    for whose in zip(*pictures):
        if len(set(whose)) < count:
            twice = next(one for one, times in Counter(whose).most_common())
            raise archive.damaged(path, f"describes the picture {twice} more than once")
    # later entries win: the first caption of each picture stays
    first = {picture: tidy(caption) for picture, caption in reversed(captions)}
    for number, file in pictures:
        if not first.get(number):
            raise archive.damaged(path, f"has no caption of {file}")
    return [(file, first[number]) for number, file in pictures]


def _paths(split: Split, pairs: Sequence[tuple[str, str]]) -> list[Path]:
    """Where the pictures of `pairs` lie; raises FileNotFoundError, naming the first that is missing."""
    folder = split.archive.folder / split.pictures
    paths = [folder / file for file, _ in pairs]
    for path in paths:
        if what := no_file(path):
            raise split.archive.damaged(path, what)
    if absent := [path for path in paths if not path.exists()]:
        first = f"the first of them {absent[0].name}: get {split.archive.source}"
        raise FileNotFoundError(f"{len(absent):,} of {len(paths):,} pictures are not in {folder}, {first}")
    return paths


def prompt_set(name: str, count: int) -> Prompts:
    """The first `count` prompts of the set `name`, one of SETS, always the same, and their pictures.

    Raises ValueError for more than there are; FileNotFoundError, with the addresses, where the annotation
    file or a picture is missing; ArchiveError for an annotation file that is damaged or describes another
    number of pictures, and, when it is looked at, for a picture that cannot be decoded.
    """
    split, pairs = SETS[name], _pairs(name)
    most = min(split.prompts, len(pairs))
    if not 0 < count <= most:
        found = f"there are {most:,} prompts '{name}', and {count:,} are asked for"
        raise ValueError(f"{found}: lower `sampling.count`")
    paths = _paths(split, pairs[:count])

    def decode(k: int) -> np.ndarray:
        try:
            return decoded(content_of(paths[k], f"get {split.archive.source} again"), SIDE)
        except ValueError as error:
            raise split.archive.damaged(paths[k], str(error)) from None

    prompts = tuple(Prompt(text) for _, text in pairs[:count])
    return Prompts(prompts, Pictures(decode, np.arange(count), SIDE))


def check(checksums: bool = True) -> None:
    """Raise as `prompt_set`, naming all sets of which that is so, and for a rehearsal's files; decodes none.

    With `checksums`, files are held against checksums.md5 if that lies in the folder.
    """
    both = " and ".join(split.archive.source for split in SETS.values())
    Archive(folder_of("coco"), both).require_published()

    def check_set(name: str) -> None:
        split, paths = SETS[name], _paths(SETS[name], _pairs(name))
        if checksums:
            split.archive.verify_listed([split.archive.folder / split.annotations, *paths])

    raise_together(*(partial(check_set, name) for name in SETS))
