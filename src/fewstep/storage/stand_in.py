"""The mark of stand-in data: a file rehearsal.json.

At the root of a tree it marks every number measured there; beside archives it gives the counts and the
checksum of the tiny stand-ins, in the place of the published ones. Without it neither is accepted.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .files import write_json

FILE = "rehearsal.json"
MADE_BY = "tiny stand-ins made by `python -m fewstep rehearse`"
SAYS = f"{MADE_BY}: not the published files, and no number of theirs means anything"


@dataclass(frozen=True)
class StandIn:
    """What a rehearsal's archives hold: images by part, and the MD5 of the archive that is checked by one."""

    images: Mapping[str, int] = field(default_factory=dict)
    md5: str | None = None

    def count(self, part: str) -> int:
        """The images of `part`; raises ValueError when the archives have no such part."""
        if part not in self.images:
            held = f"a rehearsal's archives hold {', '.join(self.images) or 'no images'} and not '{part}'"
            raise ValueError(f"{held}: run `python -m fewstep rehearse` again")
        return self.images[part]


def is_marked(folder: Path) -> bool:
    """Whether `folder` is marked as a rehearsal's."""
    return (folder / FILE).is_file()


def mark(folder: Path, content: StandIn = StandIn()) -> None:
    """Mark `folder` as a rehearsal's, with what its archives hold."""
    write_json(folder / FILE, {"says": SAYS} | asdict(content))


def read(folder: Path) -> StandIn | None:
    """The mark of `folder`, if it has one; raises ValueError, naming the file, for a damaged one."""
    if not is_marked(folder):
        return None
    try:
        content = json.loads((folder / FILE).read_text(encoding="utf-8"))
        return StandIn({part: int(count) for part, count in content["images"].items()}, content["md5"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        problem = f"{folder / FILE} cannot be read ({type(error).__name__})"
        raise ValueError(f"{problem}: delete it and the archives beside it") from None
