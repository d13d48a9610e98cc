"""ImageNet at 32x32: the 1,281,167 training images of the published npz batches; half are drawn mirrored."""

from pathlib import Path

import numpy as np

from .formats.archives import Archive, files_below
from .images import Images

COUNT, PIXELS, BATCHES = 1_281_167, 3 * 32 * 32, 10
HOME = "ImageNet 32x32 (npz format: Imagenet32_train_npz.zip) from https://image-net.org/download-images"
ARCHIVE = Archive("imagenet32", HOME)


def _paths() -> list[Path]:
    """The npz files anywhere below the folder; raises FileNotFoundError naming the first that is missing."""
    places = {path.name: path for path in reversed(files_below(ARCHIVE.folder, (".npz",)))}
    names = [f"train_data_batch_{k}.npz" for k in range(1, BATCHES + 1)]
    return [ARCHIVE.present(places.get(name, name)) for name in names]


def _batch(path: Path) -> np.ndarray:
    """The images of one npz file, (count, 3, 32, 32), uint8."""
    try:
        # opened here: numpy leaves a file open that turns out not to be an archive
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as batch:
            images = batch["data"]
    except Exception as error:  # a damaged file can fail in any way
        found = f"is truncated or no npz file with `data` ({type(error).__name__})"
        raise ARCHIVE.damaged(path, found) from None
    if images.dtype != np.uint8 or images.shape[1:] != (PIXELS,):
        found = f"holds {images.dtype} data {images.shape} instead of uint8 (count, {PIXELS})"
        raise ARCHIVE.damaged(path, found)
    return images.reshape(-1, 3, 32, 32)


def pixels() -> np.ndarray:
    """The images, (1281167, 3, 32, 32), uint8, memory-mapped; raises as `_paths` and `_batch`."""
    paths, total = _paths(), ARCHIVE.count("train", COUNT)

    def fill(out: np.ndarray) -> None:
        done = 0
        for path in paths:
            images = _batch(path)
            if done + len(images) <= total:  # one image too many must not pass for a broadcast
                out[done : done + len(images)] = images
            done += len(images)
        if done != total:
            raise ARCHIVE.damaged(ARCHIVE.folder, f"holds {done:,} images instead of {total:,}")

    return ARCHIVE.cached("train", paths, (total, 3, 32, 32), fill)


def check() -> None:
    """Raise where a batch is absent, or a rehearsal's."""
    ARCHIVE.require_published()
    _paths()


SOURCE = Images("imagenet32", (3, 32, 32), True, pixels)
