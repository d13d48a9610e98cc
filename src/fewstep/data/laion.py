"""LAION's captioned pictures at 512x512, read where they lie: img2dataset's shards.

SCFlow took 2,000,000 pairs with an aesthetic score above 6.25, which ones is not on record: here they are
those that somebody has fetched, in the order of their files. Each is the centred square, made 512 pixels wide
bicubically. Nothing is mirrored, since captions say left and right. The zero-shot prompts are COCO's.
"""

from . import coco
from .coco import prompt_set as prompt_set
from .formats import captioned
from .formats.archives import Archive, raise_together
from .formats.pictures import Pictures
from .images import Images

# as many as SCFlow's student was trained on
COUNT, SIDE = 2_000_000, 512
HOME = (
    "pictures of LAION-Aesthetics V2 with a score above 6.25 and their captions "
    "(https://laion.ai/blog/laion-aesthetics), fetched by img2dataset "
    "(https://github.com/rom1504/img2dataset, with --output_format webdataset)"
)
ARCHIVE = Archive("laion", HOME)
PROMPTS = coco.SETS


def index() -> captioned.Index:
    """Where the captioned pictures are; raises as `captioned.index`."""
    found = captioned.index(ARCHIVE)
    there = len(found.captions)
    if there != (count := ARCHIVE.count("train", there)):
        raise ARCHIVE.damaged(ARCHIVE.folder, f"holds {there:,} captioned pictures instead of {count}")
    return found


def pixels() -> Pictures:
    """The pictures, (count, 3, 512, 512), uint8, decoded when looked at; raises as `captioned.index`."""
    return index().pictures(SIDE)


def captions() -> tuple[str, ...]:
    """One caption of each picture, in the order of `pixels`; raises as `captioned.index`."""
    return index().captions


def _check() -> None:
    ARCHIVE.require_published()
    index()


def check() -> None:
    """Raise, naming all that is missing, unless captioned pictures and prompts are there; none is decoded."""
    raise_together(_check, coco.check)


SOURCE = Images("laion", (3, SIDE, SIDE), False, pixels)
