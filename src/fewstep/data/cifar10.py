"""CIFAR-10: the 50,000 training images of the published binary archive, 32x32; half are drawn mirrored."""

import gzip
import tarfile
import zlib
from pathlib import Path

import numpy as np

from ..storage import stand_in
from .formats.archives import Archive, folder_of
from .images import Images

ARCHIVE, COUNT, MD5 = "cifar-10-binary.tar.gz", 50_000, "c32a1d4ab5d03f1284b67883e8d87530"
HOME = "CIFAR-10 (binary version, cifar-10-binary.tar.gz) from https://www.cs.toronto.edu/~kriz/cifar.html"
PARTS = {"train": [f"data_batch_{k}.bin" for k in range(1, 6)], "test": ["test_batch.bin"]}
PIXELS = 3 * 32 * 32


def read(path: Path, part: str = "train", per_file: int = 10_000, md5: str | None = MD5) -> np.ndarray:
    """The images of `part`, 'train' or 'test', (5 or 1 files * per_file, 3, 32, 32), uint8, memory-mapped.

    Raises FileNotFoundError when it is absent, ArchiveError for another md5 (None: any) or a damaged one.
    """
    archive = Archive(path.parent, HOME)
    archive.present(path)
    names = [f"cifar-10-batches-bin/{name}" for name in PARTS[part]]
    size = per_file * (1 + PIXELS)

    def fill(out: np.ndarray) -> None:
        if md5:
            archive.verify(path, md5)
        todo = set(names)
        try:
            with gzip.open(path) as stream, tarfile.open(fileobj=stream, mode="r:") as members:
                # only these exact names, and only into memory: nothing is unpacked
                for member in (member for member in members if member.name in todo):
                    if not member.isfile() or member.size != size:
                        wanted = f"file of {per_file} records ({size:,} bytes)"
                        raise archive.damaged(path, f"holds a {member.name} that is no {wanted}")
                    content = members.extractfile(member).read()
                    records = np.frombuffer(content, np.uint8).reshape(per_file, 1 + PIXELS)
                    if records[:, 0].max() > 9:
                        found = "with a label above 9, so its records are shifted"
                        raise archive.damaged(path, f"holds a {member.name} {found}")
                    start = names.index(member.name) * per_file
                    out[start : start + per_file] = records[:, 1:].reshape(-1, 3, 32, 32)
                    todo.remove(member.name)
                # what follows the last member is read as well: gzip's own checksum stands at the very end
                while stream.read(2**20):
                    pass
        except (tarfile.TarError, EOFError, OSError, ValueError, zlib.error) as error:
            found = f"is truncated or no tar.gz archive ({type(error).__name__})"
            raise archive.damaged(path, found) from None
        if todo:
            raise archive.damaged(path, f"lacks {', '.join(sorted(todo))}")

    return archive.cached(part, [path], (len(names) * per_file, 3, 32, 32), fill)


def pixels(part: str = "train") -> np.ndarray:
    """The images, (50000, 3, 32, 32) or 10,000 for 'test', uint8, memory-mapped; raises as `read`."""
    path = folder_of("cifar10") / ARCHIVE
    tiny = stand_in.read(path.parent)
    return read(path, part, tiny.count(part) // len(PARTS[part]), tiny.md5) if tiny else read(path, part)


def check(checksums: bool = True) -> None:
    """Raise as `read` where the archive is absent, (with `checksums`) another, or a rehearsal's."""
    archive = Archive(folder_of("cifar10"), HOME)
    archive.require_published()
    path = archive.present(archive.folder / ARCHIVE)
    if checksums:
        archive.verify(path, MD5)


SOURCE = Images("cifar10", (3, 32, 32), True, pixels)
