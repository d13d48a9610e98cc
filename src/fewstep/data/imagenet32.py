"""ImageNet at 32x32: the 1,281,167 training images of the published npz batches; half are drawn mirrored."""

from pathlib import Path

import numpy as np

from .formats.archives import Archive, files_below, folder_of
from .images import Images

COUNT, PIXELS = 1_281_167, 3 * 32 * 32
COUNTS = {"train": COUNT, "val": 50_000}
HOME = (
    "ImageNet 32x32 (npz format: Imagenet32_train_npz.zip, Imagenet32_val_npz.zip) "
    "from https://image-net.org/download-images"
)


def _batches(archive: Archive, part: str, batches: int) -> list[Path]:
    """The npz files of `part` below the folder; raises FileNotFoundError naming the first that is missing."""
    numbered = [f"train_data_batch_{k}.npz" for k in range(1, batches + 1)]
    names, found = numbered if part == "train" else ["val_data.npz"], files_below(archive.folder, (".npz",))
    places = {path.name: path for path in reversed(found)}
    return [archive.present(places.get(name, archive.folder / name)) for name in names]


def _batch(archive: Archive, path: Path) -> np.ndarray:
    """The images of one npz file, (count, 3, 32, 32), uint8."""
    try:
        # opened here: numpy leaves a file open that turns out not to be an archive
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as batch:
            images, labels = batch["data"], batch["labels"]
    except Exception as error:  # a damaged file can fail in any way
        found = f"is truncated or no npz file with `data` and `labels` ({type(error).__name__})"
        raise archive.damaged(path, found) from None
    if images.dtype != np.uint8 or images.shape != (labels.size, PIXELS):
        found = f"holds {images.dtype} data {images.shape} instead of uint8 {(labels.size, PIXELS)}"
        raise archive.damaged(path, found)
    return images.reshape(-1, 3, 32, 32)


def read(folder: Path, part: str = "train", batches: int = 10, count: int | None = None) -> np.ndarray:
    """The images of the npz batches anywhere below `folder`, (1,281,167 or `count`, 3, 32, 32), uint8.

    `part` is 'train' or 'val'. Raises FileNotFoundError naming a missing batch, ArchiveError naming one
    that is damaged, or not the one in checksums.md5.
    """
    archive = Archive(folder, HOME)
    total = archive.count(part, COUNTS[part]) if count is None else count
    paths = _batches(archive, part, batches)

    def fill(out: np.ndarray) -> None:
        archive.verify_listed(paths)
        done = 0
        for path in paths:
            images = _batch(archive, path)
            # one image too many must not pass for a broadcast
            if done + len(images) <= total:
                out[done : done + len(images)] = images
            done += len(images)
        if done != total:
            raise archive.damaged(folder, f"holds {done:,} images in its {part} batches instead of {total:,}")

    return archive.cached(part, paths, (total, 3, 32, 32), fill)


def pixels(part: str = "train") -> np.ndarray:
    """The images, (1281167, 3, 32, 32) or 50,000 for 'val', uint8, memory-mapped; raises as `read`."""
    return read(folder_of("imagenet32"), part)


def check(checksums: bool = True) -> None:
    """Raise as `read` where a training batch is absent, (with `checksums`) another, or a rehearsal's."""
    archive = Archive(folder_of("imagenet32"), HOME)
    archive.require_published()
    paths = _batches(archive, "train", 10)
    if checksums:
        archive.verify_listed(paths)


SOURCE = Images("imagenet32", (3, 32, 32), True, pixels)
