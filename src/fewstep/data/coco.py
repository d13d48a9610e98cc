"""COCO's validation captions as zero-shot prompts, with the pictures behind them, from the published annotation files and folders.

Of each picture the first caption by its number is the prompt, and pictures come in the order of the annotation file: so do
the prompts that SCFlow published for COCO-2014, which however take any one of a picture's five captions. Pictures are
640x480 and the like, and FID takes one size: each is the centred square, made 512 pixels wide as LAION's are, which is the
size of what is sampled; from there both are made 299 wide alike. Which crop the published numbers took is not on record.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..storage import stand_in
from .formats.archives import (
    ENVIRONMENT,
    ArchiveError,
    _damaged,
    _verify_listed,
    folder_of,
    require_published,
)
from .formats.captioned import tidy
from .formats.pictures import Pictures, decoded

SIDE = 512
ADDRESS = "http://images.cocodataset.org"


@dataclass(frozen=True)
class Split:
    """A published validation set: its year, the number of its pictures, and how many of them, the first, are prompts."""

    year: int
    count: int
    prompts: int

    @property
    def annotations(self) -> str:
        """The file of captions, below the data set's folder."""
        return f"annotations/captions_val{self.year}.json"

    @property
    def pictures(self) -> str:
        """The folder of the pictures, below the data set's folder."""
        return f"val{self.year}"

    @property
    def source(self) -> str:
        """What to get, and where."""
        return (
            f"COCO-{self.year}'s validation set ({ADDRESS}/annotations/annotations_trainval{self.year}.zip and {ADDRESS}/zips/val{self.year}.zip, "
            f"unpacked to {self.annotations} and {self.pictures}/)"
        )


SETS = {"coco2017": Split(2017, 5000, 5000), "coco2014": Split(2014, 40_504, 30_000)}


@dataclass(frozen=True)
class Prompt:
    """A text that a sample is told."""

    text: str


@dataclass(frozen=True, eq=False)
class Prompts:
    """Texts, and the pictures that they were written for, (count, 3, 512, 512), uint8, decoded when they are looked at: one index for both."""

    captions: tuple[Prompt, ...]
    pixels: Pictures


def _pairs(split: Split, path: Path, count: int) -> list[tuple[str, str]]:
    """The file name of each picture and its first caption, in the order of the annotation file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} is not there: get {split.source}, or set {ENVIRONMENT} to the folder that holds 'coco'"
        )
    try:
        found: dict[str, Any] = json.loads(path.read_bytes())
        pictures = [(int(own["id"]), str(own["file_name"])) for own in found["images"]]
        said = sorted(
            (int(own["id"]), int(own["image_id"]), str(own["caption"])) for own in found["annotations"]
        )
    except (ValueError, KeyError, TypeError) as error:
        raise _damaged(
            path, f"is cut short, or no file of COCO's captions ({type(error).__name__})", split.source
        ) from None
    if len(pictures) != count:
        raise _damaged(path, f"describes {len(pictures):,} pictures instead of {count:,}", split.source)
    first: dict[int, str] = {}
    for _, picture, caption in said:
        first.setdefault(picture, tidy(caption))
    for number, name in pictures:
        if not first.get(number):
            raise _damaged(path, f"has no caption of {name}", split.source)
    return [(name, first[number]) for number, name in pictures]


def _read(name: str) -> tuple[Split, Path, list[tuple[str, str]]]:
    """The set `name`: what was published, the data set's folder, and its pairs; raises as `prompt_set`."""
    split, folder = SETS[name], folder_of("coco")
    tiny = stand_in.read(folder)
    return split, folder, _pairs(split, folder / split.annotations, tiny.count(name) if tiny else split.count)


def _there(split: Split, folder: Path, names: list[str]) -> list[Path]:
    """Where the pictures called `names` lie; raises FileNotFoundError, with the first that does not and how many do not."""
    paths = [folder / split.pictures / Path(name).name for name in names]
    if absent := [path for path in paths if not path.is_file()]:
        raise FileNotFoundError(
            f"{len(absent):,} of {len(paths):,} pictures are not in {folder / split.pictures}, the first of them {absent[0].name}: get {split.source}"
        )
    return paths


def prompt_set(name: str, count: int) -> Prompts:
    """The first `count` prompts of the set `name`, one of SETS, always the same, and their pictures.

    Raises ValueError for more than there are; FileNotFoundError, with the addresses to fetch from, where the annotation
    file or a picture is missing; ArchiveError for an annotation file that is damaged or describes another number of
    pictures, and, when it is looked at, for a picture that cannot be decoded.
    """
    split, folder, pairs = _read(name)
    most = min(split.prompts, len(pairs))
    if not 0 < count <= most:
        raise ValueError(
            f"there are {most:,} prompts '{name}', and {count:,} are asked for: lower `sampling.count`"
        )
    paths = _there(split, folder, [picture for picture, _ in pairs[:count]])

    def one(k: int) -> np.ndarray:
        try:
            return decoded(paths[k].read_bytes(), SIDE)
        except ValueError as error:
            raise _damaged(paths[k], f"cannot be decoded ({error})", split.source) from None

    return Prompts(tuple(Prompt(text) for _, text in pairs[:count]), Pictures(one, np.arange(count), SIDE))


def _check(name: str, checksums: bool) -> None:
    split, folder, pairs = _read(name)
    paths = _there(split, folder, [picture for picture, _ in pairs])
    if checksums:
        _verify_listed(folder, [folder / split.annotations, *paths])


def check(checksums: bool = True) -> None:
    """Raise as `prompt_set` where a set's files are not the published ones, naming all sets of which that is so, and for a rehearsal's; no picture is decoded.

    With `checksums`, files are held against checksums.md5 if that lies in the folder.
    """
    require_published(folder_of("coco"), " and ".join(split.source for split in SETS.values()))
    found = []
    for name in SETS:
        try:
            _check(name, checksums)
        except (OSError, ArchiveError) as error:
            found.append(error)
    if len(found) > 1:
        raise ArchiveError("; and ".join(map(str, found)))
    if found:
        raise found[0]
