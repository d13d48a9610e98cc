"""Latents of images, made by a stage: moments of every training image and its mirror image, and a decoder.

A draw is factor (mean + std eps) of an image, mirrored half of the time where the data set draws it so; the
factor makes the variance of all latents about 1, so the matching noise is N(0, I).
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from ..flows.conditioning import Conditions
from . import CURE, DESCRIBED, described
from .images import Rows, open_array, to_levels


class Decoder(Protocol):
    """What turns latents into images."""

    def decode_many(self, z: Tensor) -> Tensor:
        """Images (count, *image), about in [-1, 1], of unscaled latents (count, *shape)."""


# opens the decoder of a folder on a device; networks are not this room's to know
LoadDecoder = Callable[[Path, torch.device], Decoder]

MOMENTS, AUTOENCODER = "moments.npy", "autoencoder"
# of captioned images: the states of a CLIP's text tower for each caption and, in the last row, the empty one
TEXTS, MASKS = "texts.npy", "masks.npy"
# the standard deviation that scaled latents may have, and how many images it is measured on
DEVIATION, LOOKED_AT = (0.5, 2.0), 256


@dataclass(frozen=True, eq=False)
class LatentSource:
    """Latents in the folder where a stage has made them, a `DataSource`; opening one reads a few rows."""

    folder: Path
    shape: tuple[int, int, int]  # of one latent, (channels, height, width)
    image: tuple[int, int, int]  # likewise, of the image that it decodes to, with levels 0..top
    factor: float  # multiplies unscaled latents
    top: int
    scale: float = 1.0  # the matching noise's
    conditional: bool = False  # whether every latent comes with a caption
    load_decoder: LoadDecoder | None = None  # without it nothing is decoded
    _decoders: dict[torch.device, Decoder] = field(default_factory=dict, init=False, repr=False)

    def __reduce__(self) -> tuple:
        # neither the moments nor the decoder travel to another process: it opens its own
        return opened, (self.folder, self.load_decoder)

    @cached_property
    def moments(self) -> np.ndarray:
        """Mean and deviation, unscaled, of images and then their mirror images, (rows, 2 channels, h, w)."""
        return open_array(self.folder / MOMENTS, CURE)

    @cached_property
    def _rows(self) -> Rows:
        return Rows(self.moments)

    @cached_property
    def _texts(self) -> list[np.ndarray]:
        """States (images + 1, tokens, width) and masks (images + 1, tokens); the empty caption's are last."""
        return [open_array(self.folder / name, CURE) for name in (TEXTS, MASKS)]

    def _conditions(self, rows: np.ndarray, device: torch.device) -> Conditions:
        return Conditions(*(torch.from_numpy(np.array(values[rows])).to(device) for values in self._texts))

    @cached_property
    def empty(self) -> Conditions:
        """The empty caption, a batch of one, on the CPU."""
        return self._conditions(np.array([-1]), torch.device("cpu"))

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` scaled latents, (count, *shape), float32, on the device of the generator."""
        return self._draw(count, generator)[0]

    def sample_with_conditions(self, count: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """As `sample`, with the captions of what is drawn."""
        points, which = self._draw(count, generator)
        return points, self._conditions(which.cpu().numpy(), generator.device)

    def _draw(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        device = generator.device
        which = torch.randint(len(self.moments), (count,), generator=generator, device=device)
        eps = torch.randn(count, *self.shape, generator=generator, device=device)
        mean, std = self._rows[which].chunk(2, dim=1)
        return self.factor * (mean + std * eps), which

    def decoder(self, device: torch.device | str = "cpu") -> Decoder:
        """The decoder on `device`, loaded once; raises ValueError for latents opened without one."""
        if self.load_decoder is None:
            cure = "give `load_decoder`, such as networks.load_decoder"
            raise ValueError(f"the latents in {self.folder} were opened without a decoder: {cure}")
        device = torch.device(device)
        if device not in self._decoders:
            self._decoders[device] = self.load_decoder(self.folder / AUTOENCODER, device)
        return self._decoders[device]

    def decode(self, z: Tensor) -> Tensor:
        """Images, about in [-1, 1], of scaled latents (count, *shape); none depends on the others with it."""
        return self.decoder(z.device).decode_many(z / self.factor)

    def to_uint8(self, z: Tensor) -> Tensor:
        """The images of scaled latents as levels 0..top, uint8, (count, *image); ValueError for NaN."""
        name, cure = self.folder.name, "look for a training or sampling that diverged"
        if z.isnan().any():
            raise ValueError(f"latents of {name} hold NaN, which decodes to no image: {cure}")
        images = self.decode(z)
        if images.isnan().any():
            found = f"makes NaN of latents up to {float(z.abs().max()):.3g}"
            raise ValueError(f"the decoder of {name} {found}: {cure}")
        return to_levels(images, self.top)


def _check_array(path: Path, shape: tuple[int, ...], dtype: type = np.float32) -> None:
    found = open_array(path, CURE)
    if found.shape != shape or found.dtype != dtype:
        held = f"{found.dtype} of shape {found.shape}"
        raise ValueError(f"{path} holds {held} instead of {np.dtype(dtype)} {shape}: {CURE}")


def _check_scale(source: LatentSource) -> None:
    """Raise ValueError unless the scaled latents have a standard deviation of about 1."""
    rows = source.moments[:: max(len(source.moments) // LOOKED_AT, 1)]
    mean, std = torch.from_numpy(np.array(rows)).chunk(2, dim=1)
    deviation = float(source.factor * (mean.var(unbiased=False) + std.square().mean()).sqrt())
    if not DEVIATION[0] <= deviation <= DEVIATION[1]:
        found = f"times their scale {source.factor:.5g}, have standard deviation {deviation:.3g}"
        cure = "they are of another scale; correct `autoencoder.scale` in params.yaml and make them again"
        raise ValueError(f"the latents in {source.folder}, {found} and not about 1: {cure}")


def opened(folder: Path, load_decoder: LoadDecoder | None = None) -> LatentSource:
    """The latents made in `folder`, checked but for checksums; FileNotFoundError or ValueError, with cure."""
    about, beside = described(folder), described(folder / AUTOENCODER)["checksum"]
    try:
        channels, height, width = map(int, about["latents"])
        image, factor, top = tuple(map(int, about["shape"])), float(about["scale"]), int(about["top"])
        count, captions, autoencoder = int(about["count"]), about.get("captions"), about["autoencoder"]
        rows = count * (1 + bool(about["mirrored"]))
        texts = captions and (count + 1, int(captions["tokens"]), int(captions["width"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{folder / DESCRIBED} does not describe latents ({error}): {CURE}") from None
    shape = channels, height, width
    further = {"conditional": bool(texts), "load_decoder": load_decoder}
    source = LatentSource(folder, shape, image, factor, top, **further)
    _check_array(folder / MOMENTS, (rows, 2 * channels, height, width))
    if texts:
        _check_array(folder / TEXTS, texts)  # of every image and, last, of the empty caption
        _check_array(folder / MASKS, texts[:2], np.bool_)
    if beside != autoencoder:
        found = f"(sha256 {autoencoder[:8]}) than lies beside them ({beside[:8]})"
        raise ValueError(f"the latents in {folder} were made by another autoencoder {found}: {CURE}")
    _check_scale(source)
    return source
