"""The pipeline: noise, a few steps of a flow map, conditioned on captions or not, and a decoder of latents.

It draws the project's own samples, up to the rounding of the scheduler's arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from numbers import Integral
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL, DiffusionPipeline, ImagePipelineOutput
from diffusers import FlowMapEulerDiscreteScheduler as Scheduler
from diffusers.utils.torch_utils import randn_tensor
from torch import Tensor
from transformers import CLIPTextModel, CLIPTokenizer

from .. import networks
from ..evaluation.sample import NOISE, together
from ..flows.conditioning import Conditions
from ..networks.autoencoder import Autoencoder
from ..networks.clip import ATTENTION, Clip
from ..storage.files import mapping, write_atomically
from ..training.precision import one_thread
from . import folder, prompts
from .network import FlowMapModel, Strict, is_number, whole

Generators = torch.Generator | list[torch.Generator] | None
OUTPUTS = ("pil", "np", "pt", "uint8")
# the file that diffusers looks for where a pipeline's class shall come from a folder
CODE, CODE_FILE = f"from {__package__} import {folder.CLASS}  # noqa: F401\n", "pipeline.py"
CARD = "README.md"
SCHEDULE, SCHEDULE_FILE = ("num_train_timesteps", "shift"), "scheduler/scheduler_config.json"
# more is a slip of the pen, and would fill the memory before it fails
MOST_STEPS, MOST_IMAGES = 10_000, 100_000


def seeded(sampling_seed: int) -> torch.Generator:
    """The generator that the noise of a sampling seed of the project's tables is drawn from.

    Raises ValueError for a seed that is none: torch keeps 32 bits, so that another would repeat its noise.
    """
    most = 2**32 - 1 - NOISE
    if not isinstance(sampling_seed, Integral) or not 0 <= sampling_seed <= most:
        raise ValueError(f"a sampling seed is a whole number from 0 to {most:,}, not {sampling_seed!r}")
    return torch.Generator().manual_seed(NOISE + int(sampling_seed))


def _check_kind(part: Any, kind: type) -> None:
    if not isinstance(part, kind):
        found = f"a student takes a {kind.__name__}, and no {type(part).__name__}"
        raise ValueError(f"{found}: take the one that it was saved with")


def _check_schedule(settings: Mapping[str, Any]) -> None:
    """Raise ValueError for settings that are none of a student's scheduler."""
    for name, value in settings.items():
        if not name.startswith("_") and name not in SCHEDULE:
            raise ValueError(f"{Scheduler.__name__} has no setting '{name}'; it has {', '.join(SCHEDULE)}")
        if name in SCHEDULE and not (is_number(value) and value > 0):
            what = f"`{name}` of a {Scheduler.__name__}"
            raise ValueError(f"{what} is a number above 0, not {value!r}: correct it in {SCHEDULE_FILE}")


def _check_parts(flow_map: FlowMapModel, vae: AutoencoderKL | None) -> None:
    """Raise ValueError where the images are not those of the student: a decoder too few, or another."""
    channels = flow_map.config.shape[0]
    if vae is None:
        if channels not in (1, 3) or flow_map.config.bypass:
            draws = f"this student draws in latents of {channels} channels"
            raise ValueError(f"{draws}: give it the `vae` that decodes them")
        return
    _check_kind(vae, AutoencoderKL)
    decoded, factor = vae.config.latent_channels, vae.config.scaling_factor
    if decoded != channels:
        both = f"latents of {decoded} channels, and this student draws some of {channels}"
        raise ValueError(f"the `vae` decodes {both}: take both from one student")
    if not is_number(factor) or factor <= 0:
        why = f"is a number above 0, not {factor!r}"
        raise ValueError(f"`scaling_factor` of the `vae` {why}: save the student again")


class FewStepPipeline(Strict, DiffusionPipeline):
    """Images from a trained student.

    flow_map      the network, and in its config all that decides the images besides these components
    scheduler     its steps, in diffusers' time: noise at sigma 1, data at 0, u = -v
    vae           for a student in latents: `scaling_factor` in its config is what latents were multiplied by
    text_encoder  for a student that is conditioned on captions, and the `tokenizer` with it

    No state of a call is kept: one pipeline serves several threads. Raises ValueError for components that do
    not go together.
    """

    _optional_components = ["vae", "text_encoder", "tokenizer"]
    model_cpu_offload_seq = "text_encoder->flow_map->vae"

    def __init__(
        self, flow_map: FlowMapModel, scheduler: Scheduler, vae: AutoencoderKL | None = None,
        text_encoder: CLIPTextModel | None = None, tokenizer: CLIPTokenizer | None = None,
    ):  # fmt: skip
        super().__init__()
        _check_kind(flow_map, FlowMapModel)
        width = flow_map.config.settings["width"] if flow_map.conditional else None
        prompts.check_components(width, text_encoder, tokenizer)
        _check_parts(flow_map, vae)
        if text_encoder is not None:
            # how attention is computed is stored with no model, and another way gives other bits
            text_encoder.set_attn_implementation(ATTENTION)
        parts = {"vae": vae, "text_encoder": text_encoder, "tokenizer": tokenizer}
        self.register_modules(flow_map=flow_map, scheduler=scheduler, **parts)
        self.texts = None if tokenizer is None else prompts.trained_with(tokenizer)

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "scheduler":
            _check_kind(value, Scheduler)
            _check_schedule(value.config)
        super().__setattr__(name, value)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, scheduler: Scheduler | None = None,
        torch_dtype: torch.dtype = torch.float32,
    ) -> FewStepPipeline:  # fmt: skip
        """The student saved in a folder of this machine, with `scheduler` in the place of its own if given.

        All files but a text for people are held against their checksums, nothing is unpickled, and nothing
        connects to a network. Networks compute in `torch_dtype`, all else in float32. Raises FolderError for
        what is no saved student, CheckpointError for changed files, ValueError for settings that do not fit.
        """
        place = Path(pretrained_model_name_or_path)
        folder.check(place)
        _check_schedule(mapping(place / SCHEDULE_FILE, folder.AGAIN))
        asked = {"local_files_only": True, "use_safetensors": True, "dtype": torch_dtype}
        asked |= {"scheduler": scheduler} if scheduler else {}
        try:
            return super().from_pretrained(str(place), **asked)
        except (ValueError, *networks.ODD) as error:
            found = " ".join(str(error).split())[:300] or type(error).__name__
            raise ValueError(f"{place} cannot be opened ({found}): {folder.AGAIN}") from None

    def save_pretrained(self, save_directory: str | Path, card: str | None = None) -> None:
        """Write the student, and its model card if given, to a folder; raises as `folder.check_free`."""

        def fill(fresh: Path) -> None:
            super(FewStepPipeline, self).save_pretrained(str(fresh), safe_serialization=True)
            write_atomically(fresh / CODE_FILE, CODE.encode())
            if card is not None:
                write_atomically(fresh / CARD, card.encode())

        folder.write(Path(save_directory), fill)

    def _noise(self, batch_size: int | None, generator: Generators, noise: Tensor | None) -> Tensor:
        """The points to start from, (batch, *shape), float32, on the pipeline's device."""
        shape, device = tuple(self.flow_map.config.shape), self._execution_device
        several = generator if isinstance(generator, list) else [generator]
        known = several and all(isinstance(own, torch.Generator) for own in several)
        if generator is not None and not known:
            wanted = "a torch.Generator, or a list with one an image"
            raise ValueError(f"`generator` is {wanted}, not {str(generator):.60}")
        if batch_size is not None:
            batch_size = whole("batch_size", batch_size, MOST_IMAGES)
        if noise is None:
            count = batch_size or len(several)
            if len(several) not in (1, count):
                cure = "give one for all of them, or one an image"
                raise ValueError(f"{len(several)} generators do not go with {count} images: {cure}")
            drawn = randn_tensor((count, *shape), generator=generator, device=device, dtype=torch.float32)
            return drawn * self.flow_map.config.noise_scale
        if tuple(noise.shape[1:]) != shape or not len(noise) or batch_size not in (None, len(noise)):
            wanted = ", ".join(map(str, ("count" if batch_size is None else batch_size, *shape)))
            found = f"`noise` has shape {tuple(noise.shape)}"
            raise ValueError(f"{found}, and this student starts from ({wanted})")
        return noise.to(device, torch.float32)

    def _steps(
        self, x: Tensor, steps: int, captions: Conditions | None, empty: Conditions | None, guidance: float
    ) -> Tensor:
        """Where so many steps carry points (batch, *shape) from noise."""
        # one of this call's own, since it keeps the times that it was set to
        scheduler = copy(self.scheduler)
        scheduler.set_timesteps(steps, x.device)
        times, ahead = (1 - scheduler.sigmas).tolist(), int(self.flow_map.config.sampler == "jumps")
        for k, timestep in enumerate(scheduler.timesteps):
            s, t = (torch.full((len(x),), time, device=x.device) for time in (times[k], times[k + ahead]))
            v = self.flow_map(s, t, scheduler.scale_model_input(x, timestep), captions, empty, guidance)
            x = scheduler.step(-v, timestep, x).prev_sample
        return x

    def _levels(self, points: Tensor) -> np.ndarray:
        """Images as one would store them, (batch, channels, height, width), uint8 from 0 to `top`."""
        own = self.flow_map.config
        if self.vae is not None:
            latents = (points / self.vae.config.scaling_factor).to(self.vae.dtype)
            points = Autoencoder(self.vae, own.bypass).decode_many(latents).float()
        if not points.isfinite().all():
            why = "its training diverged, `noise` is not what it was trained on, or half precision overflowed"
            raise RuntimeError(f"the student draws values that are not finite: {why}")
        return ((points + 1) * (own.top / 2)).round().clamp(0, own.top).to(torch.uint8).cpu().numpy()

    def _output(self, levels: np.ndarray, output_type: str) -> Any:
        """Levels in the type asked for; all of them hold the same whole levels."""
        top = self.flow_map.config.top
        if output_type == "uint8":
            return levels
        if output_type == "pt":
            return torch.from_numpy(levels) / top
        images = levels.transpose(0, 2, 3, 1).astype(np.float32) / np.float32(top)
        return images if output_type == "np" else self.numpy_to_pil(images)

    @torch.no_grad()
    def __call__(
        self, prompt: str | list[str] | None = None, num_inference_steps: int = 1,
        guidance_scale: float | None = None, batch_size: int | None = None, generator: Generators = None,
        noise: Tensor | None = None, output_type: str = "pil", return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:  # fmt: skip
        """Draw `batch_size` images (1, or one a prompt), each in `num_inference_steps` steps.

        prompt          of students that are conditioned on captions, and no others: one text for all images,
                        or a list with one an image; what is too long is cut, with one warning
        guidance_scale  of classifier-free guidance against the empty text, two network calls a step; 1 is
                        none, None what the student's own rows in the project's tables were drawn with
        generator       where the noise is drawn from; `seeded(k)` is that of the tables' sampling seed k
        noise           what to start from instead, (batch, *shape), scaled as fewstep.evaluation.sample.noise
        output_type     "pil": images; "np": (batch, height, width, channels), float32 in [0, 1]; "pt": a
                        tensor (batch, channels, height, width) in [0, 1]; "uint8": such an array of 0..top

        Computes on one thread, and in chunks as `fewstep.evaluation.sample` does, since sums taken in another
        order give other bits. Raises ValueError, in one sentence, for what it cannot take.
        """
        texts = prompts.checked(prompt, self.flow_map.conditional)
        guidance, steps = self.flow_map.guidance(guidance_scale), num_inference_steps
        if output_type not in OUTPUTS:
            raise ValueError(f"`output_type` is one of {', '.join(OUTPUTS)}, not '{output_type}'")
        steps = whole("num_inference_steps", steps, MOST_STEPS)
        known = isinstance(noise, Tensor) and noise.is_floating_point() and noise.ndim > 0
        if noise is not None and not (known and noise.isfinite().all()):
            found = f"{noise.dtype} or not finite" if isinstance(noise, Tensor) else type(noise).__name__
            raise ValueError(f"`noise` is a tensor of finite floats, not {found}: torch.as_tensor makes one")
        _check_parts(self.flow_map, self.vae)
        captions = empty = None
        with one_thread():
            start = self._noise(prompts.images(texts, batch_size, noise), generator, noise)
            if texts is not None:
                prompts.warn_of_cuts(self.texts, texts)
                both = Clip(self.text_encoder, self.texts).text([*texts, ""]).to(start.device)
                captions, empty = both.part(0, len(texts)), both.part(len(texts), len(texts) + 1)
                captions = captions.times(len(start)) if len(texts) == 1 else captions
            size = together(start.ndim - 1, captions is not None, start.device.type)
            points = []
            for k in self.progress_bar(range(0, len(start), size)):
                own = None if captions is None else captions.part(k, k + size)
                points.append(self._steps(start[k : k + size], steps, own, empty, guidance))
            images = self._output(self._levels(torch.cat(points)), output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)
