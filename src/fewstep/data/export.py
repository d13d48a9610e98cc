"""Fill data/ without a network, byte for byte, and hold it against data.dvc.

What ships with scikit-learn (the digits, the two photographs) is taken from the installed package; what is
generated comes from fixed seeds. data.dvc holds a checksum for each file.
"""

from __future__ import annotations

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


class DataError(RuntimeError):
    """A file under data/ is not what data.dvc says; the message names it and the cure."""


def _npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def _photograph(name: str) -> bytes:
    return (files("sklearn.datasets.images") / name).read_bytes()


# The target's reference sample: what squared W2 is measured against.
REFERENCE_COUNT, REFERENCE_SEED = 64_000, 20_240_607

EXPORTS: dict[str, Callable[[], bytes]] = {
    "data/checkerboard.npy": lambda: _npy(
        checkerboard.sample(REFERENCE_COUNT, torch.Generator().manual_seed(REFERENCE_SEED)).numpy()
    ),
    "data/china.jpg": lambda: _photograph("china.jpg"),
    "data/digits.npy": lambda: _npy(load_digits().images.astype(np.uint8)),
    "data/digits_labels.npy": lambda: _npy(load_digits().target.astype(np.uint8)),
    "data/faces.npy": lambda: _npy(faces.draw(faces.COUNT, faces.SEED)[0]),
    "data/faces_classes.npy": lambda: _npy(faces.classes(faces.factors(faces.COUNT, faces.SEED))),
    "data/flower.jpg": lambda: _photograph("flower.jpg"),
}


def checksums(root: Path) -> dict[str, str]:
    """The checksum of every file that data.dvc tracks; raises DataError when it is absent or unreadable."""
    try:
        return {
            out["path"]: out["md5"]
            for out in yaml.safe_load((root / "data.dvc").read_text(encoding="utf-8"))["outs"]
        }
    except (OSError, KeyError, TypeError, yaml.YAMLError) as error:
        cure = "restore it with `git checkout data.dvc`"
        raise DataError(f"{root / 'data.dvc'} cannot be read ({type(error).__name__}): {cure}") from None


def export(root: Path) -> list[str]:
    """Write the files of data/ that are missing and verify them all; returns the names of those written.

    Raises DataError, naming the file, when a byte differs. A file that is there is never overwritten.
    """
    expected, written = checksums(root), []
    for name in sorted(set(expected) ^ set(EXPORTS)):
        raise DataError(f"{name} is tracked by data.dvc or exported by fewstep, not both: restore data.dvc")
    for name, make in EXPORTS.items():
        path = root / name
        fresh = not path.is_file()
        content = make() if fresh else path.read_bytes()
        found = hashlib.md5(content, usedforsecurity=False).hexdigest()
        if found != expected[name]:
            cure = (
                "install the pinned packages of pyproject.toml"
                if fresh
                else "delete it and run `python -m fewstep data` again"
            )
            raise DataError(f"{name} differs from data.dvc (md5 {found} instead of {expected[name]}): {cure}")
        if fresh:
            write_atomically(path, content)
            written.append(name)
    return written
