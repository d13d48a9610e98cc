"""Folders of images, as CelebA and AFHQ are published: every image anywhere below the folder, by name."""

import re
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

from .archives import Archive, content_of, files_below
from .pictures import in_threads, open_picture

SUFFIXES = (".jpg", ".jpeg", ".png")


def _listed(archive: Archive, count: int) -> list[Path]:
    paths = files_below(archive.folder, SUFFIXES)
    if not paths:
        raise archive.missing(archive.folder / "a folder of images")
    if len(paths) != count:
        names = [path.relative_to(archive.folder).as_posix() for path in paths]
        found = f"holds {len(paths):,} images instead of {count:,}, from {names[0]} to {names[-1]}"
        # by their names without numbers: what strayed in is rarely called as the others are
        kinds = [re.sub(r"\d+", "0", name) for name in names]
        (rarest, times) = Counter(kinds).most_common()[-1]
        odd = f", and only {times:,} named as {names[kinds.index(rarest)]} is" if times < len(paths) else ""
        raise archive.damaged(archive.folder, found + odd)
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
                image = open_picture(content_of(paths[k], f"get {archive.source} again"), published)
            except ValueError as error:
                raise archive.damaged(paths[k], str(error)) from None
            square = image.crop((left, top, left + crop, top + crop))
            out[k] = np.asarray(square.resize((size, size), Image.Resampling.LANCZOS)).transpose(2, 0, 1)

        in_threads(decode, count)

    return archive.cached(f"crop{crop}", paths, (count, 3, size, size), fill)
