"""Captioned pictures in the shards of a webdataset or in a folder: where each lies and its caption.

Nothing is unpacked and no picture is decoded to find them. What is found is noted below the folder's .index,
under a name that carries a digest of the files' names, sizes and times.
"""

import json
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np

from ...storage.files import write_atomically
from ...storage.progress import Progress
from .archives import CHECKSUMS, NPZ_ERRORS, Archive, ArchiveError
from .image_folder import SUFFIXES, images_below
from .pictures import Pictures, decoded

KINDS = (*SUFFIXES, ".webp")
# captions of a folder's pictures, in the place of texts beside them: {"file_name": ..., "text": ...} a line
LISTED = "captions.jsonl"
# names, one a line, of pictures that are not to be used
LEFT_OUT = "left-out.txt"
INDEX = ".index"
# what a whole tar ends with, at the least
END = bytes(2 * tarfile.BLOCKSIZE)


# a picture: its name below the data set's folder, its first byte in its file, its bytes, and its caption
Picture = tuple[str, int, int, str]


@dataclass(frozen=True, eq=False)
class Index:
    """The captioned pictures of a folder, in the order of their files.

    `files`, below the folder, hold them: shards, or the pictures themselves. `places` (count, 3), int64, are
    the file, first byte and bytes of each. Others, which are not among these, are counted: those
    `without_caption`, and those `left_out` by left-out.txt.
    """

    folder: Path
    files: tuple[str, ...]
    places: np.ndarray
    captions: tuple[str, ...]
    without_caption: int
    left_out: int

    def pictures(self, side: int) -> Pictures:
        """The pictures (count, 3, side, side), uint8, decoded when looked at; ArchiveError for a bad one."""

        def decode(k: int) -> np.ndarray:
            file, start, size = map(int, self.places[k])
            path = self.folder / self.files[file]
            try:
                with open(path, "rb") as stream:
                    stream.seek(start)
                    return decoded(stream.read(size), side)
            except ValueError as error:
                name = self.files[file] + (f"/{_member(path, start)}" if path.suffix == ".tar" else "")
                passed = f"write {name} into {self.folder / LEFT_OUT}, whose pictures are passed over"
                found = f"{self.folder / name} cannot be decoded ({error})"
                raise ArchiveError(f"{found}: get it again, or {passed}") from None

        return Pictures(decode, np.arange(len(self.places)), side)

    def written(self) -> bytes:
        """This, as a file."""
        names = ("files", "captions", "without_caption", "left_out")
        file, words = BytesIO(), {name: getattr(self, name) for name in names}
        np.savez(file, places=self.places, words=np.frombuffer(json.dumps(words).encode(), np.uint8))
        return file.getvalue()

    @classmethod
    def read(cls, path: Path, folder: Path) -> Self:
        """What `written` made; raises NPZ_ERRORS for a damaged file."""
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as parts:
            words = json.loads(parts["words"].tobytes()) | {"folder": folder, "places": parts["places"]}
        return cls(**words | {name: tuple(words[name]) for name in ("files", "captions")})


def tidy(caption: str) -> str:
    """A caption on one line, single blanks between its words."""
    return " ".join(caption.split())


def _member(shard: Path, start: int) -> str:
    """The name of what begins at byte `start` of a shard."""
    with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
        names = (member.name for member in members if member.offset_data == start)
        return next(names, f"something at byte {start:,}")


def _json_caption(content: bytes) -> str:
    found = json.loads(content)
    if not isinstance(found, dict) or not isinstance(caption := found.get("caption") or "", str):
        raise ValueError("no object whose `caption` is a text")
    return caption


def _shard_pictures(archive: Archive, shard: Path) -> Iterator[Picture]:
    """The pictures of a shard, in its order: 0.jpg has its caption in 0.txt or, without one, in 0.json."""
    pictures: dict[str, tarfile.TarInfo] = {}
    texts: dict[str, str] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
            # only into memory: nothing is unpacked
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
            # tarfile takes an archive without its end, or cut in the middle of a header, for a whole one
            if file.read(len(END)) != END:
                after = f"after {members.offset:,} of its {shard.stat().st_size:,} bytes"
                raise archive.damaged(shard, f"is cut short, or damaged {after}")
    except (tarfile.TarError, EOFError, OSError) as error:
        raise archive.damaged(shard, f"is cut short, or no tar archive ({type(error).__name__})") from None
    name = shard.relative_to(archive.folder).as_posix()
    for stem, member in pictures.items():
        yield f"{name}/{member.name}", member.offset_data, member.size, texts.get(stem, "")


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


def _caption_beside(picture: Path) -> str:
    beside = picture.with_suffix(".txt")
    try:
        return beside.read_text(encoding="utf-8") if beside.is_file() else ""
    except UnicodeDecodeError:
        cure = f"write the caption of {picture.name} again"
        raise ArchiveError(f"{beside} is no text in UTF-8: {cure}") from None


def _folder_pictures(folder: Path, pictures: Sequence[Path]) -> Iterator[Picture]:
    """The pictures of a folder, with captions in captions.jsonl or, without it, in a .txt beside each."""
    listing, named = folder / LISTED, {path.relative_to(folder).as_posix(): path for path in pictures}
    texts = _listed(listing) if listing.is_file() else None
    if strangers := sorted((texts or {}).keys() - named.keys()):
        cure = "add it, or remove its line"
        raise ArchiveError(f"{listing} names {strangers[0]}, which is no picture below that folder: {cure}")
    for name, path in named.items():
        yield name, 0, path.stat().st_size, _caption_beside(path) if texts is None else texts.get(name, "")


def _files(archive: Archive) -> tuple[list[Path], list[Path]]:
    """What holds the pictures, and other files about them; raises FileNotFoundError where there are none."""
    folder = archive.folder
    shards, listing, beside = sorted(folder.rglob("*.tar")), folder / LISTED, [LEFT_OUT, CHECKSUMS]
    holding, others = shards or images_below(folder, KINDS), [folder / name for name in beside]
    if not shards:
        others += [listing] if listing.is_file() else [path.with_suffix(".txt") for path in holding]
    if not holding:
        raise archive.missing(folder / "a shard such as 00000.tar, or a folder of pictures with captions,")
    return holding, [path for path in others if path.is_file()]


def _left_out(folder: Path) -> dict[str, int]:
    """The names in left-out.txt, and the numbers of their lines."""
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
    places, captions = [], []
    for number, (name, start, size, caption) in _all_pictures(archive, holding):
        if name in unwanted:
            met.add(name)
        elif tidied := tidy(caption):
            places.append((number, start, size))
            captions.append(tidied)
        else:
            bare += 1
    if strangers := sorted(unwanted.keys() - met):
        line = f"{folder / LEFT_OUT}, line {unwanted[strangers[0]]}, names {strangers[0]}"
        cure = "write the name below that folder, or remove the line"
        raise ArchiveError(f"{line}, and there is no such picture: {cure}")
    if not captions:
        raise archive.damaged(folder, f"holds {bare + len(met):,} pictures and no caption of any")
    files = tuple(path.relative_to(folder).as_posix() for path in holding)
    return Index(folder, files, np.array(places, np.int64), tuple(captions), bare, len(met))


def index(archive: Archive) -> Index:
    """The captioned pictures in all shards *.tar below the folder of `archive`; without one, in the folder.

    Raises FileNotFoundError where there are none, and ArchiveError, naming the file or its line, for a shard
    cut short, captions that cannot be read, no caption at all, and files that are not those in checksums.md5.
    """
    holding, others = _files(archive)
    path = archive.folder / INDEX / f"{archive.digest([*holding, *others])}.npz"
    try:
        return Index.read(path, archive.folder)
    except NPZ_ERRORS:
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
