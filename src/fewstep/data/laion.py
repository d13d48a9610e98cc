"""LAION's captioned pictures at 512x512, read where they lie: the shards that img2dataset writes, or a folder of pictures with captions.

SCFlow took 2,000,000 pairs with an aesthetic score above 6.25. Which ones is not on record, and links die: here they are
those that somebody has fetched, in the order of their files. Each is the centred square, made 512 pixels wide bicubically.
Nothing is mirrored, since captions say left and right. The zero-shot prompts are COCO's, see fewstep.data.coco.
"""

from __future__ import annotations

from ..storage import stand_in
from . import coco
from .formats import captioned
from .formats.archives import ArchiveError, _damaged, folder_of, require_published
from .formats.captioned import Index
from .formats.pictures import Pictures
from .images import ImagesOnFirstUse

# as many as SCFlow's student was trained on
COUNT, SIDE = 2_000_000, 512
HOME = (
    "pictures of LAION-Aesthetics V2 with a score above 6.25 and their captions (https://laion.ai/blog/laion-aesthetics), "
    "fetched by img2dataset (https://github.com/rom1504/img2dataset, with --output_format webdataset)"
)
PROMPTS = coco.SETS


def _index() -> Index:
    folder = folder_of("laion")
    tiny, found = stand_in.read(folder), captioned.index(folder, HOME)
    if tiny and len(found.captions) != tiny.count("train"):
        raise _damaged(
            folder, f"holds {len(found.captions):,} captioned pictures instead of {tiny.count('train')}", HOME
        )
    return found


def pixels() -> Pictures:
    """The pictures, (count, 3, 512, 512), uint8, each decoded when it is looked at; raises as `captioned.index`."""
    return _index().pictures(SIDE)


def captions() -> tuple[str, ...]:
    """One caption of each picture, in the order of `pixels`; raises as `captioned.index`."""
    return _index().captions


def summary() -> str:
    """How many pictures there are, and how many are passed over and why, for people."""
    found = _index()
    left = [
        f"{count:,} {why}"
        for count, why in (
            (found.bare, "without a caption"),
            (found.left_out, f"named in {captioned.LEFT_OUT}"),
        )
        if count
    ]
    return f"{len(found.captions):,} captioned pictures" + (
        f"; passed over are {' and '.join(left)}" if left else ""
    )


def prompt_set(name: str, count: int) -> coco.Prompts:
    """The first `count` of the zero-shot prompts `name`, one of PROMPTS, and the pictures behind them; see `coco.prompt_set`."""
    return coco.prompt_set(name, count)


def _check(checksums: bool) -> None:
    folder = folder_of("laion")
    require_published(folder, HOME)
    captioned.check(folder, HOME, checksums)


def check(checksums: bool = True) -> None:
    """Raise ArchiveError, naming all that is missing, where there are no captioned pictures, or the prompts' files are not there; no picture is decoded."""
    found = []
    for own in (_check, coco.check):
        try:
            own(checksums)
        except (OSError, RuntimeError) as error:
            found.append(str(error))
    if found:
        raise ArchiveError("; and ".join(found))


SOURCE = ImagesOnFirstUse("laion", (3, SIDE, SIDE), False, pixels)
