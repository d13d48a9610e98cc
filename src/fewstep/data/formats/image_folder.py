"""Folders of images, as CelebA and AFHQ are published: every image anywhere below the folder, by name."""

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .archives import Archive, content_of, files_below
from .pictures import in_threads, open_picture

SUFFIXES = (".jpg", ".jpeg", ".png")


@dataclass(frozen=True)
class ImageFolder:
    """`count` images in RGB of the size `published`, of which the centred square of `crop` pixels is shrunk.

    All raise FileNotFoundError when there is no image at all, and ArchiveError for another number of them.
    """

    archive: Archive
    count: int
    published: tuple[int, int]
    crop: int
    side: int

    def _paths(self, count: int) -> list[Path]:
        folder = self.archive.folder
        paths = files_below(folder, SUFFIXES)
        if not paths:
            raise self.archive.missing("a folder of images")
        if len(paths) != count:
            names = [path.relative_to(folder).as_posix() for path in paths]
            found = f"holds {len(paths):,} images instead of {count:,}, from {names[0]} to {names[-1]}"
            # by their names without numbers: what strayed in is rarely called as the others are
            kinds = [re.sub(r"\d+", "0", name) for name in names]
            (rarest, times) = Counter(kinds).most_common()[-1]
            odd = f", and only {times:,} named as {names[kinds.index(rarest)]} is"
            raise self.archive.damaged(folder, found + (odd if times < len(paths) else ""))
        return paths

    def check(self) -> None:
        """Raise where there is another number of images, or a rehearsal's; none is decoded."""
        self.archive.require_published()
        self._paths(self.count)

    def pixels(self) -> np.ndarray:
        """The images (or a rehearsal's), by name, (count, 3, side, side), uint8, memory-mapped (Lanczos).

        Raises ArchiveError, naming the file, for one of another mode or size, or that cannot be decoded.
        """
        count = self.archive.count("train", self.count)
        paths = self._paths(count)
        left, top = ((length - self.crop) // 2 for length in self.published)

        def fill(out: np.ndarray) -> None:
            def decode(k: int) -> None:
                content = content_of(paths[k], f"get {self.archive.source} again")
                try:
                    image = open_picture(content, self.published)
                except ValueError as error:
                    raise self.archive.damaged(paths[k], str(error)) from None
                square = image.crop((left, top, left + self.crop, top + self.crop))
                shrunk = square.resize((self.side, self.side), Image.Resampling.LANCZOS)
                out[k] = np.asarray(shrunk).transpose(2, 0, 1)

            in_threads(decode, count)

        return self.archive.cached(f"crop{self.crop}", paths, (count, 3, self.side, self.side), fill)
