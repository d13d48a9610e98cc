"""Tiny captioned archives in the formats of LAION, as img2dataset writes it, and of COCO, for rehearsals.

As fewstep.rehearsal.tiny_archives, whose hand this is: smooth noise for pictures, always the same, each folder marked as a rehearsal's.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from pathlib import Path

from PIL import Image

from ..data import coco as published
from ..data.formats.archives import CHECKSUMS
from ..storage import stand_in
from ..storage.files import write_atomically
from ..storage.stand_in import StandIn
from .tiny_archives import _pictures

# shards and pictures in each; pictures of each of COCO's validation sets
SHARDS, PER_SHARD, OF_COCO = 2, 20, 8
# width and height, as they alternate
SIZES = ((560, 512), (512, 600))
THINGS, PLACES = (
    ("boat", "lamp", "fox", "teapot", "bridge"),
    ("by a lake", "on a table", "in the snow", "under a tree"),
)


def _caption(k: int) -> str:
    return f"A {THINGS[k % len(THINGS)]} {PLACES[k // len(THINGS) % len(PLACES)]}, picture {k}"


def captions() -> list[str]:
    """Every caption that there is here, once."""
    return [_caption(k) for k in range(SHARDS * PER_SHARD)]


def _jpeg(picture: Image.Image) -> bytes:
    file = io.BytesIO()
    picture.save(file, "JPEG")
    return file.getvalue()


def _drawn(count: int, seed: int) -> list[bytes]:
    """`count` JPEG files of both sizes in turn."""
    sets = [_pictures(-(-count // len(SIZES)), size, seed + k) for k, size in enumerate(SIZES)]
    return [_jpeg(sets[k % len(SIZES)][k // len(SIZES)]) for k in range(count)]


def _shard(members: dict[str, bytes]) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return file.getvalue()


def laion(folder: Path) -> None:
    """Write two shards of 20 captioned pictures to `folder`, with their checksums, and mark it as a rehearsal's."""
    pictures, lines = _drawn(SHARDS * PER_SHARD, 500), []
    for shard in range(SHARDS):
        members: dict[str, bytes] = {}
        for k in range(PER_SHARD):
            key, caption = f"{shard:05}{k:04}", _caption(shard * PER_SHARD + k)
            members[f"{key}.jpg"] = pictures[shard * PER_SHARD + k]
            members[f"{key}.txt"] = caption.encode()
            members[f"{key}.json"] = json.dumps(
                {"caption": caption, "key": key, "status": "success"}, indent=4
            ).encode()
        content = _shard(members)
        write_atomically(folder / f"{shard:05}.tar", content)
        lines.append(f"{hashlib.md5(content, usedforsecurity=False).hexdigest()}  {shard:05}.tar\n")
    write_atomically(folder / CHECKSUMS, "".join(lines).encode())
    stand_in.mark(folder, StandIn({"train": SHARDS * PER_SHARD}))


def coco(folder: Path) -> None:
    """Write COCO's two validation sets, of 8 pictures with five captions each, to `folder`, and mark it as a rehearsal's."""
    for k, split in enumerate(published.SETS.values()):
        # as published, numbers are in no order, and the captions of one picture do not stand together
        numbers = [1000 * (k + 1) + 37 * n % 101 for n in range(OF_COCO)]
        names = {
            number: f"{'COCO_val2014_' if split.year == 2014 else ''}{number:012}.jpg" for number in numbers
        }
        images = [{"id": number, "file_name": names[number], "license": 1} for number in numbers]
        captions = [
            {"id": 10_000 - 7 * n, "image_id": numbers[n % OF_COCO], "caption": f"{_caption(n)} \n"}
            for n in range(5 * OF_COCO)
        ]
        written = {"info": {"year": split.year}, "images": images, "licenses": [], "annotations": captions}
        write_atomically(folder / split.annotations, json.dumps(written).encode())
        for number, content in zip(numbers, _drawn(OF_COCO, 600 + 10 * k)):
            write_atomically(folder / split.pictures / names[number], content)
    stand_in.mark(folder, StandIn(dict.fromkeys(published.SETS, OF_COCO)))
