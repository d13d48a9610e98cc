"""Features of images, which FID, KID, precision and recall are computed on. Nothing here is downloaded."""

import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..data.formats.archives import no_file
from ..storage.files import checksum

# the file that clean-fid downloads if it is let: 95,607,719 bytes, the checksum that k-diffusion pins
INCEPTION = "inception-2015-12-05.pt"
INCEPTION_URL = f"https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics/{INCEPTION}"
INCEPTION_SHA256 = "f58cb9b6ec323ed63459aa4fb441fe750cfe39fafad6da5cb504a16f19e958f4"
# of JPEG files, as SCFlow's official script stores images, with colour at half resolution
QUALITY = 75
CLEAN = "clean (PIL bicubic, 299x299, not quantised)"


@dataclass(frozen=True)
class Features:
    """Features (count, dim) of images, and by which extractor and resizing they were made."""

    values: np.ndarray
    protocol: str


@dataclass(frozen=True)
class Extractor:
    """A network of features and the resizing before it, with the words of the protocol for both.

    network  float32 images (batch, channels, height, width) in [0, 255] to (batch, dim), as clean-fid's
    resizer  one image (height, width, channels), uint8 to float32; None leaves images as they are
    """

    name: str
    network: nn.Module
    resize: str = "none"
    resizer: Callable[[np.ndarray], np.ndarray] | None = None


def as_features(values: np.ndarray, what: str, least: int = 2) -> np.ndarray:
    """`values` as a finite float64 matrix (count, dim), `least` rows or more; else ValueError with `what`."""
    values = np.asarray(values)
    if values.dtype.kind not in "biuf":
        raise ValueError(f"{what} must be real numbers, and {values.dtype} is no such type: convert them")
    values = values.astype(np.float64, copy=False)
    if values.ndim != 2 or values.shape[1] == 0:
        raise ValueError(f"{what} must be a matrix (count, dim) of features, not of shape {values.shape}")
    if len(values) < least:
        raise ValueError(f"{what} has {len(values)} samples and at least {least} are needed: generate more")
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        found = f"{bad.sum()} of {len(values)} rows of {what} are not finite (the first is row"
        raise ValueError(f"{found} {np.argmax(bad)}): mend what made them")
    return values


def check_same_dim(a: np.ndarray, b: np.ndarray) -> None:
    """Raise ValueError unless two matrices of features (count, dim) have one dim."""
    if a.shape[1] != b.shape[1]:
        dims = f"{a.shape[1]} and {b.shape[1]} dimensions"
        raise ValueError(f"features of {dims} do not compare: use one extractor for both")


def _resized(images: np.ndarray, extractor: Extractor) -> Tensor:
    """uint8 (batch, channels, height, width) to float32 of the network's size, there with three channels."""
    if extractor.resizer is None:
        return torch.from_numpy(images.astype(np.float32))
    colour = images.repeat(3, axis=1) if images.shape[1] == 1 else images
    rows = [extractor.resizer(image.transpose(1, 2, 0)).transpose(2, 0, 1) for image in colour]
    return torch.from_numpy(np.stack(rows).astype(np.float32))


@torch.no_grad()
def extract(
    images: np.ndarray, extractor: Extractor, batch: int = 64, device: str | torch.device = "cpu"
) -> Features:
    """Features of uint8 images (count, channels, height, width), `batch` at a time on `device`, in eval mode.

    Raises ValueError for images of another shape or type, and for features that are not finite.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] not in (1, 3) or len(images) == 0:
        found = f"{images.dtype} of {images.shape}"
        raise ValueError(f"features need uint8 images (count, 1 or 3, height, width), not {found}")
    network = extractor.network.to(device).eval()
    # asarray: images that are decoded when they are read
    batches = (np.asarray(images[k : k + batch]) for k in range(0, len(images), batch))
    values = np.concatenate([network(_resized(b, extractor).to(device)).cpu().numpy() for b in batches])
    as_features(values, f"the features by {extractor.name}", least=1)
    return Features(values, f"{extractor.name}, resize {extractor.resize}")


@cache
def _clean() -> Callable[[np.ndarray], np.ndarray]:
    from cleanfid.resize import build_resizer  # here, and not above: tier paper alone needs clean-fid

    return cast(Callable[[np.ndarray], np.ndarray], build_resizer("clean"))


def clean(image: np.ndarray) -> np.ndarray:
    """clean-fid's resizing of one uint8 image (height, width, channels), to float32; it can be pickled."""
    return _clean()(image)


class _ChannelMeans(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3))


def channel_means() -> Extractor:
    """The mean of each channel after clean-fid's resizing: 3 features in Inception's place, in rehearsals."""
    return Extractor("channel means, a rehearsal's stand-in for Inception", _ChannelMeans(), CLEAN, clean)


def verify(path: Path, sha256: str | None) -> None:
    """Raise FileNotFoundError where nothing is at `path`, and ValueError for another SHA-256 or no file."""
    if what := no_file(path):
        raise ValueError(f"{path} {what}: put the Inception weights from {INCEPTION_URL} there")
    if not path.exists():
        missing = f"the Inception weights {path} are not there"
        raise FileNotFoundError(f"{missing}: download {INCEPTION_URL} to that path (fewstep never does)")
    if sha256 and (found := checksum(path)) != sha256:
        wrong = f"{path} has SHA-256 {found} and not {sha256}: it was not loaded"
        raise ValueError(f"{wrong}; delete it and download {INCEPTION_URL} again")


def inception(path: Path, sha256: str = INCEPTION_SHA256) -> Extractor:
    """clean-fid's Inception V3 (2048 features) after its "clean" resizing, from a file on the disk.

    The file is TorchScript, whose code is executed when it is loaded: its checksum is verified first. Raises
    FileNotFoundError where it is absent (nothing is downloaded), ValueError for another name or checksum.
    """
    if path.name != INCEPTION:
        raise ValueError(f"clean-fid reads a file named {INCEPTION}, not {path.name}: rename it")
    verify(path, sha256)
    from cleanfid.inception_torchscript import InceptionV3W  # here, and not above: tier paper alone needs it

    network = InceptionV3W(str(path.parent), download=False)
    return Extractor(f"{path.stem} (sha256 {sha256[:8]})", network, CLEAN, clean)


def jpeg_bytes(image: np.ndarray, quality: int = QUALITY) -> bytes:
    """The JPEG file of one uint8 image (channels, height, width), 3 channels or 1, with levels 0..255."""
    file = io.BytesIO()
    picture = Image.fromarray(image[0] if len(image) == 1 else image.transpose(1, 2, 0))
    picture.save(file, format="jpeg", quality=quality, subsampling="4:2:0")
    return file.getvalue()


def as_jpeg(images: np.ndarray, quality: int = QUALITY) -> np.ndarray:
    """uint8 `images` (count, 3 or 1, height, width), levels 0..255, as they come back from a JPEG file.

    Another build of libjpeg may round a few pixels by a level. Raises ValueError for images of another shape
    or type, and for a quality outside 1 to 95.
    """
    if images.ndim != 4 or images.dtype != np.uint8 or images.shape[1] not in (1, 3):
        other = f"{images.dtype} of {images.shape}"
        raise ValueError(f"JPEG takes uint8 images (count, 3 or 1, height, width), not {other}")
    if not 1 <= quality <= 95:
        raise ValueError(f"the quality of a JPEG file is 1 to 95, not {quality}")
    found = np.empty_like(images)
    for k, image in enumerate(images):
        read = np.asarray(Image.open(io.BytesIO(jpeg_bytes(image, quality))))
        found[k] = read.reshape(*image.shape[1:], image.shape[0]).transpose(2, 0, 1)
    return found
