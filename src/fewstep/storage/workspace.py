"""Where things are read and written: the repository's root, the pipeline's outputs, and a scratch overlay.

Only the pipeline, which sets FEWSTEP_PIPELINE, writes to artifacts/<tier>. All else writes to
artifacts/scratch/<tier>, or under FEWSTEP_SCRATCH, and reads its own files there before the pipeline's.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Self

PIPELINE, SCRATCH = "FEWSTEP_PIPELINE", "FEWSTEP_SCRATCH"
# how a stage starts processes of its own, "spawn" unless the pipeline says "fork"
START_METHOD = "FEWSTEP_START_METHOD"


def find_root(start: Path | None = None) -> Path:
    """The nearest folder at or above `start` (the working folder) that holds params.yaml and dvc.yaml."""
    here = (start or Path.cwd()).resolve()
    for folder in (here, *here.parents):
        if all((folder / name).is_file() for name in ("params.yaml", "dvc.yaml")):
            return folder
    problem = f"no params.yaml and dvc.yaml at or above {here}"
    raise FileNotFoundError(f"{problem}: run this inside a clone of the repository")


@dataclass(frozen=True)
class Workspace:
    """The files of one tier."""

    root: Path
    tier: str

    def __post_init__(self) -> None:
        # it becomes a part of paths
        if not re.fullmatch(r"\w[\w.-]*", self.tier, re.ASCII):
            wanted = "which has only letters, digits, and inside . _ -"
            raise ValueError(f"'{self.tier}' is no name of a tier, {wanted}")

    @classmethod
    def here(cls, tier: str) -> Self:
        return cls(find_root(), tier)

    @property
    def params(self) -> Path:
        return self.root / "params.yaml"

    @property
    def pipeline(self) -> Path:
        return self.root / "artifacts" / self.tier

    @property
    def writable(self) -> Path:
        """The folder that this process may write to."""
        if os.environ.get(PIPELINE):
            return self.pipeline
        return Path(os.environ.get(SCRATCH) or self.root / "artifacts" / "scratch") / self.tier

    def read(self, name: str) -> Path:
        """The file `name` of this tier, the scratch copy first; raises FileNotFoundError naming the cure."""
        for folder in (self.writable, self.pipeline):
            if (folder / name).exists():
                return folder / name
        cure = f"run `dvc repro` at tier '{self.tier}', or the notebook that makes it, first"
        raise FileNotFoundError(f"{self.pipeline / name} is not there: {cure}")

    def write(self, name: str) -> Path:
        """The path under which this process may write `name`; creates its folder."""
        path = self.writable / name
        path.parent.mkdir(parents=True, exist_ok=True)
        return path
