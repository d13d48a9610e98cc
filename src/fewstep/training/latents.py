"""Stage 0 of the experiments in latents: every training image, and its mirror image, encoded once and for all.

Mirror images belong to it where the data set draws them: a mirrored latent is not the latent of the mirrored image.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data import latents as made
from ..data.images import to_signed
from ..networks import autoencoder, load_decoder
from ..storage.block_array import BlockArray
from ..storage.files import write_atomically
from ..storage.fingerprint import UNCOUNTED, fingerprint
from ..storage.progress import Progress
from . import autoencoder as training_autoencoder
from . import captions
from .autoencoder import LatentPreparation, load
from .pool import one_thread

# Images encoded between two marks of progress, each also mirrored: a fixed number, a whole one of what an autoencoder takes together
BLOCK = 64
SPOT, DRAW_SEED = 64, 2_000_003


def _mark(preparation: LatentPreparation, pixels: np.ndarray, checksum: str) -> str:
    """What the moments depend on: the autoencoder, the code, the device, and the images, of which some are looked at."""
    spot = hashlib.sha256(np.ascontiguousarray(pixels[:: max(len(pixels) // SPOT, 1)]).tobytes()).hexdigest()
    modules = [autoencoder.__name__, __name__]
    settings = [
        preparation.settings.data,
        preparation.source.images.flip,
        pixels.shape,
        spot,
        checksum,
        preparation.device,
        BLOCK,
    ]
    settings += captions.mark(preparation, len(pixels)) if preparation.settings.clip else []
    return fingerprint(settings, modules, [*UNCOUNTED, training_autoencoder.__name__])


def _fill(
    preparation: LatentPreparation, pixels: np.ndarray, path: Path, shape: tuple[int, ...]
) -> BlockArray:
    """The moments, written to `path` block after block from wherever an earlier run has stopped."""
    moments = BlockArray.open(path, shape)
    count, top, network = len(pixels), preparation.source.top, load(preparation)
    with Progress(count, f"encoding {preparation.settings.data}") as bar, one_thread():
        for start in range(moments.done * BLOCK, count, BLOCK):
            images = to_signed(torch.from_numpy(np.array(pixels[start : start + BLOCK])), top).to(
                preparation.device
            )
            mirrored = [(count + start, images.flip(-1))] if shape[0] > count else []
            for at, seen in [(start, images), *mirrored]:
                moments.values[at : at + len(seen)] = (
                    torch.cat(network.encode_many(seen), dim=1).cpu().numpy()
                )
            moments.mark_done(start // BLOCK + 1)
            bar.update(start + len(images))
    return moments


def _channels(moments: np.ndarray) -> dict[str, list[float]]:
    """Of draws of each channel, unscaled: the mean, the standard deviation, and the share of its variance that is drawn anew each time."""
    half, blocks = moments.shape[1] // 2, range(0, len(moments), 4 * BLOCK)
    first, second, own = (np.zeros(half) for _ in range(3))
    for start in blocks:
        block = moments[start : start + 4 * BLOCK].astype(np.float64)
        first += block[:, :half].sum((0, 2, 3))
        second += np.square(block[:, :half]).sum((0, 2, 3))
        own += np.square(block[:, half:]).sum((0, 2, 3))
    size = len(moments) * moments.shape[2] * moments.shape[3]
    mean, own = first / size, own / size
    variance = second / size - mean**2 + own
    return {"mean": mean.tolist(), "std": np.sqrt(variance).tolist(), "drawn": (own / variance).tolist()}


def _finished(target: Path, mark: str) -> dict[str, Any] | None:
    """What is said of the moments in `target` if they are whole and what `mark` says, or None."""
    try:
        described = json.loads((target.parent / made.DESCRIBED).read_text())
        files = {made.MOMENTS: described["checksum"], **described.get("captions", {}).get("checksums", {})}
        whole = described["fingerprint"] == mark and all(
            autoencoder.checksum(target.with_name(name)) == own for name, own in files.items()
        )
    except (OSError, ValueError, KeyError):
        return None
    return described if whole else None


def encode_all(preparation: LatentPreparation) -> dict[str, Any]:
    """Encode every training image and its mirror image, going on from wherever an earlier run has stopped; returns what there is to say.

    Writes below latents/<name>/ of the tier's artifacts: moments.npy, (2 images, 2 latent channels, height, width), float32,
    mean and standard deviation, not scaled, all images and then all mirror images in the same order (only the first
    half where the data set does not draw mirror images); described.json; and a copy of the autoencoder's folder.
    Keys of the result: data, count (images), mirrored, shape (of an image), top, latents (their shape), scale, channels (mean,
    std and drawn of each), checksum (of moments.npy), autoencoder (checksum of its weights), fingerprint, and captions where a
    CLIP reads them: what `captions.read_all` says, and the checksums of its two files. Raises
    FileNotFoundError where there is no autoencoder yet, and FloatingPointError for moments that are not finite.
    """
    found = autoencoder.read_described(preparation.folder)
    images, (channels, height, width) = preparation.source.images, found["latents"]
    pixels = images.pixels[: preparation.settings.count]
    rows = len(pixels) * (1 + images.flip)
    mark = _mark(preparation, pixels, found["checksum"])
    target = preparation.workspace.write(f"latents/{preparation.name}/{made.MOMENTS}")
    if described := _finished(target, mark):
        return described
    # outside the folder that the pipeline empties before it runs a stage
    partial = preparation.workspace.write(f"states/latents/{preparation.name}-{mark}.npy")
    moments = _fill(preparation, pixels, partial, (rows, 2 * channels, height, width))
    each = _channels(moments.values)
    if not np.isfinite([each["mean"], each["std"]]).all():
        raise FloatingPointError(
            f"the autoencoder of {preparation.name} makes latents that are not finite of some image: train it anew at a lower rate"
        )
    texts = (
        captions.read_all(preparation, len(pixels), partial.with_name(f"{partial.stem}-texts.npy"))
        if preparation.settings.clip
        else None
    )
    described = {
        "data": preparation.data_name, "count": len(pixels), "mirrored": images.flip, "shape": list(pixels.shape[1:]), "top": preparation.source.top,
        "latents": found["latents"], "scale": found["scale"], "channels": each, "checksum": autoencoder.checksum(partial),
        "autoencoder": found["checksum"], "fingerprint": mark,
    }  # fmt: skip
    # an older description must not stand beside these moments, not even if this is killed here
    (target.parent / made.DESCRIBED).unlink(missing_ok=True)
    moments.finish(target)
    if texts:
        texts.finish(target.parent)
        sums = {name: autoencoder.checksum(target.with_name(name)) for name in (made.TEXTS, made.MASKS)}
        described["captions"] = texts.said | {"checksums": sums}
    # whoever opens the latents finds beside them what decodes them
    shutil.copytree(preparation.folder, target.parent / made.AUTOENCODER, dirs_exist_ok=True)
    write_atomically(target.parent / made.DESCRIBED, (json.dumps(described, indent=1) + "\n").encode())
    return described


def opened(preparation: LatentPreparation) -> made.LatentSource:
    """The latents that `encode_all` has made, as a data set; raises FileNotFoundError, naming the cure, where it has not run."""
    return made.opened(
        preparation.workspace.read(f"latents/{preparation.name}/{made.DESCRIBED}").parent, load_decoder
    )


def as_table(described: dict[str, Any]) -> pd.DataFrame:
    """What `encode_all` returned, rounded, one row a fact."""
    numbers = 2 * described["count"] * (1 + described["mirrored"]) * int(np.prod(described["latents"]))
    shape, latents = (" x ".join(map(str, described[key])) for key in ("shape", "latents"))
    too = " and their mirror images" if described["mirrored"] else ""
    rows = {
        "data": described["data"], "encoded": f"{described['count']:,} images{too}", "images": shape, "latents": latents,
        "scale": f"{described['scale']:.3g}", "moments": f"{4 * numbers / 1e6:,.0f} MB",
    }  # fmt: skip
    return pd.DataFrame({"": rows})


def channels(described: dict[str, Any]) -> pd.DataFrame:
    """The scaled latents, one row a channel: mean and standard deviation of draws, and how much of the variance is the encoder's own noise."""
    each, scale = described["channels"], described["scale"]
    rows = [
        {
            "mean": f"{scale * mean:.2f}",
            "standard deviation": f"{scale * std:.2f}",
            "drawn anew": f"{100 * drawn:.1f} %",
        }
        for mean, std, drawn in zip(each["mean"], each["std"], each["drawn"])
    ]
    return pd.DataFrame(rows, index=pd.RangeIndex(1, len(rows) + 1, name="channel"))


def mirrored(preparation: LatentPreparation, count: int) -> dict[str, np.ndarray]:
    """`count` training images, their decoded latents and, where there are any, those of their mirror images: by the row's name, floats in [-1, 1]."""
    source, pixels = opened(preparation), preparation.source.images.pixels[: preparation.settings.count]
    which = torch.randint(len(pixels), (count,), generator=torch.Generator().manual_seed(DRAW_SEED)).numpy()
    half = source.shape[0]
    with one_thread():
        rows = {
            name: source.decode(source.factor * torch.from_numpy(source.moments[at][:, :half]))
            .clamp(-1, 1)
            .numpy()
            for name, at in (("decoded", which), ("mirrored, decoded", len(pixels) + which))
            if at.max() < len(source.moments)
        }
    return {"images": to_signed(torch.from_numpy(np.array(pixels[which])), source.top).numpy()} | rows
