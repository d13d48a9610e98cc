"""The latents of an experiment: every training image, and its mirror image, encoded once.

A mirrored latent is not the latent of the mirrored image: both are encoded where the data set draws both.
"""

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from ..data import latents as data_latents
from ..data.images import to_signed
from ..networks import autoencoder, load_decoder
from ..storage.block_array import BlockArray
from ..storage.files import write_json
from ..storage.fingerprint import UNCOUNTED, fingerprint
from ..storage.progress import Progress
from . import autoencoder as training_autoencoder
from .autoencoder import LatentPreparation, load
from .precision import MORE_MEMORY, enough_memory, one_thread
from .preparation import DESCRIPTION, DRAW_SEED, data_name, dimensions, fact_table

# images encoded between two updates of progress: a whole number of the autoencoder's batches
BLOCK = 64
# images whose checksum stands for that of all
SPOT = 64


def _fingerprint(preparation: LatentPreparation, pixels: np.ndarray, checksum: str) -> str:
    """What the moments depend on: the autoencoder's `checksum`, the code, the device, and some images."""
    spot = hashlib.sha256(np.ascontiguousarray(pixels[:: max(len(pixels) // SPOT, 1)]).tobytes()).hexdigest()
    name, flip = preparation.settings.data, preparation.source.flip
    settings = [name, flip, pixels.shape, spot, checksum, preparation.device, BLOCK]
    if preparation.settings.clip:
        from . import captions  # here, and not above: transformers takes seconds to load

        settings += captions.checksums(preparation, len(pixels))
    modules = [autoencoder.__name__, __name__]
    return fingerprint(settings, modules, [*UNCOUNTED, training_autoencoder.__name__])


def _encode(preparation: LatentPreparation, pixels: np.ndarray, moments: BlockArray) -> None:
    count, top, network = len(pixels), preparation.source.top, load(preparation)
    work = f"encoding {preparation.settings.data}"
    with Progress(count, work) as bar, one_thread(), enough_memory(work, MORE_MEMORY):
        for start in range(moments.done * BLOCK, count, BLOCK):
            block = torch.from_numpy(np.array(pixels[start : start + BLOCK]))
            images = to_signed(block, top).to(preparation.device)
            # the mirror images lie behind all others, where there are any
            for at in range(start, len(moments.values), count):
                batch = images if at == start else images.flip(-1)
                encoded = torch.cat(network.encode_many(batch), dim=1)
                moments.values[at : at + len(batch)] = encoded.cpu().numpy()
            moments.mark_done(start // BLOCK + 1)
            bar.update(start + len(images))


def _channels(moments: np.ndarray) -> dict[str, list[float]]:
    """Of unscaled draws, by channel: mean, standard deviation, and the encoder's share of the variance."""
    half, block_size = moments.shape[1] // 2, 4 * BLOCK
    first, second, noise = (np.zeros(half) for _ in range(3))
    for start in range(0, len(moments), block_size):
        block = moments[start : start + block_size].astype(np.float64)
        first += block[:, :half].sum((0, 2, 3))
        second += np.square(block[:, :half]).sum((0, 2, 3))
        noise += np.square(block[:, half:]).sum((0, 2, 3))
    size = moments[:, 0].size
    mean, noise = first / size, noise / size
    variance = second / size - mean**2 + noise
    return {"mean": mean.tolist(), "std": np.sqrt(variance).tolist(), "drawn": (noise / variance).tolist()}


def _finished(folder: Path, expected: str) -> dict[str, Any] | None:
    """The description of the latents in `folder`, or None unless they are complete and as `expected`."""
    try:
        description = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
        checksums = {data_latents.MOMENTS: description["checksum"]}
        checksums |= description.get("captions", {}).get("checksums", {})
        if description["fingerprint"] != expected:
            return None
        same = (autoencoder.checksum(folder / name) == known for name, known in checksums.items())
        return description if all(same) else None
    except (OSError, ValueError, KeyError):
        return None


def encode_all(preparation: LatentPreparation) -> dict[str, Any]:
    """Encode every training image and its mirror image, resuming an earlier run; returns the description.

    Writes below latents/<name>/ of the tier's artifacts: moments.npy, (2 images, 2 latent channels, height,
    width), float32, mean and standard deviation, not scaled, all images and then all mirror images (only the
    first half where the data set draws none); the description; and a copy of the autoencoder's folder. Keys:
    data, count (images), mirrored, shape (of an image), top, latents (their shape), scale, channels (mean,
    std and drawn of each), checksum (of moments.npy), autoencoder (checksum of its weights), fingerprint, and
    captions where a CLIP encodes them: the description of `encode_captions`, and its files' checksums. Raises
    FileNotFoundError where there is no autoencoder, FloatingPointError for moments that are not finite,
    and torch.OutOfMemoryError.
    """
    source, coder = preparation.source, autoencoder.read_described(preparation.folder)
    pixels = source.pixels[: preparation.settings.count]
    expected = _fingerprint(preparation, pixels, coder["checksum"])
    folder = preparation.workspace.write(f"latents/{preparation.name}/{DESCRIPTION}").parent
    if description := _finished(folder, expected):
        return description
    # outside the folder that the pipeline empties before it runs a stage
    partial = preparation.workspace.write(f"states/latents/{preparation.name}-{expected}.npy")
    channels, height, width = coder["latents"]
    shape = (len(pixels) * (1 + source.flip), 2 * channels, height, width)
    moments = BlockArray.open(partial, shape)
    _encode(preparation, pixels, moments)
    each = _channels(moments.values)
    if not np.isfinite([each["mean"], each["std"]]).all():
        problem = f"the autoencoder of {preparation.name} encodes some image to latents that are not finite"
        raise FloatingPointError(f"{problem}: train it anew at a lower rate")
    texts, texts_path = None, partial.with_name(f"{partial.stem}-texts.npy")
    if preparation.settings.clip:
        from . import captions

        texts = captions.encode_captions(preparation, len(pixels), texts_path)
    name, image = data_name(preparation.settings.data), list(pixels.shape[1:])
    description = {"data": name, "count": len(pixels), "mirrored": source.flip, "shape": image}
    description |= {"top": source.top, "latents": coder["latents"], "scale": coder["scale"]}
    description |= {"channels": each, "checksum": autoencoder.checksum(partial)}
    description |= {"autoencoder": coder["checksum"], "fingerprint": expected}
    # an older description must not stand beside these moments, not even after a kill
    (folder / DESCRIPTION).unlink(missing_ok=True)
    moments.finish(folder / data_latents.MOMENTS)
    if texts:
        texts.finish(folder)
        names = (data_latents.TEXTS, data_latents.MASKS)
        checksums = {name: autoencoder.checksum(folder / name) for name in names}
        description["captions"] = texts.description | {"checksums": checksums}
    # the autoencoder that decodes them lies beside them
    shutil.copytree(preparation.folder, folder / data_latents.AUTOENCODER, dirs_exist_ok=True)
    write_json(folder / DESCRIPTION, description)
    return description


def load_latents(preparation: LatentPreparation) -> data_latents.LatentSource:
    """The latents as a data set; raises FileNotFoundError, naming the cure, before they are encoded."""
    description = preparation.workspace.read(f"latents/{preparation.name}/{DESCRIPTION}")
    return data_latents.opened(description.parent, load_decoder)


def as_table(description: dict[str, Any]) -> pd.DataFrame:
    """What `encode_all` returned, rounded, one row a fact."""
    mirrored = description["mirrored"]
    numbers = 2 * description["count"] * (1 + mirrored) * int(np.prod(description["latents"]))
    facts = {
        "data": description["data"],
        "encoded": f"{description['count']:,} images" + (" and their mirror images" if mirrored else ""),
        "images": dimensions(description["shape"]),
        "latents": dimensions(description["latents"]),
        "scale": f"{description['scale']:.3g}",
        "moments": f"{4 * numbers / 1e6:,.0f} MB",
    }
    return fact_table(facts)


def channels(description: dict[str, Any]) -> pd.DataFrame:
    """The scaled latents, one row a channel: mean and deviation of draws, and the encoder's noise."""
    moments, scale = description["channels"], description["scale"]
    columns = {
        "mean": [f"{scale * mean:.2f}" for mean in moments["mean"]],
        "standard deviation": [f"{scale * std:.2f}" for std in moments["std"]],
        "drawn anew": [f"{100 * share:.1f} %" for share in moments["drawn"]],
    }
    return pd.DataFrame(columns, pd.RangeIndex(1, len(moments["mean"]) + 1, name="channel"))


def mirrored(preparation: LatentPreparation, count: int) -> dict[str, np.ndarray]:
    """`count` images, decoded latents and those of mirror images, if any, by the row's name, in [-1, 1]."""
    source, pixels = load_latents(preparation), preparation.source.pixels[: preparation.settings.count]
    indices = torch.randint(len(pixels), (count,), generator=torch.Generator().manual_seed(DRAW_SEED)).numpy()
    rows = {"images": to_signed(torch.from_numpy(np.array(pixels[indices])), source.top).numpy()}
    with one_thread():
        for name, at in (("decoded", indices), ("mirrored, decoded", len(pixels) + indices)):
            if at.max() < len(source.moments):
                means = torch.from_numpy(source.moments[at][:, : source.shape[0]])
                rows[name] = source.decode(source.factor * means).clamp(-1, 1).numpy()
    return rows
