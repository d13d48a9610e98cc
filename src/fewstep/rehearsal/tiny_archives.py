"""Tiny archives in the formats in which the paper tier's data sets were published, for rehearsals.

Those of captioned pictures are LAION's, as img2dataset writes it, and COCO's. Each is marked as
fewstep.storage.stand_in says, without which the readers refuse it.
"""

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import lmdb
import numpy as np
import torch
from PIL import Image

from ..data import afhq64, celeba64, celebahq, cifar10, imagenet32
from ..data import coco as published
from ..storage import stand_in
from ..storage.files import write_atomically
from ..storage.stand_in import StandIn

# images of each set: enough for its halves, quarters and eighths to be told apart in a few features
COUNT, UNSEEN = 40, 8
SEED = 4_000_037
# shards and pictures in each, a caption each; pictures of each of COCO's validation sets, five captions each
SHARDS, PER_SHARD, OF_COCO = 2, 20, 8
# width and height, as they alternate
SIZES = ((560, 512), (512, 600))
# the tokens of a caption, as OpenAI's CLIPs read it
TOKENS = 77
THINGS = ("boat", "lamp", "fox", "teapot", "bridge")
PLACES = ("by a lake", "on a table", "in the snow", "under a tree")


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


def _image_folder(folder: Path, names: Sequence[str], size: tuple[int, int], seed: int) -> StandIn:
    for name, picture in zip(names, pictures(COUNT, size, seed)):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        picture.save(folder / name)
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


PARTS, KINDS = ["train"] * (COUNT - UNSEEN) + ["test"] * UNSEEN, ("cat", "dog", "wild")
AFHQ = [f"{part}/{KINDS[k % 3]}/{k:06}.png" for k, part in enumerate(PARTS)]
CELEBA = [f"img_align_celeba/{k + 1:06}.jpg" for k in range(COUNT)]
ARCHIVES: dict[str, Callable[[Path], StandIn]] = {
    "cifar10": _cifar10, "imagenet32": _imagenet32, "celebahq": _celebahq,
    "celeba64": partial(_image_folder, names=CELEBA, size=celeba64.FOLDER.published, seed=200),
    "afhq64": partial(_image_folder, names=AFHQ, size=afhq64.FOLDER.published, seed=300),
}  # fmt: skip


def write(folder: Path) -> None:
    """Write a tiny archive of each published data set to `folder`/<name>; Inception's is marked and empty."""
    for name, make in ARCHIVES.items():
        (folder / name).mkdir(parents=True, exist_ok=True)
        stand_in.mark(folder / name, make(folder / name))
    stand_in.mark(folder / "inception")


def captions() -> list[str]:
    """Every caption that there is here, once."""
    pairs = [(thing, place) for place in PLACES for thing in THINGS] * SHARDS
    return [f"A {thing} {place}, picture {k}" for k, (thing, place) in enumerate(pairs)]


def _jpegs(count: int, seed: int) -> list[bytes]:
    """`count` JPEG files of both sizes in turn."""
    sets = [pictures(count // len(SIZES), size, seed + k) for k, size in enumerate(SIZES)]
    files = []
    for picture in (picture for both in zip(*sets) for picture in both):
        files.append(io.BytesIO())
        picture.save(files[-1], "JPEG")
    return [file.getvalue() for file in files]


def laion(folder: Path) -> None:
    """Write two shards of 20 captioned pictures to `folder`, marked as a rehearsal's."""
    shards: list[dict[str, bytes]] = [{} for _ in range(SHARDS)]
    for k, (jpeg, caption) in enumerate(zip(_jpegs(SHARDS * PER_SHARD, 500), captions())):
        key = f"{k // PER_SHARD:05}{k % PER_SHARD:04}"
        said = json.dumps({"caption": caption, "key": key, "status": "success"}, indent=4)
        shards[k // PER_SHARD] |= {
            f"{key}.jpg": jpeg, f"{key}.txt": caption.encode(), f"{key}.json": said.encode(),
        }  # fmt: skip
    for shard, members in enumerate(shards):
        write_atomically(folder / f"{shard:05}.tar", tar(members))
    stand_in.mark(folder, StandIn({"train": SHARDS * PER_SHARD}))


def coco(folder: Path) -> None:
    """Write COCO's two validation sets, 8 pictures of five captions each, to `folder`, marked like that."""
    for k, split in enumerate(published.SETS.values()):
        # as published, numbers are in no order, and the captions of one picture do not stand together
        numbers = [1000 * (k + 1) + 37 * n % 101 for n in range(OF_COCO)]
        prefix = "COCO_val2014_" if split.year == 2014 else ""
        names = {number: f"{prefix}{number:012}.jpg" for number in numbers}
        images = [{"id": number, "file_name": name, "license": 1} for number, name in names.items()]
        annotations = [
            {"id": 10_000 - 7 * n, "image_id": numbers[n % OF_COCO], "caption": f"{caption} \n"}
            for n, caption in enumerate(captions())
        ]
        written = {"info": {"year": split.year}, "images": images, "licenses": [], "annotations": annotations}
        write_atomically(folder / split.annotations, json.dumps(written).encode())
        for name, content in zip(names.values(), _jpegs(OF_COCO, 600 + 10 * k)):
            write_atomically(folder / split.pictures / name, content)
    stand_in.mark(folder, StandIn(dict.fromkeys(published.SETS, OF_COCO)))
