"""The autoencoder of experiments in latents, trained here or published, and how much of an image it keeps.

At tier paper it is the autoencoder of Stable Diffusion, from this machine's disk; at the others a small one
of the same kind, trained on the images themselves.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import data
from ..metrics.step_consistency import ssim
from ..networks import autoencoder
from ..networks.autoencoder import Autoencoder
from ..settings.prepared import Latents
from ..storage.checkpoint import save_checkpoint
from .precision import one_thread
from .preparation import DRAW_SEED, Preparation, data_name, dimensions, fact_table, figure_table
from .trainer import Trainer

# where the pseudo-Huber distance turns from square to absolute, in units of [-1, 1]: four levels of 255
BEND = 0.03
# images that reconstructions are measured on
MEASURED = 256
LEVELS = {"images": "{}", "PSNR": "{:.1f} dB", "SSIM": "{:.3f}", "mean absolute error": "{:.1f} levels"}


@dataclass(frozen=True)
class LatentPreparation(Preparation):
    """An entry of a tier's `latents`."""

    settings: Latents
    SECTION = "latents"
    OUTPUT = "autoencoders"
    UNUSED = frozenset({"count", "measured"})


def loss(network: Autoencoder, images: Tensor, kl: float, draws: torch.Generator) -> tuple[Tensor, Tensor]:
    """The loss of images (batch, channels, height, width) in [-1, 1], and its reconstruction part: scalars.

    Pseudo-Huber distance of D(mean + std eps), eps from `draws`, a pixel's mean, plus `kl` times the
    divergence of N(mean, std^2) from N(0, 1), a latent's mean.
    """
    mean, std = network.encode(images)
    eps = torch.randn(mean.shape, generator=draws, device=mean.device)
    misfit = ((network.decode(mean + std * eps) - images).square() + BEND**2).sqrt().mean() - BEND
    divergence = 0.5 * (mean.square() + std.square() - 1).mean() - std.log().mean()
    return misfit + kl * divergence, misfit


def advance(preparation: LatentPreparation, until: int) -> Autoencoder:
    """The autoencoder after `until` steps, trained from the state on disk as `Trainer.advance` does."""
    settings, source = preparation.settings.autoencoder, preparation.source
    sizes = (settings.channels, settings.layers, settings.groups, settings.latent_channels)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        network = autoencoder.small(source.shape, *sizes).to(preparation.device)
    trainer = Trainer(preparation.state, network, settings, preparation.device, ("loss", "reconstruction"))

    def one_step() -> dict[str, Tensor]:
        images = source.sample(settings.batch, trainer.generator)
        total, misfit = loss(network, images, settings.kl_weight, trainer.generator)
        trainer.descend(total)
        return {"loss": total, "reconstruction": misfit}

    trainer.advance(until, one_step, f"autoencoder {preparation.name}")
    return network


def _train(preparation: LatentPreparation, path: Path) -> dict[str, Any]:
    """Train to the end, write the weights to `path`, and return their description."""
    settings = preparation.settings.autoencoder
    network = advance(preparation, settings.steps)
    info = {"network": settings.model_dump(), "shape": list(preparation.source.shape)}
    info |= {"data": data_name(preparation.settings.data), "fingerprint": preparation.fingerprint()}
    save_checkpoint(path, network.state_dict(), info)
    words = f"trained here, {settings.steps:,} steps of {settings.batch} images"
    return {"autoencoder": words, "checksum": autoencoder.checksum(path)}


def train(preparation: LatentPreparation) -> dict[str, Any]:
    """Train the autoencoder, or find the published one, and measure it; returns its description.

    Writes autoencoders/<name>/ below the tier's artifacts: the description, and autoencoder.safetensors
    where it is trained. Keys: autoencoder, checksum, data, shape, latents (their shape), scale, channels
    (mean and std of each), figures by part of the data; repository and found where it is published.
    """
    settings, shape = preparation.settings.autoencoder, preparation.source.shape
    preparation.retract()
    if settings.kind == "pretrained":
        network, description = autoencoder.pretrained(settings.repository)
        description |= {"repository": settings.repository}
    else:
        path = preparation.output / autoencoder.TRAINED
        description, network = _train(preparation, path), autoencoder.trained(path)
    description |= {"data": data_name(preparation.settings.data), "shape": list(shape)}
    description |= {"latents": list(network.latent_shape(shape))}
    return preparation.describe(description | _measure(preparation, network.to(preparation.device)))


def images_of(preparation: LatentPreparation, count: int) -> dict[str, Tensor]:
    """`count` training images and, where the data set keeps some apart, held-out ones, always the same."""
    images = {"training images": preparation.sample(count)}
    held_out = getattr(data.module(preparation.settings.data), "held_out", None)
    return images if held_out is None else images | {"held-out images": held_out(count, DRAW_SEED)}


def _figures(images: Tensor, again: Tensor, top: int) -> dict[str, float]:
    """How near images of levels 0..top, uint8, are to their reconstructions."""
    gap = images.double() - again.double()
    # an exact reconstruction would have an infinite PSNR: it counts as half a level wrong in one pixel
    error = gap.square().mean((1, 2, 3)).clamp(min=0.25 / gap[0].numel())
    return {
        "PSNR": float((10 * (top**2 / error).log10()).mean()),
        "SSIM": float(ssim(images.numpy(), again.numpy(), top).mean()),
        "mean absolute error": float(gap.abs().mean()),
    }


def _measure(preparation: LatentPreparation, network: Autoencoder) -> dict[str, Any]:
    """The scale of the latents, the mean and std of each channel, and figures of the reconstructions."""
    source, settings, figures, moments = preparation.source, preparation.settings.autoencoder, {}, {}
    with one_thread():
        for part, images in images_of(preparation, preparation.settings.measured or MEASURED).items():
            moments[part] = network.encode_many(images.to(preparation.device))
            again = source.to_uint8(network.decode_many(moments[part][0]).cpu())
            figures[part] = {"images": len(images)} | _figures(source.to_uint8(images), again, source.top)
        mean, std = (moment.cpu().double() for moment in moments["training images"])
        # of draws: the variance of the means, and the mean of the variances
        spread = float((mean.var(unbiased=False) + std.square().mean()).sqrt())
        deviation = (mean.var((0, 2, 3), unbiased=False) + std.square().mean((0, 2, 3))).sqrt()
    scale = settings.scale if settings.kind == "pretrained" else 1 / spread
    channels = {"mean": mean.mean((0, 2, 3)).tolist(), "std": deviation.tolist()}
    return {"scale": scale, "std of scaled latents": scale * spread, "channels": channels, "figures": figures}


def load(preparation: LatentPreparation) -> Autoencoder:
    """The autoencoder, frozen; raises as `autoencoder.load`."""
    return autoencoder.load(preparation.folder, preparation.device)


def as_table(description: dict[str, Any]) -> pd.DataFrame:
    """What `train` returned, rounded, one row a fact."""
    fewer = np.prod(description["shape"]) / np.prod(description["latents"])
    facts = {
        "autoencoder": description["autoencoder"],
        "data": description["data"],
        "images": dimensions(description["shape"]),
        "latents": f"{dimensions(description['latents'])}, {fewer:.0f} times fewer numbers",
        "found in": description.get("found"),
        "scale": f"{description['scale']:.3g}",
        "standard deviation of scaled latents": f"{description['std of scaled latents']:.2f}",
    }
    return fact_table(facts)


def reconstruction(preparation: LatentPreparation) -> pd.DataFrame:
    """By part of the data: images, and PSNR in dB, SSIM and mean absolute error of the reconstructions."""
    return figure_table(preparation.description["figures"], LEVELS)


def side_by_side(preparation: LatentPreparation, count: int) -> dict[str, np.ndarray]:
    """`count` images of each part of the data and their reconstructions, by the row's name, in [-1, 1]."""
    network, rows = load(preparation), {}
    with one_thread():
        for part, images in images_of(preparation, count).items():
            again = network.decode_many(network.encode_many(images.to(preparation.device))[0])
            rows[part] = images.numpy()
            rows[f"reconstructed {part.partition(' ')[0]}"] = again.clamp(-1, 1).cpu().numpy()
    return rows
