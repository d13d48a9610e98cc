"""Fill data/ without a network and hold it, byte for byte, against the checksums in data.dvc.

The digits and the two photographs are those of the installed scikit-learn; what is drawn has fixed seeds.
"""

import hashlib
import io
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import torch
import yaml
from sklearn.datasets import load_digits

from ..flows.exact import checkerboard
from ..storage.files import write_atomically
from . import faces
from .formats.archives import ArchiveError, content_of, text_of


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


PHOTOGRAPHS = files("sklearn.datasets.images")
# of the checkerboard's reference sample: what squared W2 is measured against
COUNT, SEED = 64_000, 20_240_607
EXPORTS: dict[str, Callable[[], bytes]] = {
    "data/checkerboard.npy": lambda: _npy(
        checkerboard.sample(COUNT, torch.Generator().manual_seed(SEED)).numpy()
    ),
    "data/china.jpg": (PHOTOGRAPHS / "china.jpg").read_bytes,
    "data/digits.npy": lambda: _npy(load_digits().images.astype(np.uint8)),
    "data/digits_labels.npy": lambda: _npy(load_digits().target.astype(np.uint8)),
    "data/faces.npy": lambda: _npy(faces.draw(faces.COUNT, faces.SEED)[0]),
    "data/faces_classes.npy": lambda: _npy(faces.classes(faces.factors(faces.COUNT, faces.SEED))),
    "data/flower.jpg": (PHOTOGRAPHS / "flower.jpg").read_bytes,
}


def checksums(root: Path) -> dict[str, str]:
    """The checksum of every file that data.dvc tracks; raises ArchiveError for none, or an unreadable one."""
    path, cure = root / "data.dvc", "restore it with `git checkout data.dvc`"
    try:
        return {out["path"]: out["md5"] for out in yaml.safe_load(text_of(path, cure))["outs"]}
    except (KeyError, TypeError, yaml.YAMLError) as error:
        raise ArchiveError(f"{path} cannot be read ({type(error).__name__}): {cure}") from None


def export(root: Path) -> list[str]:
    """Write the files of data/ that are missing, verify all, and return the names of those written.

    Raises ArchiveError, naming the file, when a byte differs; a file that is there is never overwritten.
    """
    expected, written = checksums(root), []
    for name in sorted(set(expected) ^ set(EXPORTS)):
        one = "is tracked by data.dvc or exported by fewstep, not both"
        raise ArchiveError(f"{name} {one}: restore data.dvc")
    for name, make in EXPORTS.items():
        path, again = root / name, "delete it and run `python -m fewstep data` again"
        fresh = not (path.exists() or path.is_symlink())
        content = make() if fresh else content_of(path, again)
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != expected[name]:
            cure = "install the pinned packages of pyproject.toml" if fresh else again
            differs = f"differs from data.dvc (md5 {found} instead of {expected[name]})"
            raise ArchiveError(f"{name} {differs}: {cure}")
        if fresh:
            write_atomically(path, content)
            written.append(name)
    return written
