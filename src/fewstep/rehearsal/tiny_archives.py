"""Tiny archives in the formats in which the paper tier's data sets were published, for rehearsals.

Each is marked as fewstep.storage.stand_in says, without which the readers refuse it.
"""

import hashlib
import io
import tarfile
from collections.abc import Callable, Mapping
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image

from ..data import afhq64, celeba64, celebahq, cifar10, imagenet32
from ..storage import stand_in
from ..storage.files import write_atomically
from ..storage.stand_in import StandIn

# images of each set: enough for its halves, quarters and eighths to be told apart in a few features
COUNT, UNSEEN = 40, 8
SEED = 4_000_037


def pictures(count: int, size: tuple[int, int], seed: int) -> list[Image.Image]:
    """`count` RGB images of `size` (width, height): smooth noise, which compresses as pictures do."""
    coarse = np.random.default_rng(SEED + seed).integers(0, 256, (count, 4, 4, 3), dtype=np.uint8)
    return [Image.fromarray(levels).resize(size, Image.Resampling.BICUBIC) for levels in coarse]


def levels(count: int, size: tuple[int, int], seed: int) -> torch.Tensor:
    """`count` such images as levels 0..255, (count, 3, height, width), float32."""
    drawn = np.stack([np.asarray(picture) for picture in pictures(count, size, seed)])
    return torch.from_numpy(drawn).permute(0, 3, 1, 2).float()


def tar(members: Mapping[str, bytes], mode: str = "w") -> bytes:
    """A tar file of these members, by name."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode=mode) as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def _rows(count: int, seed: int) -> np.ndarray:
    """`count` images of 32 x 32 as both such sets keep them, a plane a colour: (count, 3072), uint8."""
    return np.stack([np.asarray(own).transpose(2, 0, 1).ravel() for own in pictures(count, (32, 32), seed)])


def _cifar10(folder: Path) -> StandIn:
    members = {"cifar-10-batches-bin/batches.meta.txt": b"airplane\n"}
    for n, name in enumerate(cifar10.PARTS):
        rows = _rows(COUNT // len(cifar10.PARTS), n)
        labels = np.arange(len(rows), dtype=np.uint8)[:, None] % 10
        members[name] = np.concatenate([labels, rows], axis=1).tobytes()
    content = tar(members, "w:gz")
    write_atomically(folder / cifar10.FILE, content)
    return StandIn({"train": COUNT}, hashlib.md5(content, usedforsecurity=False).hexdigest())


def _imagenet32(folder: Path) -> StandIn:
    for k in range(imagenet32.BATCHES):
        rows, file = _rows(COUNT // imagenet32.BATCHES, 100 + k), io.BytesIO()
        np.savez(file, data=rows, labels=np.arange(1, len(rows) + 1), mean=rows.mean(0))
        write_atomically(folder / f"Imagenet32_train_npz/train_data_batch_{k + 1}.npz", file.getvalue())
    return StandIn({"train": COUNT})


def _image_folder(folder: Path, name: Callable[[int], str], size: tuple[int, int], seed: int) -> StandIn:
    for k, picture in enumerate(pictures(COUNT, size, seed)):
        path = folder / name(k)
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
    return StandIn({"train": COUNT})


def _celebahq(folder: Path) -> StandIn:
    path = folder / celebahq.FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    # twice the size of the images, which a database takes only as it fills
    database = lmdb.open(str(path), subdir=False, lock=False, map_size=2 * COUNT * celebahq.BYTES)
    with database, database.begin(write=True) as into:
        for k, picture in enumerate(pictures(COUNT, (celebahq.SIDE, celebahq.SIDE), 400)):
            into.put(celebahq.key(k), picture.tobytes())
    return StandIn({"train": COUNT})


def _afhq64(folder: Path) -> StandIn:
    parts, kinds = ["train"] * (COUNT - UNSEEN) + ["test"] * UNSEEN, ("cat", "dog", "wild")
    size = afhq64.FOLDER.published
    return _image_folder(folder, lambda k: f"{parts[k]}/{kinds[k % 3]}/{k:06}.png", size, 300)


def _celeba64(folder: Path) -> StandIn:
    size = celeba64.FOLDER.published
    return _image_folder(folder, lambda k: f"img_align_celeba/{k + 1:06}.jpg", size, 200)


ARCHIVES: dict[str, Callable[[Path], StandIn]] = {
    "cifar10": _cifar10, "imagenet32": _imagenet32, "celeba64": _celeba64, "afhq64": _afhq64,
    "celebahq": _celebahq,
}  # fmt: skip


def write(folder: Path) -> None:
    """Write a tiny archive of every published data set, always the same, to `folder`/<name>.

    What stands in for Inception is its folder, marked and without weights.
    """
    for name, make in ARCHIVES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        stand_in.mark(folder / name, make(folder / name))
    stand_in.mark(folder / "inception")
