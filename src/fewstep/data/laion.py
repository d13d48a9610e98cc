"""LAION's captioned pictures at 512x512, read where they lie: in img2dataset's shards of a webdataset.

SCFlow took 2,000,000 pairs with an aesthetic score above 6.25, which ones is not on record: here they are
those that somebody has fetched, in the order of their files. Each is the centred square, made 512 pixels wide
bicubically. Nothing is mirrored, since captions say left and right. The zero-shot prompts are COCO's.

Nothing is unpacked and no picture is decoded to find them. What is found is noted below the folder's .index,
under a name that carries a digest of the shards' names, sizes and times.
"""

import json
import tarfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..storage.files import write_atomically
from ..storage.progress import Progress
from . import coco
from .coco import prompt_set as prompt_set
from .formats.archives import Archive, ArchiveError, as_text, files_below, is_hidden, raise_together, tidy
from .formats.pictures import SUFFIXES, Pictures, decoded
from .images import Images

COUNT, SIDE = 2_000_000, 512  # as many as SCFlow's student was trained on
_PAIRS = "pictures of LAION-Aesthetics V2 with a score above 6.25 and their captions"
_TOOL = "img2dataset (https://github.com/rom1504/img2dataset, with --output_format webdataset)"
HOME = f"{_PAIRS} (https://laion.ai/blog/laion-aesthetics), fetched by {_TOOL}"
ARCHIVE = Archive("laion", HOME)
PROMPTS = coco.SETS
KINDS = (*SUFFIXES, ".webp")
INDEX = ".index"
# bytes beyond which a text is no caption, and a file no picture
LONGEST_CAPTION, LARGEST_PICTURE = 2**20, 2**28
END = bytes(2 * tarfile.BLOCKSIZE)  # what a whole tar ends with, at the least


@dataclass(frozen=True, eq=False)
class Index:
    """The captioned pictures: of each the shard, first byte and bytes, `places` (count, 3), int64."""

    shards: list[Path]
    places: np.ndarray
    captions: tuple[str, ...]


def _member(shard: Path, start: int) -> str:
    """The name of what begins at byte `start` of a shard."""
    with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
        names = (member.name for member in members if member.offset_data == start)
        return next(names, f"something at byte {start:,}")


def _caption(shard: Path, name: str, content: bytes) -> str:
    try:
        return tidy(as_text(content))
    except ValueError:
        raise ARCHIVE.damaged(shard, f"holds a {name} that is no caption in UTF-8") from None


def _pictures(shard: Path) -> Iterator[tuple[int, int, str]]:
    """First byte, bytes and caption of each picture of a shard, in its order: that of 0.jpg is in 0.txt."""
    pictures: dict[str, tuple[int, int]] = {}
    captions: dict[str, str] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
            for member in members:
                if member.size < 0:
                    # tarfile goes back by it, and round for ever
                    raise ARCHIVE.damaged(shard, f"holds a {member.name} of {member.size:,} bytes")
                stem, dot, kind = member.name.rpartition(".")
                is_caption = kind == "txt"
                if is_hidden(stem.removeprefix("./")) or not (is_caption or dot + kind.lower() in KINDS):
                    continue
                if stem in (captions if is_caption else pictures):
                    what = "captions" if is_caption else "pictures with one caption,"
                    raise ARCHIVE.damaged(shard, f"holds two {what} called {stem}")
                most = LONGEST_CAPTION if is_caption else LARGEST_PICTURE
                if not member.isfile() or member.issparse() or member.size > most:
                    found = f"{member.name} that is no whole file of {most:,} bytes at most"
                    raise ARCHIVE.damaged(shard, f"holds a {found}")
                if is_caption:
                    captions[stem] = _caption(shard, member.name, members.extractfile(member).read())
                else:
                    pictures[stem] = member.offset_data, member.size
            file.seek(members.offset)
            # tarfile takes an archive without its end, or cut in the middle of a header, for a whole one
            if file.read(len(END)) != END:
                after = f"after {members.offset:,} of its {shard.stat().st_size:,} bytes"
                raise ARCHIVE.damaged(shard, f"is cut short, or damaged {after}")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise ARCHIVE.damaged(shard, f"is cut short, or no tar archive ({type(error).__name__})") from None
    for stem, place in pictures.items():
        yield *place, captions.get(stem, "")


def _index() -> Index:
    """Pictures with a caption in all shards *.tar; FileNotFoundError for none, ArchiveError for bad ones."""
    folder, shards = ARCHIVE.folder, files_below(ARCHIVE.folder, (".tar",))
    if not shards:
        raise ARCHIVE.missing("a shard such as 00000.tar")
    path = folder / INDEX / f"{ARCHIVE.digest(shards)}.json"
    with suppress(Exception):  # absent, or damaged, which can fail in any way, it is made again
        found = json.loads(path.read_bytes())
        return Index(shards, np.array(found["places"], np.int64), tuple(found["captions"]))
    places, captions, bare = [], [], 0
    with Progress(len(shards), f"going through the shards of {folder.name}") as bar:
        for number, shard in enumerate(shards):
            for start, size, caption in _pictures(shard):
                if caption:
                    places.append((number, start, size))
                    captions.append(caption)
                bare += not caption
            bar.update(number + 1)
    if not captions:
        raise ARCHIVE.damaged(folder, f"holds {bare:,} pictures and no caption of any")
    write_atomically(path, json.dumps({"places": places, "captions": captions}).encode())
    for old in path.parent.iterdir():
        if old != path:
            old.unlink(missing_ok=True)
    return Index(shards, np.array(places, np.int64), tuple(captions))


def index() -> Index:
    """Where the captioned pictures are; raises as `_index`."""
    found = _index()
    there = len(found.captions)
    if there != (count := ARCHIVE.count("train", there)):
        raise ARCHIVE.damaged(ARCHIVE.folder, f"holds {there:,} captioned pictures instead of {count}")
    return found


def pixels() -> Pictures:
    """The pictures, (count, 3, 512, 512), uint8, decoded when looked at; raises as `index`, and then."""
    found = index()

    def decode(k: int) -> np.ndarray:
        number, start, size = map(int, found.places[k])
        shard = found.shards[number]
        try:
            with open(shard, "rb") as file:
                file.seek(start)
                return decoded(file.read(size), SIDE)
        except ValueError as error:
            cure = "get the shard again, or take the picture out of it with `tar --delete`"
            raise ArchiveError(f"{shard}/{_member(shard, start)} {error}: {cure}") from None

    return Pictures(decode, np.arange(len(found.places)), SIDE)


def captions() -> tuple[str, ...]:
    """One caption of each picture, in the order of `pixels`; raises as `index`."""
    return index().captions


def _check() -> None:
    ARCHIVE.require_published()
    index()


def check() -> None:
    """Raise, naming all that is missing, unless captioned pictures and prompts are there; none is decoded."""
    raise_together(_check, coco.check)


SOURCE = Images("laion", (3, SIDE, SIDE), False, pixels)
