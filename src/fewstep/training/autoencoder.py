"""Stage 0 of the experiments in latents: the autoencoder, trained here or found, and how much of an image it keeps.

At tier paper it is the autoencoder of Stable Diffusion, from this machine's disk; at the others a small one of the same
kind, trained on the images themselves. What its reconstructions lose, no flow between latents can bring back.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from .. import data
from ..data.formats.archives import folder_of
from ..metrics.step_consistency import ssim
from ..networks import autoencoder
from ..networks.autoencoder import Autoencoder
from ..settings.latents import Latents
from ..storage import stand_in
from ..storage.checkpoint import save_checkpoint
from ..storage.files import write_atomically
from ..storage.fingerprint import fingerprint
from . import optimisers
from .pool import one_thread
from .preparation import Preparation
from .resumable import Progressing, to_the_end, under

# The bend of the pseudo-Huber distance, in units of [-1, 1]: four levels of 255
BEND = 0.03
WARMUP, CLIP = 0.05, 1.0
MEASURED, DRAW_SEED = 256, 2_000_003


@dataclass(frozen=True)
class LatentPreparation(Preparation):
    """An entry of a tier's `latents`: its settings, and where its files are."""

    settings: Latents
    SECTION = "latents"

    @property
    def source(self) -> data.DataSource:
        """The images that are encoded."""
        return data.load(self.settings.data)

    @property
    def data_name(self) -> str:
        """The data set's name, or what stands for it in a rehearsal."""
        stands_in = stand_in.is_marked(folder_of(self.settings.data))
        return f"a rehearsal's stand-in for {self.settings.data}" if stands_in else self.settings.data

    def fingerprint(self) -> str:
        """What a training depends on; a state on disk with another fingerprint is of another run."""
        return fingerprint(
            self.settings.model_dump(exclude={"count", "measured"}),
            [__name__, f"{data.__name__}.{self.settings.data}"],
        )

    @property
    def state(self) -> Path:
        """Where the state of the training is kept; one whose settings or code changed starts afresh."""
        return self.workspace.write(f"states/latents/{self.name}-{self.fingerprint()}.safetensors")

    @property
    def folder(self) -> Path:
        """What `train` wrote; raises FileNotFoundError, naming the cure, where it has not run."""
        return self.workspace.read(f"autoencoders/{self.name}/{autoencoder.DESCRIBED}").parent


def loss(
    network: Autoencoder, images: Tensor, kl: float, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """The loss of images (batch, channels, height, width) in [-1, 1], and the part of it that is reconstruction; both scalars.

    Pseudo-Huber distance of D(mean + std eps), eps drawn by `generator`, a pixel's mean, plus `kl` times the divergence
    of N(mean, std^2) from N(0, 1), a latent's mean.
    """
    mean, std = network.encode(images)
    eps = torch.randn(mean.shape, generator=generator, device=mean.device)
    misfit = ((network.decode(mean + std * eps) - images).square() + BEND**2).sqrt().mean() - BEND
    divergence = 0.5 * (mean.square() + std.square() - 1).mean() - std.log().mean()
    return misfit + kl * divergence, misfit


def advance(preparation: LatentPreparation, until: int, tick: Callable[[int], None] | None = None) -> Path:
    """Bring the training from its state on disk, or from nothing, to step `until`, and store it; returns the state's file.

    Equal seeds give equal bits on a CPU, however often it was stopped. `tick(step)` is called about once a second.
    Raises CheckpointError for a damaged state and FloatingPointError where the training diverged.
    """
    own, source, path = preparation.settings.autoencoder, preparation.source, preparation.state
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(own.seed)
        network = autoencoder.small(
            source.shape, own.channels, own.layers, own.groups, own.latent_channels
        ).to(preparation.device)
    optimiser = optimisers.build("adam", network.parameters(), own.lr)
    generator, log = torch.Generator(preparation.device).manual_seed(own.seed), torch.zeros(own.steps, 2)
    now = Progressing(network, optimiser, generator, log)
    step = now.restore(path)
    said, warm = time.monotonic(), max(WARMUP * own.steps, 1)
    with one_thread():
        while step < until:
            optimiser.param_groups[0]["lr"] = own.lr * min((step + 1) / warm, 1) * (1 - step / own.steps)
            total, misfit = loss(network, source.sample(own.batch, generator), own.kl_weight, generator)
            optimiser.zero_grad(set_to_none=True)
            total.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), CLIP)
            optimiser.step()
            log[step] = torch.stack([total.detach(), misfit.detach()])
            step += 1
            if tick and time.monotonic() - said > 1:
                said = time.monotonic()
                tick(step)
    if not torch.isfinite(log[:step]).all():
        raise FloatingPointError(
            f"the training of the autoencoder {preparation.name} diverged: its loss is not finite; lower autoencoder.lr"
        )
    now.store(path, step)
    return path


def _trained(preparation: LatentPreparation, path: Path) -> dict[str, Any]:
    """Train to the end, write the weights to `path`, and say what they are."""
    own = preparation.settings.autoencoder
    tensors = to_the_end(
        preparation.state,
        own.steps,
        lambda until, tick: advance(preparation, until, tick),
        f"training the autoencoder of {preparation.settings.data}",
    )
    described = {
        "network": own.model_dump(),
        "shape": list(preparation.source.shape),
        "data": preparation.data_name,
        "fingerprint": preparation.fingerprint(),
    }
    save_checkpoint(path, under(tensors, "weights."), described)
    return {
        "autoencoder": f"trained here, {own.steps:,} steps of {own.batch} images",
        "checksum": autoencoder.checksum(path),
    }


def train(preparation: LatentPreparation) -> dict[str, Any]:
    """Train the autoencoder, or find the published one; measure its reconstructions; returns what there is to say of it.

    Writes autoencoders/<name>/ below the tier's artifacts: described.json, and autoencoder.safetensors where it
    is trained. Keys of the result: autoencoder, checksum, data, shape, latents (their shape), scale, channels (mean
    and std of each channel of the latents), figures by part of the data; repository and found where it is published.
    """
    own = preparation.settings.autoencoder
    folder = preparation.workspace.write(f"autoencoders/{preparation.name}/{autoencoder.DESCRIBED}").parent
    # a description of other weights must not stand beside these, not even if this is killed here
    (folder / autoencoder.DESCRIBED).unlink(missing_ok=True)
    if own.kind == "pretrained":
        network, described = autoencoder.pretrained(own.repository)
        network, described = network.to(preparation.device), described | {"repository": own.repository}
    else:
        described = _trained(preparation, folder / autoencoder.TRAINED)
        network = autoencoder.trained(folder / autoencoder.TRAINED).to(preparation.device)
    described |= {
        "data": preparation.data_name,
        "shape": list(preparation.source.shape),
        "latents": list(network.latent_shape(preparation.source.shape)),
    }
    described |= _measured(preparation, network)
    write_atomically(folder / autoencoder.DESCRIBED, (json.dumps(described, indent=1) + "\n").encode())
    return described


def images_of(preparation: LatentPreparation, count: int) -> dict[str, Tensor]:
    """`count` images as they are drawn in training and, where the data set keeps some apart, held-out ones.

    (count, channels, height, width), float32 in [-1, 1], on the CPU, always the same.
    """
    found = {"training images": preparation.source.sample(count, torch.Generator().manual_seed(DRAW_SEED))}
    held_out = getattr(data.module(preparation.settings.data), "held_out", None)
    return found if held_out is None else found | {"held-out images": held_out(count, DRAW_SEED)}


def _figures(images: Tensor, again: Tensor, top: int) -> dict[str, float]:
    """How near images of levels 0..top, uint8, are to their reconstructions."""
    gap = images.double() - again.double()
    # an image that comes back without an error would count as infinitely good: half a level in one pixel is the most that is credited
    misfit = gap.square().mean((1, 2, 3)).clamp(min=0.25 / gap[0].numel())
    return {
        "PSNR": float((10 * (top**2 / misfit).log10()).mean()),
        "SSIM": float(ssim(images.numpy(), again.numpy(), top).mean()),
        "mean absolute error": float(gap.abs().mean()),
    }


def _measured(preparation: LatentPreparation, network: Autoencoder) -> dict[str, Any]:
    """The scale of the latents, the mean and std of each of their channels, and figures of the reconstructions."""
    source, own, figures, moments = preparation.source, preparation.settings.autoencoder, {}, {}
    with one_thread():
        for part, images in images_of(preparation, preparation.settings.measured or MEASURED).items():
            moments[part] = network.encode_many(images.to(preparation.device))
            again = network.decode_many(moments[part][0]).cpu()
            figures[part] = {"images": len(images)} | _figures(
                source.to_uint8(images), source.to_uint8(again), source.top
            )
        mean, std = (moment.cpu().double() for moment in moments["training images"])
        # of draws: the variance of the means, and the mean of the variances
        spread = float((mean.var(unbiased=False) + std.square().mean()).sqrt())
        each = (mean.var((0, 2, 3), unbiased=False) + std.square().mean((0, 2, 3))).sqrt()
    scale = own.scale if own.kind == "pretrained" else 1 / spread
    channels = {"mean": mean.mean((0, 2, 3)).tolist(), "std": each.tolist()}
    return {"scale": scale, "std of scaled latents": scale * spread, "channels": channels, "figures": figures}


def load(preparation: LatentPreparation) -> Autoencoder:
    """The autoencoder that `train` has trained or found, frozen; raises as `autoencoder.load`."""
    return autoencoder.load(preparation.folder, preparation.device)


def as_table(described: dict[str, Any]) -> pd.DataFrame:
    """What `train` returned, rounded, one row a fact."""
    shape, latents = (" x ".join(map(str, described[key])) for key in ("shape", "latents"))
    fewer = np.prod(described["shape"]) / np.prod(described["latents"])
    rows = {
        "autoencoder": described["autoencoder"],
        "data": described["data"],
        "images": shape,
        "latents": f"{latents}, {fewer:.0f} times fewer numbers",
    }
    if "found" in described:
        rows["found in"] = described["found"]
    rows |= {
        "scale": f"{described['scale']:.3g}",
        "standard deviation of scaled latents": f"{described['std of scaled latents']:.2f}",
    }
    return pd.DataFrame({"": rows})


def reconstruction(preparation: LatentPreparation) -> pd.DataFrame:
    """How near reconstructions come, one row for each part of the data: images, PSNR in dB, SSIM, mean absolute error in levels."""
    figures = autoencoder.read_described(preparation.folder)["figures"]
    rows = {
        part: {
            "images": own["images"],
            "PSNR": f"{own['PSNR']:.1f} dB",
            "SSIM": f"{own['SSIM']:.3f}",
            "mean absolute error": f"{own['mean absolute error']:.1f} levels",
        }
        for part, own in figures.items()
    }
    return pd.DataFrame(rows).T


def channels(preparation: LatentPreparation) -> pd.DataFrame:
    """The latents before they are scaled, one row a channel: mean and standard deviation of draws."""
    described = autoencoder.read_described(preparation.folder)
    rows = {
        name: [f"{value:.2f}" for value in described["channels"][key]]
        for name, key in (("mean", "mean"), ("standard deviation", "std"))
    }
    return pd.DataFrame(rows, index=pd.RangeIndex(1, described["latents"][0] + 1, name="channel"))


def side_by_side(preparation: LatentPreparation, count: int) -> dict[str, np.ndarray]:
    """`count` images of each part of the data and, under them, their reconstructions: by the row's name, floats in [-1, 1]."""
    network, rows = load(preparation), {}
    with one_thread():
        for part, images in images_of(preparation, count).items():
            again = network.decode_many(network.encode_many(images.to(preparation.device))[0])
            rows |= {
                part: images.numpy(),
                f"reconstructed {part.partition(' ')[0]}": again.clamp(-1, 1).cpu().numpy(),
            }
    return rows
