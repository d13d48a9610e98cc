"""CIFAR-10: the 50,000 training images of the published binary archive, 32x32; none is drawn mirrored."""

import tarfile

import numpy as np

from ..storage import stand_in
from .formats.archives import Archive
from .images import Images

FILE, COUNT, MD5 = "cifar-10-binary.tar.gz", 50_000, "c32a1d4ab5d03f1284b67883e8d87530"
HOME = "CIFAR-10 (binary version, cifar-10-binary.tar.gz) from https://www.cs.toronto.edu/~kriz/cifar.html"
ARCHIVE = Archive("cifar10", HOME)
PARTS = [f"cifar-10-batches-bin/data_batch_{k}.bin" for k in range(1, 6)]


def pixels() -> np.ndarray:
    """The images, (50000, 3, 32, 32), uint8, memory-mapped; raises as `Archive.present` and `verify`."""
    path, count, tiny = ARCHIVE.present(FILE), ARCHIVE.count("train", COUNT), stand_in.read(ARCHIVE.folder)

    def fill(out: np.ndarray) -> None:
        ARCHIVE.verify(path, tiny.md5 if tiny else MD5)  # it leaves nothing in the archive to doubt
        with tarfile.open(path) as members:
            for name, part in zip(PARTS, np.split(out, len(PARTS))):
                records = np.frombuffer(members.extractfile(name).read(), np.uint8).reshape(len(part), -1)
                part[:] = records[:, 1:].reshape(part.shape)  # behind a label

    return ARCHIVE.cached("train", [path], (count, 3, 32, 32), fill)


def check() -> None:
    """Raise as `pixels` where the archive is absent, another, or a rehearsal's."""
    ARCHIVE.require_published()
    ARCHIVE.verify(ARCHIVE.present(FILE), MD5)


SOURCE = Images("cifar10", (3, 32, 32), False, pixels)
