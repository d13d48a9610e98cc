"""Captioned pictures in the shards of a webdataset, as img2dataset writes them: where each lies, its caption.

Nothing is unpacked and no picture is decoded to find them. What is found is noted below the folder's .index,
under a name that carries a digest of the shards' names, sizes and times.
"""

import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...storage.files import write_atomically
from ...storage.progress import Progress
from . import archives
from .archives import Archive, ArchiveError
from .pictures import SUFFIXES, Pictures, decoded

KINDS = (*SUFFIXES, ".webp")
INDEX = ".index"
# bytes beyond which a text is no caption, and a file no picture
LONGEST_CAPTION, LARGEST_PICTURE = 2**20, 2**28
# what a whole tar ends with, at the least
END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True, eq=False)
class Index:
    """The captioned pictures of a folder, in the order of its `shards`, which are named as below it.

    `places` (count, 3), int64, are the shard, first byte and bytes of each.
    """

    folder: Path
    shards: list[str]
    places: np.ndarray
    captions: tuple[str, ...]

    def pictures(self, side: int) -> Pictures:
        """The pictures (count, 3, side, side), uint8, decoded when looked at; ArchiveError for a bad one."""

        def decode(k: int) -> np.ndarray:
            number, start, size = map(int, self.places[k])
            shard = self.folder / self.shards[number]
            try:
                with open(shard, "rb") as file:
                    file.seek(start)
                    return decoded(file.read(size), side)
            except ValueError as error:
                cure = "get the shard again, or take the picture out of it with `tar --delete`"
                raise ArchiveError(f"{shard}/{_member(shard, start)} {error}: {cure}") from None

        return Pictures(decode, np.arange(len(self.places)), side)


def tidy(caption: str) -> str:
    """A caption on one line, single blanks between its words."""
    return " ".join(caption.split())


def _member(shard: Path, start: int) -> str:
    """The name of what begins at byte `start` of a shard."""
    with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
        names = (member.name for member in members if member.offset_data == start)
        return next(names, f"something at byte {start:,}")


def _caption(archive: Archive, shard: Path, name: str, content: bytes) -> str:
    try:
        return tidy(archives.as_text(content))
    except ValueError:
        raise archive.damaged(shard, f"holds a {name} that is no caption in UTF-8") from None


def _pictures(archive: Archive, shard: Path) -> Iterator[tuple[int, int, str]]:
    """First byte, bytes and caption of each picture of a shard, in its order: that of 0.jpg is in 0.txt."""
    pictures: dict[str, tuple[int, int]] = {}
    captions: dict[str, str] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
            for member in members:
                if member.size < 0:
                    # tarfile goes back by it, and round for ever
                    raise archive.damaged(shard, f"holds a {member.name} of {member.size:,} bytes")
                stem, dot, kind = member.name.rpartition(".")
                is_caption = kind == "txt"
                hidden = archives.is_hidden(stem.removeprefix("./"))
                if hidden or not (is_caption or dot + kind.lower() in KINDS):
                    continue
                if stem in (captions if is_caption else pictures):
                    what = "captions" if is_caption else "pictures with one caption,"
                    raise archive.damaged(shard, f"holds two {what} called {stem}")
                most = LONGEST_CAPTION if is_caption else LARGEST_PICTURE
                if not member.isfile() or member.issparse() or member.size > most:
                    found = f"{member.name} that is no whole file of {most:,} bytes at most"
                    raise archive.damaged(shard, f"holds a {found}")
                if is_caption:
                    content = members.extractfile(member).read()
                    captions[stem] = _caption(archive, shard, member.name, content)
                else:
                    pictures[stem] = member.offset_data, member.size
            file.seek(members.offset)
            # tarfile takes an archive without its end, or cut in the middle of a header, for a whole one
            if file.read(len(END)) != END:
                after = f"after {members.offset:,} of its {shard.stat().st_size:,} bytes"
                raise archive.damaged(shard, f"is cut short, or damaged {after}")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise archive.damaged(shard, f"is cut short, or no tar archive ({type(error).__name__})") from None
    for stem, place in pictures.items():
        yield *place, captions.get(stem, "")


def index(archive: Archive) -> Index:
    """The pictures with a caption in all shards *.tar below the folder of `archive`; others are passed over.

    Raises FileNotFoundError where there is no shard, and ArchiveError, naming it, for one cut short, captions
    that cannot be read, and no caption at all.
    """
    folder, shards = archive.folder, archives.files_below(archive.folder, (".tar",))
    if not shards:
        raise archive.missing("a shard such as 00000.tar")
    names = [path.relative_to(folder).as_posix() for path in shards]
    path = folder / INDEX / f"{archive.digest(shards)}.json"
    try:
        found = json.loads(path.read_bytes())
        return Index(folder, names, np.array(found["places"], np.int64), tuple(found["captions"]))
    except Exception:
        pass  # absent, or damaged, which can fail in any way: it is made again
    places, captions, bare = [], [], 0
    with Progress(len(shards), f"going through the shards of {folder.name}") as bar:
        for number, shard in enumerate(shards):
            for start, size, caption in _pictures(archive, shard):
                if caption:
                    places.append((number, start, size))
                    captions.append(caption)
                bare += not caption
            bar.update(number + 1)
    if not captions:
        raise archive.damaged(folder, f"holds {bare:,} pictures and no caption of any")
    write_atomically(path, json.dumps({"places": places, "captions": captions}).encode())
    for old in path.parent.iterdir():
        if old != path:
            old.unlink(missing_ok=True)
    return Index(folder, names, np.array(places, np.int64), tuple(captions))
