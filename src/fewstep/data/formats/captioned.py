"""Captioned pictures on disk, in the shards of a webdataset or in a folder: where each lies and what is said of it, found once.

Nothing is unpacked and no picture is decoded to find them. What is found is noted below the folder's .index, under a name
that carries a digest of the files' names, sizes and times: files that changed are gone through again.
"""

from __future__ import annotations

import hashlib
import json
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from ...storage.files import write_atomically
from ...storage.progress import Progress
from .archives import CHECKSUMS, SUFFIXES, ArchiveError, _damaged, _missing, _verify_listed
from .pictures import Pictures, decoded

KINDS = (*SUFFIXES, ".webp")
# a line of it for each picture of a folder that lies beside no text of its own: {"file_name": ..., "text": ...}
LISTED = "captions.jsonl"
# names, one a line, of pictures that are not to be used
LEFT_OUT = "left-out.txt"
INDEX = ".index"
# what a whole tar ends with, at the least
END = bytes(2 * tarfile.BLOCKSIZE)


@dataclass(frozen=True)
class Found:
    """A picture: its name below the data set's folder, where its bytes are in its file, and its caption, or nothing."""

    name: str
    start: int
    size: int
    caption: str


@dataclass(frozen=True, eq=False)
class Index:
    """The captioned pictures of a folder, in the order of their files.

    files     what holds them, below the folder: shards, or the pictures themselves
    places    (count, 3), int64: of each its file, the first of its bytes there, and how many these are
    captions  one of each
    bare      how many pictures have no caption, and are not among these
    left_out  how many are named in left-out.txt, and are not among these
    """

    folder: Path
    files: tuple[str, ...]
    places: np.ndarray
    captions: tuple[str, ...]
    bare: int
    left_out: int

    def pictures(self, side: int) -> Pictures:
        """The pictures (count, 3, side, side), uint8, decoded when they are looked at; see `decoded`.

        Raises ArchiveError, naming the picture, for one that cannot be decoded, when it is looked at.
        """

        def one(k: int) -> np.ndarray:
            file, start, size = map(int, self.places[k])
            path = self.folder / self.files[file]
            with open(path, "rb") as stream:
                stream.seek(start)
                content = stream.read(size)
            try:
                return decoded(content, side)
            except ValueError as error:
                name = self.files[file] + (f"/{_member(path, start)}" if path.suffix == ".tar" else "")
                cure = f"get it again, or write {name} into {self.folder / LEFT_OUT}, whose pictures are passed over"
                raise ArchiveError(f"{self.folder / name} cannot be decoded ({error}): {cure}") from None

        return Pictures(one, np.arange(len(self.places)), side)

    def written(self) -> bytes:
        """This, as a file."""
        words, file = (
            {"files": self.files, "captions": self.captions, "bare": self.bare, "left_out": self.left_out},
            BytesIO(),
        )
        np.savez(file, places=self.places, words=np.frombuffer(json.dumps(words).encode(), np.uint8))
        return file.getvalue()

    @classmethod
    def read(cls, path: Path, folder: Path) -> Index:
        """What `written` made; raises ValueError and its like for a damaged file."""
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as parts:
            places, words = parts["places"], json.loads(parts["words"].tobytes())
        return cls(
            folder, tuple(words["files"]), places, tuple(words["captions"]), words["bare"], words["left_out"]
        )


def tidy(caption: str) -> str:
    """A caption on one line, without blanks that say nothing."""
    return " ".join(caption.split())


def _member(shard: Path, start: int) -> str:
    """The name of what begins at byte `start` of a shard."""
    with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
        return next(
            (member.name for member in archive if member.offset_data == start), f"something at byte {start:,}"
        )


def _said(content: bytes) -> str:
    """The caption in the .json beside a picture, or nothing."""
    found = json.loads(content)
    if not isinstance(found, dict) or not isinstance(caption := found.get("caption") or "", str):
        raise ValueError("no object whose `caption` is a text")
    return caption


def _of_shard(folder: Path, shard: Path, source: str) -> Iterator[Found]:
    """The pictures of a shard, in its order: members 000000000.jpg, with captions in 000000000.txt or, without one, in 000000000.json."""
    pictures: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, str] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as archive:
            # only into memory: where a member would be unpacked to never matters
            for member in (member for member in archive if member.isfile()):
                stem, dot, kind = member.name.rpartition(".")
                try:
                    if kind == "txt":
                        texts[stem] = archive.extractfile(member).read().decode()
                    elif kind == "json":
                        texts.setdefault(stem, _said(archive.extractfile(member).read()))
                except ValueError as error:
                    raise _damaged(
                        shard,
                        f"holds a {member.name} that is no caption in {'UTF-8' if kind == 'txt' else 'JSON'} ({type(error).__name__})",
                        source,
                    ) from None
                if dot + kind.lower() in KINDS:
                    if stem in pictures:
                        raise _damaged(
                            shard,
                            f"holds two pictures with one caption, {pictures[stem].name} and {member.name}",
                            source,
                        )
                    pictures[stem] = member
            file.seek(archive.offset)
            # tarfile takes an archive that ends in the middle of a header, or has none of its end, for a whole one
            if file.read(len(END)) != END:
                raise _damaged(
                    shard,
                    f"is cut short, or damaged after {archive.offset:,} of its {shard.stat().st_size:,} bytes",
                    source,
                )
    except (tarfile.TarError, EOFError, OSError) as error:
        raise _damaged(shard, f"is cut short, or no tar archive ({type(error).__name__})", source) from None
    name = shard.relative_to(folder).as_posix()
    return (
        Found(f"{name}/{member.name}", member.offset_data, member.size, texts.get(stem, ""))
        for stem, member in pictures.items()
    )


def _listed(path: Path) -> dict[str, str]:
    """The captions in a captions.jsonl, by the picture's name below its folder; raises ArchiveError naming the line that says none."""
    found: dict[str, str] = {}
    with open(path, "rb") as lines:
        for number, line in enumerate(lines, 1):
            try:
                said = json.loads(line)
                name, text = said["file_name"], said["text"]
                if not isinstance(name, str) or not isinstance(text, str):
                    raise TypeError
            except (ValueError, KeyError, TypeError):
                raise ArchiveError(
                    f'{path}, line {number}, is not {{"file_name": ..., "text": ...}}, a picture below that folder and its caption: mend or remove it'
                ) from None
            if name in found:
                raise ArchiveError(f"{path}, line {number}, names {name} once more: remove one of the lines")
            found[name] = text
    return found


def _of_folder(folder: Path, pictures: Sequence[Path]) -> Iterator[Found]:
    """The pictures of a folder, with captions in captions.jsonl or, where that is not, each in a .txt of the same name beside it."""
    listing, names = folder / LISTED, [path.relative_to(folder).as_posix() for path in pictures]
    texts = _listed(listing) if listing.is_file() else None
    if strangers := sorted((texts or {}).keys() - set(names)):
        raise ArchiveError(
            f"{listing} names {strangers[0]}, which is no picture below that folder: add it, or remove its line"
        )
    for path, name in zip(pictures, names):
        beside = path.with_suffix(".txt")
        try:
            caption = (
                texts.get(name, "")
                if texts is not None
                else beside.read_text(encoding="utf-8")
                if beside.is_file()
                else ""
            )
        except UnicodeDecodeError:
            raise ArchiveError(
                f"{beside} is no text in UTF-8: write the caption of {path.name} again"
            ) from None
        yield Found(name, 0, path.stat().st_size, caption)


def _files(folder: Path, source: str) -> tuple[list[Path], list[Path]]:
    """What holds the pictures, and whatever else says something of them; raises FileNotFoundError where there are none."""
    beside = [path for path in (folder / name for name in (LEFT_OUT, CHECKSUMS)) if path.is_file()]
    if shards := sorted(folder.rglob("*.tar")):
        return shards, beside
    pictures = sorted(
        (path for path in folder.rglob("*") if path.suffix.lower() in KINDS),
        key=lambda path: path.relative_to(folder).as_posix(),
    )
    if not pictures:
        raise _missing(folder / "a shard such as 00000.tar, or a folder of pictures with captions,", source)
    if (folder / LISTED).is_file():
        return pictures, [*beside, folder / LISTED]
    return pictures, [*beside, *(text for path in pictures if (text := path.with_suffix(".txt")).is_file())]


def _left_out(folder: Path) -> dict[str, int]:
    """The names in left-out.txt, and their lines."""
    path = folder / LEFT_OUT
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return {line.strip(): number for number, line in enumerate(lines, 1) if line.strip()}


def _found(folder: Path, holding: Sequence[Path], source: str) -> Iterator[tuple[int, Found]]:
    """Every picture, and which of `holding` it is in: shards, or the pictures themselves."""
    if holding[0].suffix != ".tar":
        yield from enumerate(_of_folder(folder, holding))
        return
    with Progress(len(holding), f"going through the shards of {folder.name}") as bar:
        for number, shard in enumerate(holding):
            for own in _of_shard(folder, shard, source):
                yield number, own
            bar.update(number + 1)


def _made(folder: Path, holding: Sequence[Path], source: str) -> Index:
    """The index of what `holding` holds."""
    _verify_listed(folder, holding)
    unwanted, met, bare = _left_out(folder), set(), 0
    places: list[tuple[int, int, int]] = []
    captions: list[str] = []
    for number, own in _found(folder, holding, source):
        if own.name in unwanted:
            met.add(own.name)
        elif caption := tidy(own.caption):
            places.append((number, own.start, own.size))
            captions.append(caption)
        else:
            bare += 1
    if strangers := sorted(unwanted.keys() - met):
        line = f"{folder / LEFT_OUT}, line {unwanted[strangers[0]]}"
        raise ArchiveError(
            f"{line}, names {strangers[0]}, and there is no such picture: write the name below that folder, or remove the line"
        )
    if not captions:
        raise _damaged(folder, f"holds {bare + len(met):,} pictures and no caption of any", source)
    files = tuple(path.relative_to(folder).as_posix() for path in holding)
    return Index(folder, files, np.array(places, np.int64), tuple(captions), bare, len(met))


def index(folder: Path, source: str) -> Index:
    """The captioned pictures below `folder`; `source` says what to get, and where.

    They are those of all shards *.tar, by name; without a shard, all pictures, by name. Pictures without a caption, or with
    blanks for one, are passed over and counted. Raises FileNotFoundError where there is neither, and ArchiveError, naming
    the file or its line, for a shard cut short, captions that cannot be read, and where no picture has one. Files are held
    against checksums.md5 if that lies in `folder`.
    """
    holding, saying = _files(folder, source)
    stamps: list[Any] = [
        (path.relative_to(folder).as_posix(), (status := path.stat()).st_size, status.st_mtime_ns)
        for path in [*holding, *saying]
    ]
    path = folder / INDEX / f"{hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]}.npz"
    try:
        return Index.read(path, folder)
    except (OSError, ValueError, KeyError, TypeError, EOFError, zipfile.BadZipFile, zlib.error):
        pass  # absent, or damaged: it is made again
    made = _made(folder, holding, source)
    write_atomically(path, made.written())
    for old in path.parent.glob("*.npz"):
        if old != path:
            old.unlink(missing_ok=True)
    return made


def check(folder: Path, source: str, checksums: bool) -> None:
    """Raise as `index` where there is nothing to read and (with `checksums`) for all else, but for what cannot be decoded."""
    index(folder, source) if checksums else _files(folder, source)
