"""Latents of images, made by a stage: moments of every training image and of its mirror image, and the decoder that they need.

A draw is scale (mean + std eps) of an image, mirrored half of the time where the data set draws it so; the scale
makes the variance of all latents about 1, so the matching noise is N(0, I).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from ..flows.conditioning import Conditions
from .images import HOLD_BYTES


class Decoder(Protocol):
    """What turns latents into images."""

    def decode_many(self, z: Tensor) -> Tensor:
        """Images (count, *image), about in [-1, 1], of unscaled latents (count, *shape)."""
        ...


# opens the decoder of a folder on a device; networks are not this room's to know
LoadDecoder = Callable[[Path, torch.device], Decoder]

MOMENTS, DESCRIBED, AUTOENCODER = "moments.npy", "described.json", "autoencoder"
# where the images have captions: what a CLIP's text tower makes of each, and, in the last row, of the empty one
TEXTS, MASKS = "texts.npy", "masks.npy"
CURE = "run `dvc repro`, or the notebook 0-latents, to make the latents again"
# the standard deviation that scaled latents may have, and how many images it is looked at on
DEVIATION, LOOKED_AT = (0.5, 2.0), 256
# rows that are read at a time where all are copied: what is memory-mapped may be larger than memory
BLOCK = 1024


@dataclass(frozen=True, eq=False)
class LatentSource:
    """Latents in the folder where a stage has made them, a `DataSource`; opening one reads no more than a few rows.

    shape       of one latent, (channels, height, width)
    image       the shape of the image that it decodes to
    factor      what unscaled latents are multiplied by
    top         the highest level of the images
    scale       of the matching noise
    conditional        whether every latent comes with a text
    load_decoder  opens the decoder in a folder on a device; None where nothing is decoded
    """

    folder: Path
    shape: tuple[int, int, int]
    image: tuple[int, int, int]
    factor: float
    top: int
    scale: float = 1.0
    conditional: bool = False
    load_decoder: LoadDecoder | None = None

    def __reduce__(self) -> tuple:
        # neither the moments nor the decoder travel to another process: it opens its own
        return opened, (self.folder, self.load_decoder)

    @cached_property
    def moments(self) -> np.ndarray:
        """Mean and standard deviation, unscaled, of every image and then of every mirror image: (images and mirror images, 2 channels, height, width)."""
        return np.load(self.folder / MOMENTS, mmap_mode="r", allow_pickle=False)

    @cached_property
    def _texts(self) -> tuple[np.ndarray, np.ndarray]:
        """Hidden states (images + 1, tokens, width) and masks (images + 1, tokens) of the captions; the last is the empty one."""
        hidden, masks = (
            np.load(self.folder / name, mmap_mode="r", allow_pickle=False) for name in (TEXTS, MASKS)
        )
        return hidden, masks

    def _conditions(self, rows: np.ndarray, device: torch.device) -> Conditions:
        return Conditions(*(torch.from_numpy(np.array(values[rows])).to(device) for values in self._texts))

    @cached_property
    def empty(self) -> Conditions:
        """The empty text, a batch of one, on the CPU."""
        return self._conditions(np.array([-1]), torch.device("cpu"))

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}

    @cached_property
    def _decoders(self) -> dict[torch.device, Decoder]:
        return {}

    def _held(self, device: torch.device) -> Tensor:
        """All moments on `device`, copied there once."""
        if device not in self._copies:
            parts = [
                torch.from_numpy(np.array(self.moments[k : k + BLOCK])).to(device)
                for k in range(0, len(self.moments), BLOCK)
            ]
            self._copies[device] = torch.cat(parts)
        return self._copies[device]

    def sample(self, count: int, generator: torch.Generator) -> Tensor:
        """`count` scaled latents, (count, channels, height, width), float32, on the generator's device.

        Nothing but `generator` decides what is drawn: equal states give equal bits on one kind of device.
        """
        return self._drawn(count, generator)[0]

    def sample_with_conditions(self, count: int, generator: torch.Generator) -> tuple[Tensor, Conditions]:
        """As `sample`, with the texts of what is drawn."""
        points, which = self._drawn(count, generator)
        return points, self._conditions(which.cpu().numpy(), generator.device)

    def _drawn(self, count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """`count` latents, and their rows."""
        device = generator.device
        which = torch.randint(len(self.moments), (count,), generator=generator, device=device)
        eps = torch.randn(count, *self.shape, generator=generator, device=device)
        if device.type == "cuda" and self.moments.nbytes <= HOLD_BYTES:
            drawn = self._held(device)[which]
        else:
            drawn = torch.from_numpy(np.asarray(self.moments[which.cpu().numpy()])).to(device)
        mean, std = drawn.chunk(2, dim=1)
        return self.factor * (mean + std * eps), which

    def decoder(self, device: torch.device | str = "cpu") -> Decoder:
        """The decoder on `device`, loaded at the first call; raises ValueError where the latents were opened without one."""
        if self.load_decoder is None:
            raise ValueError(
                f"the latents in {self.folder} were opened without a decoder: give `load_decoder`, such as networks.load_decoder"
            )
        device = torch.device(device)
        if device not in self._decoders:
            self._decoders[device] = self.load_decoder(self.folder / AUTOENCODER, device)
        return self._decoders[device]

    def decode(self, z: Tensor) -> Tensor:
        """Images, about in [-1, 1], of scaled latents (count, channels, height, width), on their device.

        An image does not depend on which others it is decoded with, on one kind of device and one number of threads.
        """
        return self.decoder(z.device).decode_many(z / self.factor)

    def to_uint8(self, z: Tensor) -> Tensor:
        """The nearest levels 0..top of the images of scaled latents, uint8, (count, *image); what lies outside is clamped.

        Raises ValueError for NaN, which decodes to no pixel.
        """
        if z.isnan().any():
            raise ValueError(
                f"latents of {self.folder.name} hold NaN, which decodes to no image: look for a training or sampling that diverged"
            )
        images = self.decode(z)
        if images.isnan().any():
            raise ValueError(
                f"the decoder of {self.folder.name} makes NaN of latents up to {float(z.abs().max()):.3g}: look for a sampling that diverged"
            )
        return ((images + 1) * (self.top / 2)).round().clamp(0, self.top).to(torch.uint8)


def _described(path: Path) -> dict[str, Any]:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: {CURE}")
    try:
        return json.loads(path.read_text())
    except ValueError:
        raise ValueError(f"{path} cannot be read as JSON: {CURE}") from None


def _check_texts(source: LatentSource, count: int, said: dict[str, Any]) -> None:
    """Raise FileNotFoundError or ValueError, naming the file, unless there is a text for every image and one for none."""
    for name, shape in (
        (TEXTS, (count + 1, said["tokens"], said["width"])),
        (MASKS, (count + 1, said["tokens"])),
    ):
        path = source.folder / name
        if not path.is_file():
            raise FileNotFoundError(f"{path} is not there: {CURE}")
        try:
            found = np.load(path, mmap_mode="r", allow_pickle=False).shape
        except (ValueError, EOFError, OSError) as error:
            raise ValueError(
                f"{path} is truncated or no .npy file ({path.stat().st_size:,} bytes; {type(error).__name__}): {CURE}"
            ) from None
        if found != shape:
            raise ValueError(f"{path} is of shape {found} instead of {shape}: {CURE}")


def opened(folder: Path, load_decoder: LoadDecoder | None = None) -> LatentSource:
    """The latents that a stage has made in `folder`.

    Their size and scale are looked at, and that the autoencoder beside them is the one that made them; their checksum
    is not, as it would take seconds every time. Raises FileNotFoundError or ValueError naming the file and the cure.
    """
    described = _described(folder / DESCRIBED)
    channels, height, width = described["latents"]
    source = LatentSource(
        folder,
        (channels, height, width),
        tuple(described["shape"]),
        described["scale"],
        described["top"],
        conditional="captions" in described,
        load_decoder=load_decoder,
    )
    path, shape = (
        folder / MOMENTS,
        (described["count"] * (1 + described["mirrored"]), 2 * channels, height, width),
    )
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: {CURE}")
    try:
        moments = source.moments
    except (ValueError, EOFError, OSError) as error:
        raise ValueError(
            f"{path} is truncated or no .npy file ({path.stat().st_size:,} bytes; {type(error).__name__}): {CURE}"
        ) from None
    if moments.shape != shape or moments.dtype != np.float32:
        raise ValueError(
            f"{path} holds {moments.dtype} of shape {moments.shape} instead of float32 {shape}: {CURE}"
        )
    if source.conditional:
        _check_texts(source, described["count"], described["captions"])
    beside = _described(folder / AUTOENCODER / DESCRIBED)["checksum"]
    if beside != described["autoencoder"]:
        raise ValueError(
            f"the latents in {folder} were made by another autoencoder (sha256 {described['autoencoder'][:8]}) than lies beside them ({beside[:8]}): {CURE}"
        )
    looked_at = torch.from_numpy(np.array(moments[:: max(len(moments) // LOOKED_AT, 1)]))
    mean, std = looked_at.chunk(2, dim=1)
    deviation = float(source.factor * (mean.var(unbiased=False) + std.square().mean()).sqrt())
    if not DEVIATION[0] <= deviation <= DEVIATION[1]:
        raise ValueError(
            f"the latents in {folder}, times their scale {source.factor:.5g}, have standard deviation {deviation:.3g} and not about 1: "
            "they are of another scale; correct `autoencoder.scale` in params.yaml and make them again"
        )
    return source
