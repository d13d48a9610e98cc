"""Tiny captioned archives in the formats of LAION, as img2dataset writes it, and of COCO."""

import io
import json
from pathlib import Path

from ..data import coco as published
from ..storage import stand_in
from ..storage.files import write_atomically
from ..storage.stand_in import StandIn
from .tiny_archives import pictures, tar

# shards and pictures in each, a caption each; pictures of each of COCO's validation sets, five captions each
SHARDS, PER_SHARD, OF_COCO = 2, 20, 8
# width and height, as they alternate
SIZES = ((560, 512), (512, 600))
THINGS = ("boat", "lamp", "fox", "teapot", "bridge")
PLACES = ("by a lake", "on a table", "in the snow", "under a tree")


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
