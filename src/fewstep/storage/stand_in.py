"""What says openly that something is a rehearsal's and not the real thing: a file rehearsal.json.

At the root of a tree it marks every number that is measured there; beside archives it says what these tiny stand-ins
hold, in the place of the published counts and checksums. Without it neither is accepted.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from .files import write_atomically

FILE = "rehearsal.json"
SAYS = "tiny stand-ins made by `python -m fewstep rehearse`: not the published files, and no number of theirs means anything"


@dataclass(frozen=True)
class StandIn:
    """What a rehearsal's archives hold: the number of images of each part, and the MD5 of the archive that is checked by one."""

    images: Mapping[str, int] = field(default_factory=dict)
    md5: str | None = None

    def count(self, part: str) -> int:
        """The images of `part`; raises ValueError when the archives have no such part."""
        if part not in self.images:
            raise ValueError(
                f"a rehearsal's archives hold {', '.join(self.images) or 'no images'} and not '{part}': run `python -m fewstep rehearse` again"
            )
        return self.images[part]


def is_marked(folder: Path) -> bool:
    """Whether `folder` says that it is a rehearsal's."""
    return (folder / FILE).is_file()


def mark(folder: Path, content: StandIn = StandIn()) -> None:
    """Let `folder` say that it is a rehearsal's, and what its archives hold."""
    write_atomically(folder / FILE, (json.dumps({"says": SAYS} | asdict(content), indent=1) + "\n").encode())


def read(folder: Path) -> StandIn | None:
    """What `folder` says of itself, or None where it says nothing; raises ValueError, naming the file, for one that cannot be read."""
    if not is_marked(folder):
        return None
    try:
        said = json.loads((folder / FILE).read_text())
        images = {str(part): int(count) for part, count in said["images"].items()}
        return StandIn(images, said["md5"])
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ValueError(
            f"{folder / FILE} cannot be read ({type(error).__name__}): delete it, and the tiny archives beside it"
        ) from None
