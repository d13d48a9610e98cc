"""Captioned pictures in the shards of a webdataset or in a folder: where each lies and its caption.

Nothing is unpacked and no picture is decoded to find them. What is found is noted below the folder's .index,
under a name that carries a digest of the files' names, sizes and times: files that changed are gone through
again.
"""

from __future__ import annotations

import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

import numpy as np

from ...storage.files import write_atomically
from ...storage.progress import Progress
from .archives import CHECKSUMS, Archive, ArchiveError
from .image_folder import SUFFIXES, images_below
from .pictures import Pictures, decoded

KINDS = (*SUFFIXES, ".webp")
# a line of it for each picture of a folder that lies beside no text of its own: {"file_name": ..., "text":
# ...}
LISTED = "captions.jsonl"
# names, one a line, of pictures that are not to be used
LEFT_OUT = "left-out.txt"
INDEX = ".index"
# what a whole tar ends with, at the least
END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Picture:
    """A picture: its name below the data set's folder, where its bytes are in its file, and its caption."""

    name: str
    start: int
    size: int
    caption: str


@dataclass(frozen=True, eq=False)
class Index:
    """The captioned pictures of a folder, in the order of their files.

    files              what holds them, below the folder: shards, or the pictures themselves
    places             (count, 3), int64: of each its file, the first of its bytes there, and how many these
                       are
    captions           one of each
    without_caption    how many pictures have no caption, and are not among these
    left_out           how many are named in left-out.txt, and are not among these
    """

    folder: Path
    files: tuple[str, ...]
    places: np.ndarray
    captions: tuple[str, ...]
    without_caption: int
    left_out: int

    def pictures(self, side: int) -> Pictures:
        """The pictures (count, 3, side, side), uint8, decoded when they are looked at; see `decoded`.

        Raises ArchiveError, naming the picture, for one that cannot be decoded, when it is looked at.
        """

        def decode(k: int) -> np.ndarray:
            file, start, size = map(int, self.places[k])
            path = self.folder / self.files[file]
            with open(path, "rb") as stream:
                stream.seek(start)
                content = stream.read(size)
            try:
                return decoded(content, side)
            except ValueError as error:
                name = self.files[file] + (f"/{_member(path, start)}" if path.suffix == ".tar" else "")
                passed = f"write {name} into {self.folder / LEFT_OUT}, whose pictures are passed over"
                found = f"{self.folder / name} cannot be decoded ({error})"
                raise ArchiveError(f"{found}: get it again, or {passed}") from None

        return Pictures(decode, np.arange(len(self.places)), side)

    def written(self) -> bytes:
        """This, as a file."""
        file, words = BytesIO(), {name: getattr(self, name) for name in WORDS}
        np.savez(file, places=self.places, words=np.frombuffer(json.dumps(words).encode(), np.uint8))
        return file.getvalue()

    @classmethod
    def read(cls, path: Path, folder: Path) -> Index:
        """What `written` made; raises ValueError and its like for a damaged file."""
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as parts:
            places, words = parts["places"], json.loads(parts["words"].tobytes())
        files, captions, *counts = (words[name] for name in WORDS)
        return cls(folder, tuple(files), places, tuple(captions), *counts)


WORDS = ("files", "captions", "without_caption", "left_out")


def tidy(caption: str) -> str:
    """A caption on one line, without blanks that say nothing."""
    return " ".join(caption.split())


def _member(shard: Path, start: int) -> str:
    """The name of what begins at byte `start` of a shard."""
    with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
        names = (member.name for member in members if member.offset_data == start)
        return next(names, f"something at byte {start:,}")


def _json_caption(content: bytes) -> str:
    """The caption in the .json beside a picture, or nothing."""
    found = json.loads(content)
    if not isinstance(found, dict) or not isinstance(caption := found.get("caption") or "", str):
        raise ValueError("no object whose `caption` is a text")
    return caption


def _shard_pictures(archive: Archive, shard: Path) -> Iterator[Picture]:
    """The pictures of a shard, in its order.

    They are members such as 000000000.jpg, with captions in 000000000.txt or, without one, in 000000000.json.
    """
    pictures: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, str] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
            # only into memory: where a member would be unpacked to never matters
            for member in (member for member in members if member.isfile()):
                stem, dot, kind = member.name.rpartition(".")
                try:
                    if kind == "txt":
                        texts[stem] = members.extractfile(member).read().decode()
                    elif kind == "json":
                        texts.setdefault(stem, _json_caption(members.extractfile(member).read()))
                except ValueError as error:
                    wanted = f"caption in {'UTF-8' if kind == 'txt' else 'JSON'} ({type(error).__name__})"
                    raise archive.damaged(shard, f"holds a {member.name} that is no {wanted}") from None
                if dot + kind.lower() in KINDS:
                    if stem in pictures:
                        both = f"{pictures[stem].name} and {member.name}"
                        raise archive.damaged(shard, f"holds two pictures with one caption, {both}")
                    pictures[stem] = member
            file.seek(members.offset)
            # tarfile takes an archive that ends in the middle of a header, or has none of its end, for a
            # whole one
            if file.read(len(END)) != END:
                after = f"after {members.offset:,} of its {shard.stat().st_size:,} bytes"
                raise archive.damaged(shard, f"is cut short, or damaged {after}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise archive.damaged(shard, f"is cut short, or no tar archive ({type(error).__name__})") from None
    name = shard.relative_to(archive.folder).as_posix()
    for stem, member in pictures.items():
        yield Picture(f"{name}/{member.name}", member.offset_data, member.size, texts.get(stem, ""))


def _listed(path: Path) -> dict[str, str]:
    """Captions by the picture's name, from a captions.jsonl; raises ArchiveError naming a bad line."""
    found: dict[str, str] = {}
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                entry = json.loads(line)
                name, text = entry["file_name"], entry["text"]
                if not isinstance(name, str) or not isinstance(text, str):
                    raise TypeError
            except (ValueError, KeyError, TypeError):
                wanted = '{"file_name": ..., "text": ...}, a picture below that folder and its caption'
                raise ArchiveError(f"{path}, line {number}, is not {wanted}: mend or remove it") from None
            if name in found:
                raise ArchiveError(f"{path}, line {number}, names {name} once more: remove one of the lines")
            found[name] = text
    return found


def _folder_pictures(folder: Path, pictures: Sequence[Path]) -> Iterator[Picture]:
    """The pictures of a folder, with captions in captions.jsonl or, without it, in a .txt beside each."""
    listing, names = folder / LISTED, [path.relative_to(folder).as_posix() for path in pictures]
    texts = _listed(listing) if listing.is_file() else None
    if strangers := sorted((texts or {}).keys() - set(names)):
        cure = "add it, or remove its line"
        raise ArchiveError(f"{listing} names {strangers[0]}, which is no picture below that folder: {cure}")
    for path, name in zip(pictures, names):
        beside = path.with_suffix(".txt")
        if texts is not None:
            caption = texts.get(name, "")
        else:
            try:
                caption = beside.read_text(encoding="utf-8") if beside.is_file() else ""
            except UnicodeDecodeError:
                cure = f"write the caption of {path.name} again"
                raise ArchiveError(f"{beside} is no text in UTF-8: {cure}") from None
        yield Picture(name, 0, path.stat().st_size, caption)


def _files(archive: Archive) -> tuple[list[Path], list[Path]]:
    """What holds the pictures, and other files about them; raises FileNotFoundError where there are none."""
    folder = archive.folder
    beside = [path for path in (folder / name for name in (LEFT_OUT, CHECKSUMS)) if path.is_file()]
    if shards := sorted(folder.rglob("*.tar")):
        return shards, beside
    pictures = images_below(folder, KINDS)
    if not pictures:
        raise archive.missing(folder / "a shard such as 00000.tar, or a folder of pictures with captions,")
    if (folder / LISTED).is_file():
        return pictures, [*beside, folder / LISTED]
    texts = [path.with_suffix(".txt") for path in pictures]
    return pictures, [*beside, *(text for text in texts if text.is_file())]


def _left_out(folder: Path) -> dict[str, int]:
    """The names in left-out.txt, and their lines."""
    path = folder / LEFT_OUT
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {line.strip(): number for number, line in enumerate(lines, 1) if line.strip()}


def _all_pictures(archive: Archive, holding: Sequence[Path]) -> Iterator[tuple[int, Picture]]:
    """Every picture, and which of `holding` it is in: shards, or the pictures themselves."""
    if holding[0].suffix != ".tar":
        yield from enumerate(_folder_pictures(archive.folder, holding))
        return
    with Progress(len(holding), f"going through the shards of {archive.folder.name}") as bar:
        for number, shard in enumerate(holding):
            for picture in _shard_pictures(archive, shard):
                yield number, picture
            bar.update(number + 1)


def _build(archive: Archive, holding: Sequence[Path]) -> Index:
    """The index of what `holding` holds."""
    archive.verify_listed(holding)
    folder, unwanted, met, bare = archive.folder, _left_out(archive.folder), set(), 0
    places: list[tuple[int, int, int]] = []
    captions: list[str] = []
    for number, picture in _all_pictures(archive, holding):
        if picture.name in unwanted:
            met.add(picture.name)
        elif caption := tidy(picture.caption):
            places.append((number, picture.start, picture.size))
            captions.append(caption)
        else:
            bare += 1
    if strangers := sorted(unwanted.keys() - met):
        line = f"{folder / LEFT_OUT}, line {unwanted[strangers[0]]}"
        cure = "write the name below that folder, or remove the line"
        raise ArchiveError(f"{line}, names {strangers[0]}, and there is no such picture: {cure}")
    if not captions:
        raise archive.damaged(folder, f"holds {bare + len(met):,} pictures and no caption of any")
    files = tuple(path.relative_to(folder).as_posix() for path in holding)
    return Index(folder, files, np.array(places, np.int64), tuple(captions), bare, len(met))


def index(archive: Archive) -> Index:
    """The captioned pictures below the folder of `archive`.

    They are those of all shards *.tar, by name; without a shard, all pictures, by name. Pictures without a
    caption, or with blanks for one, are passed over and counted. Raises FileNotFoundError where there is
    neither, and ArchiveError, naming the file or its line, for a shard cut short, captions that cannot be
    read, and where no picture has one. Files are held against checksums.md5 if that lies in the folder.
    """
    holding, others = _files(archive)
    path = archive.folder / INDEX / f"{archive.digest([*holding, *others])}.npz"
    try:
        return Index.read(path, archive.folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        pass  # absent, or damaged: it is made again
    built = _build(archive, holding)
    write_atomically(path, built.written())
    for old in path.parent.glob("*.npz"):
        if old != path:
            old.unlink(missing_ok=True)
    return built


def check(archive: Archive, checksums: bool) -> None:
    """Raise as `index` where there is nothing and (with `checksums`) for all else; no picture is decoded."""
    archive.require_published()
    index(archive) if checksums else _files(archive)
