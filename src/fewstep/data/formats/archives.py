"""The paper tier's images, read in the formats in which they were published, checked, and kept as memory-mapped arrays.

Each reader decodes once and writes one .npy file beside what it read, whose name carries a digest of the files'
names, sizes and times: files that changed are read again. Nothing is unpickled, and no path in an archive is
ever written to. A rehearsal's tiny archives are read only where rehearsal.json beside them says what they are.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from ...storage import stand_in
from ...storage.workspace import find_root

# The folder that holds a folder for each data set, in the place of paper/data
ENVIRONMENT = "FEWSTEP_DATA"
# `md5sum *` of the files, where somebody has put it beside them
CHECKSUMS = "checksums.md5"

CIFAR10 = "CIFAR-10 (binary version, cifar-10-binary.tar.gz) from https://www.cs.toronto.edu/~kriz/cifar.html"
CIFAR10_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
CIFAR10_FILES = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
IMAGENET32 = "ImageNet 32x32 (npz format: Imagenet32_train_npz.zip, Imagenet32_val_npz.zip) from https://image-net.org/download-images"
IMAGENET32_COUNTS = {"train": 1_281_167, "val": 50_000}
PIXELS = 3 * 32 * 32
SUFFIXES = (".jpg", ".jpeg", ".png")


class ArchiveError(RuntimeError):
    """A published file is damaged or not what it should be; the message names it and the cure."""


def folder_of(name: str) -> Path:
    """Where the files of the data set `name` belong: $FEWSTEP_DATA/<name> where that is set, else paper/data/<name>."""
    chosen = os.environ.get(ENVIRONMENT)
    return (Path(chosen) if chosen else find_root() / "paper" / "data") / name


def _missing(path: Path, source: str) -> FileNotFoundError:
    parent = path.parent
    return FileNotFoundError(
        f"{path.name} is not in {parent}: get {source} and put it there, or set {ENVIRONMENT} to the folder that holds '{parent.name}'"
    )


def _or_rehearsed(path: Path, cure: str) -> str:
    """`cure`, unless what was expected of `path` came from a rehearsal's file beside it."""
    mark = (path if path.is_dir() else path.parent) / stand_in.FILE
    return (
        f"{mark} says what a rehearsal's tiny archives hold, delete it if these are the published ones"
        if mark.is_file()
        else cure
    )


def _damaged(path: Path, what: str, source: str) -> ArchiveError:
    return ArchiveError(f"{path} {what}: {_or_rehearsed(path, f'get {source} again')}")


def _verify(path: Path, expected: str) -> None:
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()
    if found != expected:
        cure = _or_rehearsed(path, "it is truncated or not the published file, download it again")
        raise ArchiveError(
            f"{path} ({path.stat().st_size:,} bytes) has md5 {found} instead of {expected}: {cure}"
        )


def require_published(folder: Path, source: str) -> None:
    """Raise ArchiveError where `folder` holds a rehearsal's archives; `source` says what to put there instead, and from where."""
    if stand_in.is_marked(folder):
        raise ArchiveError(
            f"{folder} holds a rehearsal's tiny archives ({stand_in.FILE} says so): put {source} in their place"
        )


def _verify_listed(folder: Path, paths: Sequence[Path]) -> None:
    """Hold `paths` against the checksum file in `folder`, if there is one; it must then list them all."""
    listing = folder / CHECKSUMS
    if not listing.is_file():
        return
    listed = {
        name: md5 for md5, name in re.findall(r"(?m)^([0-9a-f]{32}) [ *](?:\./)?(.+)$", listing.read_text())
    }
    for path in paths:
        name = path.relative_to(folder).as_posix()
        if name not in listed:
            raise ArchiveError(
                f"{listing} gives no md5 for {name}: write it again with `md5sum` in that folder, or delete it"
            )
        _verify(path, listed[name])


def _kept(
    folder: Path,
    part: str,
    sources: Sequence[Path],
    shape: tuple[int, ...],
    fill: Callable[[np.ndarray], None],
) -> np.ndarray:
    """The uint8 array of `shape` that `fill` writes from `sources`, memory-mapped read-only; filled only if `folder` does not hold it.

    `part` names it, and all that decides how it is made besides the sources.
    """
    listing = folder / CHECKSUMS
    stamps: list = [shape]
    for path in [*sources, *([listing] if listing.is_file() else [])]:
        status = path.stat()
        stamps.append((path.relative_to(folder).as_posix(), status.st_size, status.st_mtime_ns))
    path = folder / f"fewstep-{part}.{hashlib.sha256(repr(stamps).encode()).hexdigest()[:16]}.npy"
    try:
        found = np.load(path, mmap_mode="r", allow_pickle=False)
        if found.shape == shape and found.dtype == np.uint8:
            return found
    except (OSError, ValueError, EOFError):
        pass  # absent, or damaged: it is made again
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.uint8, shape=shape)
        with open(temporary, "r+b") as file:
            # a full disk is an error here, where writing to the map would kill the process (not every system can say)
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(file.fileno(), 0, temporary.stat().st_size)
            fill(array)
            array.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    for old in folder.glob(f"fewstep-{part}.*.npy"):
        if old != path:
            old.unlink(missing_ok=True)
    return np.load(path, mmap_mode="r", allow_pickle=False)


def check_cifar10(path: Path, checksums: bool) -> None:
    """Raise as `read_cifar10` where the archive is absent or (with `checksums`) its md5 differs, and for a rehearsal's; nothing is unpacked."""
    require_published(path.parent, CIFAR10)
    if not path.is_file():
        raise _missing(path, CIFAR10)
    if checksums:
        _verify(path, CIFAR10_MD5)


def read_cifar10(
    path: Path, part: str = "train", per_file: int = 10_000, md5: str | None = CIFAR10_MD5
) -> np.ndarray:
    """The images of the binary archive, (5 or 1 files * per_file, 3, 32, 32), uint8; `part` is 'train' or 'test'.

    Raises FileNotFoundError when it is absent, ArchiveError when its md5 differs (None: not looked at), it ends early
    or holds something else.
    """
    if not path.is_file():
        raise _missing(path, CIFAR10)
    names = [f"cifar-10-batches-bin/{name}" for name in CIFAR10_FILES[part]]
    size = per_file * (1 + PIXELS)

    def fill(out: np.ndarray) -> None:
        if md5:
            _verify(path, md5)
        todo = set(names)
        try:
            with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as archive:
                # only these exact names, and only into memory: where a member would be unpacked to never matters
                for member in (member for member in archive if member.name in todo):
                    if not member.isfile() or member.size != size:
                        raise _damaged(
                            path,
                            f"holds a {member.name} that is no file of {per_file} records ({size:,} bytes)",
                            CIFAR10,
                        )
                    records = np.frombuffer(archive.extractfile(member).read(), np.uint8).reshape(
                        per_file, 1 + PIXELS
                    )
                    if records[:, 0].max() > 9:
                        raise _damaged(
                            path,
                            f"holds a {member.name} with a label above 9, so its records are shifted",
                            CIFAR10,
                        )
                    start = names.index(member.name) * per_file
                    out[start : start + per_file] = records[:, 1:].reshape(-1, 3, 32, 32)
                    todo.remove(member.name)
                # what follows the last member is read as well: gzip's own checksum stands at the very end
                while stream.read(2**20):
                    pass
        except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
            raise _damaged(
                path, f"is truncated or no tar.gz archive ({type(error).__name__})", CIFAR10
            ) from None
        if todo:
            raise _damaged(path, f"lacks {', '.join(sorted(todo))}", CIFAR10)

    return _kept(path.parent, part, [path], (len(names) * per_file, 3, 32, 32), fill)


def _batches(folder: Path, part: str, batches: int) -> list[Path]:
    """The npz files of `part` anywhere below `folder`; raises FileNotFoundError naming the first that is missing."""
    names = (
        [f"train_data_batch_{k}.npz" for k in range(1, batches + 1)] if part == "train" else ["val_data.npz"]
    )
    paths = [next(iter(sorted(folder.rglob(name))), folder / name) for name in names]
    for path in paths:
        if not path.is_file():
            raise _missing(path, IMAGENET32)
    return paths


def check_imagenet32(folder: Path, checksums: bool, part: str = "train", batches: int = 10) -> None:
    """Raise as `read_imagenet32` where a batch is absent or (with `checksums`) differs from checksums.md5, and for a rehearsal's; none is opened."""
    require_published(folder, IMAGENET32)
    paths = _batches(folder, part, batches)
    if checksums:
        _verify_listed(folder, paths)


def read_imagenet32(
    folder: Path, part: str = "train", batches: int = 10, count: int | None = None
) -> np.ndarray:
    """The images of the npz batches anywhere below `folder`, (1,281,167 or `count`, 3, 32, 32), uint8; `part` is 'train' or 'val'.

    No md5 of these files is on record here: they are held against checksums.md5 if that lies in `folder`, and their
    arrays' names, types, shapes and total are checked. Raises FileNotFoundError naming a missing batch, ArchiveError
    naming one that is damaged.
    """
    total = IMAGENET32_COUNTS[part] if count is None else count
    paths = _batches(folder, part, batches)

    def fill(out: np.ndarray) -> None:
        _verify_listed(folder, paths)
        done = 0
        for path in paths:
            try:
                # opened here: numpy leaves a file open that turns out not to be an archive
                with open(path, "rb") as file, np.load(file, allow_pickle=False) as batch:
                    images, labels = batch["data"], batch["labels"]
            except (
                zipfile.BadZipFile,
                zlib.error,
                OSError,
                EOFError,
                ValueError,
                KeyError,
                TypeError,
            ) as error:
                what = f"is truncated or no npz file with `data` and `labels` ({type(error).__name__})"
                raise _damaged(path, what, IMAGENET32) from None
            if images.dtype != np.uint8 or images.shape != (labels.size, PIXELS):
                raise _damaged(
                    path,
                    f"holds {images.dtype} data {images.shape} instead of uint8 {(labels.size, PIXELS)}",
                    IMAGENET32,
                )
            # one image too many must not pass for a broadcast
            if done + len(images) <= total:
                out[done : done + len(images)] = images.reshape(-1, 3, 32, 32)
            done += len(images)
        if done != total:
            raise _damaged(
                folder, f"holds {done:,} images in its {part} batches instead of {total:,}", IMAGENET32
            )

    return _kept(folder, part, paths, (total, 3, 32, 32), fill)


def _images_below(folder: Path, count: int, source: str) -> list[Path]:
    """The `count` images anywhere below `folder`, by name; raises as `read_folder` for another number of them."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    paths = sorted(found, key=lambda path: path.relative_to(folder).as_posix())
    if not paths:
        raise _missing(folder / "a folder of images", source)
    if len(paths) != count:
        raise _damaged(folder, f"holds {len(paths):,} images instead of {count:,}", source)
    return paths


def check_folder(folder: Path, checksums: bool, *, count: int, source: str) -> None:
    """Raise as `read_folder` for another number of images or (with `checksums`) one that differs from checksums.md5, and for a rehearsal's.

    No image is decoded.
    """
    require_published(folder, source)
    paths = _images_below(folder, count, source)
    if checksums:
        _verify_listed(folder, paths)


def read_folder(
    folder: Path, size: int, crop: int, *, count: int, published: tuple[int, int], source: str
) -> np.ndarray:
    """The `count` images anywhere below `folder`, by name, (count, 3, size, size), uint8.

    Of each the centred square of `crop` pixels is shrunk (Lanczos). Every file must be RGB and `published` (width,
    height) pixels large. `source` says what to get, and where. Raises FileNotFoundError when there is no image at
    all, ArchiveError for another number of them, or naming the file that is of another size or mode, or cannot be
    decoded. Files are held against checksums.md5 if that lies in `folder`.
    """
    paths = _images_below(folder, count, source)
    left, top = ((side - crop) // 2 for side in published)

    def fill(out: np.ndarray) -> None:
        _verify_listed(folder, paths)

        def one(k: int) -> None:
            try:
                with Image.open(paths[k]) as image:
                    if image.mode != "RGB" or image.size != published:
                        raise _damaged(
                            paths[k],
                            f"is {image.mode} of size {image.size} instead of RGB of size {published}",
                            source,
                        )
                    square = image.crop((left, top, left + crop, top + crop)).resize(
                        (size, size), Image.Resampling.LANCZOS
                    )
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise _damaged(paths[k], f"cannot be decoded ({type(error).__name__})", source) from None
            out[k] = np.asarray(square).transpose(2, 0, 1)

        # threads, because decoding lets go of the interpreter; map stops at the first file, by name, that fails
        with ThreadPoolExecutor() as threads:
            for _ in threads.map(one, range(count)):
                pass

    return _kept(folder, f"crop{crop}", paths, (count, 3, size, size), fill)
