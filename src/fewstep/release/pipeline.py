"""The pipeline: noise, a few steps of a flow map, of a text where it is told one, and the decoder where it draws in latents.

It draws the project's own samples, bit for bit.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from diffusers import AutoencoderKL, DiffusionPipeline, ImagePipelineOutput  # isort: skip
from diffusers.utils.torch_utils import randn_tensor
from transformers import CLIPTextModel

from ..evaluation.sample import NOISE, together
from ..flows.conditioning import Conditions
from ..networks.autoencoder import Autoencoder
from ..networks.clip import ATTENTION
from ..storage.files import write_atomically
from ..training.pool import one_thread
from . import folder, prompts
from .network import FlowMapModel
from .scheduler import FlowMapScheduler
from .strict import Strict
from .tokenizer import TextTokenizer

OUTPUTS = ("pil", "np", "pt", "uint8")
# the file that diffusers looks for where it is told to take a pipeline's class from a folder
CODE, CODE_FILE = f"from {__package__} import {folder.CLASS}  # noqa: F401\n", "pipeline.py"
CARD = "README.md"


def seeded(sampling_seed: int) -> torch.Generator:
    """The generator that the noise of a sampling seed of the project's tables is drawn from."""
    return torch.Generator().manual_seed(NOISE + sampling_seed)


class FewStepPipeline(Strict, DiffusionPipeline):
    """Images from a trained student.

    flow_map        the network
    scheduler       its steps, and the scale of the noise
    vae             for a student in latents, what decodes them; its config's `scaling_factor` is what latents were multiplied by
    text_encoder    for a student that is told texts, what reads them
    tokenizer       and what makes them tokens
    bypass          whether decoded images are added to the enlarged latents, as autoencoders trained here do
    top             the highest level of a pixel; the lowest is 0
    guidance_scale  the scale of classifier-free guidance where a call names none; 1 is none
    student         which student this is: experiment, method, label, tier, seed and whatever else there is to say of it

    Raises ValueError for components that do not go together.
    """

    _optional_components = ["vae", "text_encoder", "tokenizer"]

    def __init__(
        self, flow_map: FlowMapModel, scheduler: FlowMapScheduler, vae: AutoencoderKL | None = None,
        text_encoder: CLIPTextModel | None = None, tokenizer: TextTokenizer | None = None,
        bypass: bool = False, top: int = 255, guidance_scale: float = 1.0, student: dict[str, Any] | None = None,
    ):  # fmt: skip
        super().__init__()
        prompts.check_components(flow_map, text_encoder, tokenizer)
        prompts.guidance(guidance_scale, flow_map.conditional, 1.0)
        if text_encoder is not None:
            # how attention is computed is stored with no model, and another way gives other bits
            text_encoder.set_attn_implementation(ATTENTION)
        self.register_modules(
            flow_map=flow_map, scheduler=scheduler, vae=vae, text_encoder=text_encoder, tokenizer=tokenizer
        )
        self.register_to_config(bypass=bypass, top=top, guidance_scale=guidance_scale, student=student)

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, scheduler: FlowMapScheduler | None = None
    ) -> FewStepPipeline:
        """The student saved in a folder of this machine, in the place of its own scheduler with `scheduler` if one is given.

        Weights are held against their checksums, nothing is unpickled, and the network is never asked. Raises FolderError
        for what is no saved student, CheckpointError for damaged weights, ValueError for configs that do not fit.
        """
        place = Path(pretrained_model_name_or_path)
        folder.check(place)
        own = {} if scheduler is None else {"scheduler": scheduler}
        return super().from_pretrained(str(place), local_files_only=True, use_safetensors=True, **own)

    def save_pretrained(self, save_directory: str | Path, card: str | None = None) -> None:
        """Write the student, and its model card if there is one, to a folder; raises FolderError rather than write over anything else."""

        def fill(fresh: Path) -> None:
            super(FewStepPipeline, self).save_pretrained(str(fresh), safe_serialization=True)
            write_atomically(fresh / CODE_FILE, CODE.encode())
            if card is not None:
                write_atomically(fresh / CARD, card.encode())

        folder.write(Path(save_directory), fill)

    def _noise(
        self,
        batch_size: int | None,
        generator: torch.Generator | list[torch.Generator] | None,
        noise: Tensor | None,
    ) -> Tensor:
        """The points to start from, (batch, *shape), float32, on the pipeline's device."""
        shape, device = tuple(self.flow_map.config.shape), self._execution_device
        if noise is None:
            count = 1 if batch_size is None else batch_size
            if count < 1:
                raise ValueError(f"a batch holds one image at least, not {count}: change `batch_size`")
            return (
                randn_tensor((count, *shape), generator=generator, device=device, dtype=torch.float32)
                * self.scheduler.init_noise_sigma
            )
        if tuple(noise.shape[1:]) != shape or not len(noise) or batch_size not in (None, len(noise)):
            wanted = "count" if batch_size is None else batch_size
            raise ValueError(
                f"`noise` has shape {tuple(noise.shape)}, and this student starts from ({wanted}, {', '.join(map(str, shape))})"
            )
        return noise.to(device, torch.float32)

    def _read(self, texts: list[str] | None, start: Tensor) -> tuple[Conditions | None, Conditions | None]:
        """What each of the points to start from is told, and the empty text; None and None for a student without text."""
        if texts is None:
            return None, None
        own, empty = prompts.read(self.text_encoder, self.tokenizer.texts, texts, len(start))
        return own.to(start.device), empty.to(start.device)

    def _moved(self, x: Tensor, told: Conditions | None, empty: Conditions | None, guidance: float) -> Tensor:
        """Where the steps carry one chunk of points (batch, *shape)."""
        for timestep in self.scheduler.timesteps:
            s, t = (
                torch.full((len(x),), time, dtype=x.dtype, device=x.device)
                for time in self.scheduler.asked_at(timestep)
            )
            average = self.flow_map(
                s, t, self.scheduler.scale_model_input(x, timestep), told, empty, guidance
            )
            x = self.scheduler.step(average, timestep, x).prev_sample
        return x

    def _levels(self, points: Tensor) -> np.ndarray:
        """Images as one would store them, (batch, channels, height, width), uint8 from 0 to `top`."""
        if self.vae is not None:
            points = Autoencoder(self.vae, self.config.bypass).decode_many(
                points / self.vae.config.scaling_factor
            )
        if not points.isfinite().all():
            raise RuntimeError(
                "the student draws values that are not finite: its training diverged, or the given `noise` is not what it was trained on"
            )
        top = self.config.top
        return ((points + 1) * (top / 2)).round().clamp(0, top).to(torch.uint8).cpu().numpy()

    def _shown(self, levels: np.ndarray, output_type: str) -> Any:
        """Levels in the type asked for; all of them hold the same whole levels."""
        if output_type == "uint8":
            return levels
        if output_type == "pt":
            return torch.from_numpy(levels) / self.config.top
        last = levels.transpose(0, 2, 3, 1)
        if output_type == "np":
            return last.astype(np.float32) / np.float32(self.config.top)
        grey = (last.astype(np.float32) * (255 / self.config.top)).round().astype(np.uint8)
        return [Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image) for image in grey]

    @torch.no_grad()
    def __call__(
        self, prompt: str | list[str] | None = None, num_inference_steps: int = 1, guidance_scale: float | None = None, batch_size: int | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None, noise: Tensor | None = None,
        output_type: str = "pil", return_dict: bool = True,
    ) -> ImagePipelineOutput | tuple:  # fmt: skip
        """Draw `batch_size` images (1, or one a prompt) in `num_inference_steps` network calls each, two a step under guidance.

        prompt       for students that were trained with text, and for no others: one text for all images, or a list with one an
                     image; what is longer than the text encoder reads is cut, with one warning
        guidance_scale  of classifier-free guidance against the empty text, as in fewstep.flows.conditioning.Guided; 1 is none, and None
                     what the student's own rows in the project's tables were drawn with
        generator    where the noise is drawn from; `seeded(k)` is that of sampling seed k in the project's tables
        noise        what to start from instead, (batch, *shape), as `fewstep.evaluation.sample.noise` gives it: already scaled
        output_type  "pil": images; "np": (batch, height, width, channels), float32 in [0, 1]; "pt": a tensor (batch,
                     channels, height, width) in [0, 1]; "uint8": an array (batch, channels, height, width) of levels 0..top,
                     on the CPU the same bits as the project's own samples of the same noise

        Computes on one thread, and in chunks as `fewstep.evaluation.sample` does, since sums taken in another order give other bits.
        Raises ValueError, in one sentence, for what it cannot take.
        """
        texts, guidance = (
            prompts.checked(prompt, self.flow_map.conditional),
            prompts.guidance(guidance_scale, self.flow_map.conditional, self.config.guidance_scale),
        )
        if output_type not in OUTPUTS:
            raise ValueError(f"`output_type` is one of {', '.join(OUTPUTS)}, not '{output_type}'")
        self.scheduler.set_timesteps(num_inference_steps)
        with one_thread():
            start = self._noise(prompts.images(texts, batch_size, noise), generator, noise)
            if texts is not None:
                prompts.warn_of_cuts(self.tokenizer.texts, texts)
            told, empty = self._read(texts, start)
            size = together(start.ndim - 1, told is not None, start.device.type)
            chunks = [
                (start[k : k + size], None if told is None else told.part(k, k + size))
                for k in range(0, len(start), size)
            ]
            points = torch.cat([self._moved(*chunk, empty, guidance) for chunk in self.progress_bar(chunks)])
            images = self._shown(self._levels(points), output_type)
        return ImagePipelineOutput(images=images) if return_dict else (images,)
