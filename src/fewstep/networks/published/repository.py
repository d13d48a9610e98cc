"""Repositories of huggingface.co with published weights, found on this machine and never fetched."""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import try_to_load_from_cache

from ...data.formats.archives import ENVIRONMENT, folder_of
from ...storage import stand_in
from ...storage.checkpoint import CheckpointError
from ...storage.files import checksum, mapping

HUB = "https://huggingface.co"
DESCRIBED = "described.json"  # describes a network that a stage has trained or found


@dataclass(frozen=True)
class Repository:
    """The repository `name` (owner/name)."""

    name: str
    kind: str  # what it holds, in a word
    files: tuple[str, ...]  # what is read of it
    weights: str  # the file with the weights, one of them
    sha256: str | None = None  # of the published weights, where that is on record

    def find(self) -> tuple[Path, str]:
        """Its folder, and in words where it is; FileNotFoundError says what to fetch and where to put it."""
        folder = folder_of(self.name.partition("/")[2])
        absent = [name for name in self.files if not (folder / name).is_file()]
        if odd := [folder / name for name in absent if (folder / name).exists()]:
            raise FileNotFoundError(f"{odd[0]} is no file: move it away and download {HUB}/{self.name} again")
        if not absent:
            return folder, f"the folder {folder.name} beside the data"
        cached = [try_to_load_from_cache(self.name, name) for name in self.files]
        if all(isinstance(path, str) for path in cached):
            snapshot = Path(cached[0].removesuffix(self.files[0]))
            return snapshot, f"the hub's cache, revision {snapshot.name}"
        cure = f"download {', '.join(absent)} from {HUB}/{self.name} to that folder (fewstep never does), "
        cure += f"set {ENVIRONMENT} to the folder that holds '{folder.name}', or fill the hub's cache with "
        cure += f"`hf download {self.name}`"
        raise FileNotFoundError(f"the {self.kind} {self.name} is not in {folder}: {cure}")

    def verified(self, folder: Path, expected: str | None = None) -> str:
        """The checksum of the weights in `folder`; ValueError unless `expected`, or the one on record."""
        path = folder / self.weights
        expected, found = expected or (None if stand_in.is_marked(folder) else self.sha256), checksum(path)
        if expected not in (None, found):
            cure = f"delete it and download it from {HUB}/{self.name} again"
            raise ValueError(f"{path} has SHA-256 {found} and not {expected}: it was not loaded; {cure}")
        return found

    def check(self, checksums: bool) -> None:
        """Raise as `find`, and ValueError for a rehearsal's or (with `checksums`) as `verified`."""
        folder, _ = self.find()
        if stand_in.is_marked(folder):
            found = f"holds a rehearsal's {self.kind} ({stand_in.FILE} says so)"
            raise ValueError(f"{folder} {found}: put {self.name} in its place")
        if checksums:
            self.verified(folder)

    def described(self, expected: str | None) -> tuple[Path, dict[str, str]]:
        """Its folder, and title, `checksum` and place of the weights; raises as `find` and as `verified`."""
        folder, words = self.find()
        title = f"a rehearsal's stand-in for {self.name}" if stand_in.is_marked(folder) else self.name
        found = {"checksum": self.verified(folder, expected), "found": words}
        return folder, {self.kind.lower(): title} | found


def load_model(
    kind: Any, folder: Path, weights: str, what: str, unused: Callable[[str], bool] = lambda name: False,
    **settings: Any,
) -> Any:  # fmt: skip
    """The model of class `kind` in `folder`, whole but for names `unused`; ValueError for none."""
    mapping(folder / "config.json", "download it again")
    library = kind.__module__.partition(".")[0]
    logger = logging.getLogger(library)  # it lists at length what it thinks of the names of old weights
    level = logger.level
    settings |= {"local_files_only": True, "use_safetensors": True, "output_loading_info": True}
    try:
        logger.setLevel(logging.CRITICAL)
        model, info = kind.from_pretrained(folder, **settings)
    except Exception as error:  # safetensors, json and the libraries have errors of many kinds
        found = f"holds no {what} that {library} can load ({' '.join(str(error).split())[:200]})"
        raise ValueError(f"{folder} {found}: download it again") from None
    finally:
        logger.setLevel(level)
    unknown = [name for name in info["unexpected_keys"] if not unused(name)]
    odd = sorted([*info["missing_keys"], *unknown, *(entry[0] for entry in info["mismatched_keys"])])
    if odd:
        differ = f"'{odd[0]}' is in one and not in the other, or of another shape there; download both again"
        raise ValueError(f"{folder / weights} does not fit config.json beside it: {differ}")
    if wrong := [name for name, value in model.state_dict().items() if not value.isfinite().all()]:
        found = f"has numbers in '{wrong[0]}' that are not finite"
        raise ValueError(f"{folder / weights} {found}: download it again")
    return model


def read_description(folder: Path, kind: str) -> dict[str, Any]:
    """What a stage said of a `kind` of network; FileNotFoundError for none, CheckpointError for damage."""
    path, cure = folder / DESCRIBED, "delete it and run `dvc repro` again"
    if not path.exists():
        first = f"run `dvc repro`, or the notebook that trains the {kind}, first"
        raise FileNotFoundError(f"{path} is not there: {first}")
    found = mapping(path, cure, CheckpointError)
    if "checksum" not in found:
        raise CheckpointError(f"{path} is damaged, or describes no {kind}: {cure}")
    return found
