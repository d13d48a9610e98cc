"""Tiny captioned archives in the formats of LAION, as img2dataset writes it, and of COCO."""

from __future__ import annotations

import hashlib
import io
import json
from pathlib import Path

from ..data import coco as published
from ..data.formats.archives import CHECKSUMS
from ..storage import stand_in
from ..storage.files import write_atomically
from ..storage.stand_in import StandIn
from .tiny_archives import pictures, tar

# shards and pictures in each; pictures of each of COCO's validation sets
SHARDS, PER_SHARD, OF_COCO = 2, 20, 8
# width and height, as they alternate
SIZES = ((560, 512), (512, 600))
THINGS = ("boat", "lamp", "fox", "teapot", "bridge")
PLACES = ("by a lake", "on a table", "in the snow", "under a tree")


def _caption(k: int) -> str:
    return f"A {THINGS[k % len(THINGS)]} {PLACES[k // len(THINGS) % len(PLACES)]}, picture {k}"


def captions() -> list[str]:
    """Every caption that there is here, once."""
    return [_caption(k) for k in range(SHARDS * PER_SHARD)]


def _jpegs(count: int, seed: int) -> list[bytes]:
    """`count` JPEG files of both sizes in turn."""
    sets, found = [pictures(-(-count // len(SIZES)), size, seed + k) for k, size in enumerate(SIZES)], []
    for k in range(count):
        file = io.BytesIO()
        sets[k % len(SIZES)][k // len(SIZES)].save(file, "JPEG")
        found.append(file.getvalue())
    return found


def laion(folder: Path) -> None:
    """Write two shards of 20 captioned pictures to `folder`, with checksums, marked as a rehearsal's."""
    jpegs, lines = _jpegs(SHARDS * PER_SHARD, 500), []
    for shard in range(SHARDS):
        members: dict[str, bytes] = {}
        for k in range(PER_SHARD):
            key, caption = f"{shard:05}{k:04}", _caption(shard * PER_SHARD + k)
            described = {"caption": caption, "key": key, "status": "success"}
            members[f"{key}.jpg"] = jpegs[shard * PER_SHARD + k]
            members[f"{key}.txt"] = caption.encode()
            members[f"{key}.json"] = json.dumps(described, indent=4).encode()
        content = tar(members)
        write_atomically(folder / f"{shard:05}.tar", content)
        lines.append(f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {shard:05}.tar\n")
    write_atomically(folder / CHECKSUMS, "".join(lines).encode())
    stand_in.mark(folder, StandIn({"train": SHARDS * PER_SHARD}))


def coco(folder: Path) -> None:
    """Write COCO's two validation sets, 8 pictures of five captions each, to `folder`, marked like that."""
    for k, split in enumerate(published.SETS.values()):
        # as published, numbers are in no order, and the captions of one picture do not stand together
        numbers = [1000 * (k + 1) + 37 * n % 101 for n in range(OF_COCO)]
        prefix = "COCO_val2014_" if split.year == 2014 else ""
        names = {number: f"{prefix}{number:012}.jpg" for number in numbers}
        written = {
            "info": {"year": split.year},
            "images": [{"id": number, "file_name": name, "license": 1} for number, name in names.items()],
            "licenses": [],
            "annotations": [
                {"id": 10_000 - 7 * n, "image_id": numbers[n % OF_COCO], "caption": f"{_caption(n)} \n"}
                for n in range(5 * OF_COCO)
            ],
        }
        write_atomically(folder / split.annotations, json.dumps(written).encode())
        for name, content in zip(names.values(), _jpegs(OF_COCO, 600 + 10 * k)):
            write_atomically(folder / split.pictures / name, content)
    stand_in.mark(folder, StandIn(dict.fromkeys(published.SETS, OF_COCO)))
