"""Captioned pictures in the shards of a webdataset or in a folder: where each lies and its caption.

Nothing is unpacked and no picture is decoded to find them. What is found is noted below the folder's .index,
under a name that carries a digest of the files' names, sizes and times.
"""

import json
import tarfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Self

import numpy as np

from ...storage.files import write_atomically
from ...storage.progress import Progress
from . import archives
from .archives import CHECKSUMS, Archive, ArchiveError, files_below
from .image_folder import SUFFIXES
from .pictures import Pictures, decoded

KINDS = (*SUFFIXES, ".webp")
# captions of a folder's pictures, in the place of texts beside them: {"file_name": ..., "text": ...} a line
LISTED = "captions.jsonl"
# names, one a line, of pictures that are not to be used
LEFT_OUT = "left-out.txt"
INDEX = ".index"
# what is found in the same files changes with how they are read: this counts its changes
READ_AS = 2
# bytes beyond which a text is no caption, and a file no picture
LONGEST_CAPTION, LARGEST_PICTURE = 2**20, 2**28
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
                raise ArchiveError(f"{self.folder / name} {error}: get it again, or {passed}") from None

        return Pictures(decode, np.arange(len(self.places)), side)

    def written(self) -> bytes:
        """This, as a file."""
        names = ("files", "captions", "without_caption", "left_out")
        file, words = BytesIO(), {name: getattr(self, name) for name in names}
        np.savez(file, places=self.places, words=np.frombuffer(json.dumps(words).encode(), np.uint8))
        return file.getvalue()

    @classmethod
    def read(cls, path: Path, folder: Path) -> Self:
        """What `written` made; a damaged file raises anything."""
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


def _json_caption(text: str) -> str:
    found = json.loads(text)
    if not isinstance(found, dict) or not isinstance(caption := found.get("caption") or "", str):
        raise ValueError("no object whose `caption` is a text")
    return caption


def _check_member(archive: Archive, shard: Path, member: tarfile.TarInfo, most: int) -> None:
    """Raise ArchiveError for a caption or picture that does not lie in the shard whole, or is too large."""
    what = "with holes" if member.issparse() else "" if member.isfile() else "as a link or folder"
    if what:
        raise archive.damaged(shard, f"holds a {member.name} that is stored {what} and not as a whole file")
    if not 0 <= member.size <= most:
        found = f"of {member.size:,} bytes, and none has more than {most:,}"
        raise archive.damaged(shard, f"holds a {member.name} {found}")


def _caption_in(archive: Archive, shard: Path, member: tarfile.TarInfo, members: tarfile.TarFile) -> str:
    """The caption in a member of a shard: a text, or JSON."""
    as_json = member.name.endswith(".json")
    _check_member(archive, shard, member, LONGEST_CAPTION)
    try:
        text = archives.as_text(members.extractfile(member).read())
        return _json_caption(text) if as_json else text
    except (ValueError, RecursionError) as error:
        wanted = f"caption in {'JSON' if as_json else 'UTF-8'} ({type(error).__name__})"
        raise archive.damaged(shard, f"holds a {member.name} that is no {wanted}") from None


def _shard_pictures(archive: Archive, shard: Path) -> Iterator[Picture]:
    """The pictures of a shard, in its order: 0.jpg has its caption in 0.txt or, without one, in 0.json."""
    pictures: dict[str, tarfile.TarInfo] = {}
    texts: dict[tuple[str, str], str] = {}
    try:
        with open(shard, "rb") as file, tarfile.open(fileobj=file, mode="r:") as members:
            # only into memory: nothing is unpacked
            for member in members:
                if member.size < 0:
                    # tarfile goes back by it, and round for ever
                    raise archive.damaged(shard, f"holds a {member.name} of {member.size:,} bytes")
                stem, dot, kind = member.name.rpartition(".")
                if archives.is_hidden(stem.removeprefix("./")):
                    continue
                if kind in ("txt", "json"):
                    if (stem, kind) in texts:
                        raise archive.damaged(shard, f"holds two captions called {member.name}")
                    texts[stem, kind] = _caption_in(archive, shard, member, members)
                if dot + kind.lower() in KINDS:
                    if stem in pictures:
                        both = f"{pictures[stem].name} and {member.name}"
                        raise archive.damaged(shard, f"holds two pictures with one caption, {both}")
                    _check_member(archive, shard, member, LARGEST_PICTURE)
                    pictures[stem] = member
            file.seek(members.offset)
            # tarfile takes an archive without its end, or cut in the middle of a header, for a whole one
            if file.read(len(END)) != END:
                after = f"after {members.offset:,} of its {shard.stat().st_size:,} bytes"
                raise archive.damaged(shard, f"is cut short, or damaged {after}")
    except (tarfile.TarError, EOFError, OSError, ValueError) as error:
        raise archive.damaged(shard, f"is cut short, or no tar archive ({type(error).__name__})") from None
    name = shard.relative_to(archive.folder).as_posix()
    for stem, member in pictures.items():
        caption = texts.get((stem, "txt"), texts.get((stem, "json"), ""))
        yield f"{name}/{member.name}", member.offset_data, member.size, caption


def _listed(path: Path) -> dict[str, str]:
    """Captions by the picture's name, from a captions.jsonl; raises ArchiveError naming a bad line."""
    found: dict[str, str] = {}
    with open(path, "rb") as lines:
        # a longer line is cut, and then no JSON
        for number, line in enumerate(iter(lambda: lines.readline(LONGEST_CAPTION), b""), 1):
            try:
                entry = json.loads(archives.as_text(line))
                name, text = entry["file_name"], entry["text"]
                if not isinstance(name, str) or not isinstance(text, str):
                    raise TypeError
            except (ValueError, KeyError, TypeError, RecursionError):
                wanted = '{"file_name": ..., "text": ...}, a picture below that folder and its caption'
                raise ArchiveError(f"{path}, line {number}, is not {wanted}: mend or remove it") from None
            if name in found:
                raise ArchiveError(f"{path}, line {number}, names {name} once more: remove one of the lines")
            found[name] = text
    return found


def _captions_beside(pictures: Mapping[str, Path]) -> dict[str, str]:
    """Captions by the picture's name, from a .txt beside each that has one."""
    found, owners = {}, {}
    for name, picture in pictures.items():
        beside = picture.with_suffix(".txt")
        if beside.exists():
            if (other := owners.setdefault(beside, name)) != name:
                what = f"is the caption of two pictures, {other} and {name}"
                raise ArchiveError(f"{beside} {what}: rename one with a caption of its own, or remove it")
            found[name] = archives.text_of(
                beside, f"write the caption of {picture.name} again", LONGEST_CAPTION
            )
    return found


def _folder_pictures(folder: Path, pictures: Sequence[Path]) -> Iterator[Picture]:
    """The pictures of a folder, with captions in captions.jsonl or, without it, in a .txt beside each."""
    listing, named = folder / LISTED, {path.relative_to(folder).as_posix(): path for path in pictures}
    texts = _listed(listing) if listing.exists() else _captions_beside(named)
    if strangers := sorted(texts.keys() - named.keys()):
        cure = "add it, or remove its line"
        raise ArchiveError(f"{listing} names {strangers[0]}, which is no picture below that folder: {cure}")
    for name, path in named.items():
        yield name, 0, path.stat().st_size, texts.get(name, "")


def _files(archive: Archive) -> tuple[list[Path], list[Path]]:
    """What holds the pictures, and other files about them; raises FileNotFoundError where there are none."""
    folder = archive.folder
    lists = [path for name in (LEFT_OUT, CHECKSUMS, LISTED) if (path := folder / name).exists()]
    for path in lists:
        if what := archives.no_file(path):
            raise ArchiveError(f"{path} {what}: put the file there, or remove it")
    if holding := files_below(folder, (".tar",)):
        return holding, lists
    if not (holding := files_below(folder, KINDS)):
        raise archive.missing(folder / "a shard such as 00000.tar, or a folder of pictures with captions,")
    beside = [] if folder / LISTED in lists else [path.with_suffix(".txt") for path in holding]
    return holding, lists + [path for path in beside if path.is_file()]


def _left_out(folder: Path) -> dict[str, int]:
    """The names in left-out.txt, and the numbers of their lines."""
    path = folder / LEFT_OUT
    lines = archives.text_of(path, "write it again").splitlines() if path.exists() else []
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
    path = archive.folder / INDEX / f"{archive.digest([*holding, *others], READ_AS)}.npz"
    try:
        return Index.read(path, archive.folder)
    except Exception:
        pass  # absent, or damaged, which can fail in any way: it is made again
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
