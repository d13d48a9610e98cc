"""Folders of images, as CelebA and AFHQ are published: every image anywhere below the folder, by name."""

from collections.abc import Collection
from pathlib import Path

import numpy as np
from PIL import Image

from .archives import Archive
from .pictures import in_threads

SUFFIXES = (".jpg", ".jpeg", ".png")


def images_below(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[Path]:
    """The images anywhere below `folder`, by their names there."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in suffixes)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def _listed(archive: Archive, count: int) -> list[Path]:
    paths = images_below(archive.folder)
    if not paths:
        raise archive.missing(archive.folder / "a folder of images")
    if len(paths) != count:
        raise archive.damaged(archive.folder, f"holds {len(paths):,} images instead of {count:,}")
    return paths


def check_folder(archive: Archive, checksums: bool, count: int) -> None:
    """Raise as `read_folder` for other images (files, with `checksums`) and a rehearsal's; decodes none."""
    archive.require_published()
    paths = _listed(archive, count)
    if checksums:
        archive.verify_listed(paths)


def read_folder(
    archive: Archive, size: int, crop: int, *, count: int, published: tuple[int, int]
) -> np.ndarray:
    """The `count` images of `archive` (or as many as a rehearsal's), by name, (count, 3, size, size), uint8.

    Of each the centred square of `crop` pixels is shrunk (Lanczos). Raises FileNotFoundError when there is no
    image at all, ArchiveError for another number of them, or naming the file that is not RGB of the size
    `published` (width, height), cannot be decoded, or is not the one in checksums.md5.
    """
    count = archive.count("train", count)
    paths = _listed(archive, count)
    left, top = ((side - crop) // 2 for side in published)

    def fill(out: np.ndarray) -> None:
        archive.verify_listed(paths)

        def decode(k: int) -> None:
            try:
                with Image.open(paths[k]) as image:
                    if image.mode != "RGB" or image.size != published:
                        found = f"is {image.mode} of size {image.size} instead of RGB of size {published}"
                        raise archive.damaged(paths[k], found)
                    square = image.crop((left, top, left + crop, top + crop))
                    shrunk = square.resize((size, size), Image.Resampling.LANCZOS)
            except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
                raise archive.damaged(paths[k], f"cannot be decoded ({type(error).__name__})") from None
            out[k] = np.asarray(shrunk).transpose(2, 0, 1)

        in_threads(decode, count)

    return archive.cached(f"crop{crop}", paths, (count, 3, size, size), fill)
