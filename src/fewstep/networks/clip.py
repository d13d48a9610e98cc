"""CLIP, of transformers' own classes: texts and images as points of one sphere, and texts to attend to."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPConfig, CLIPModel, CLIPTextModel

from ..data.images import to_signed
from ..flows.conditioning import Conditions
from . import filled
from .tokens import START, Tokenizer

# as the field's tables give it, and not 2.5 max(cos, 0), as Hessel et al. (arXiv 2104.08718) weigh it
SCORE = "CLIP score, 100 max(cos(image, text), 0), mean over pairs"
# texts, or images, that go through a tower together, and how many activations they have at most
TOGETHER, NUMBERS_TOGETHER = 64, 2**21
ATTENTION = "eager"  # no attention that picks its algorithm by the size of the batch
ACTIVATION = "silu"  # of a CLIP that is trained here: CLIP's own takes a fifth longer to train
# deviations of a token's and of a place's embedding before training: with CLIP's own 0.02 what the layers add
# drowns which token stands where, which a flow that attends to the tokens misses
OF_TOKENS, OF_PLACES = 1.0, 0.5


@dataclass(frozen=True)
class Preparation:
    """Images in [-1, 1] for a tower: `side` wide and high (bicubic), then, from [0, 1], (x - mean) / std."""

    side: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, images: Tensor) -> Tensor:
        """Prepared images (batch, channels, side, side)."""
        if images.shape[-1] != self.side:
            images = F.interpolate(images, size=(self.side, self.side), mode="bicubic", antialias=True)
        mean, std = (images.new_tensor(values)[:, None, None] for values in (self.mean, self.std))
        return ((images.clamp(-1, 1) + 1) / 2 - mean) / std


class Clip(nn.Module):
    """Both towers of a CLIP, or the text tower alone; images are uint8 or floats in [-1, 1].

    What an image or a text becomes has the same bits whatever others come with it, on a CPU with torch on one
    thread. Texts are cut or filled up to `length` tokens; `width` is that of `Conditions.hidden`.
    """

    def __init__(
        self, model: CLIPModel | CLIPTextModel, tokenizer: Tokenizer, preparation: Preparation | None = None
    ):
        super().__init__()
        self.model, self.tokenizer, self.preparation = model, tokenizer, preparation
        self.width, self.length = self.text_tower.config.hidden_size, tokenizer.length

    @property
    def text_tower(self) -> CLIPTextModel:
        """The model of texts alone."""
        return self.model.text_model if isinstance(self.model, CLIPModel) else self.model

    def _check_towers(self) -> None:
        if not isinstance(self.model, CLIPModel):
            cure = "take a whole CLIP (`towers: both`) for features and scores"
            raise ValueError(f"this is a text encoder alone, without a tower of images: {cure}")

    def _check_images(self, images: Tensor) -> None:
        self._check_towers()
        own = self.model.config.vision_config
        shape = (own.num_channels, own.image_size, own.image_size)
        if images.ndim != 4 or images.shape[1] != shape[0] or images.shape[2] != images.shape[3]:
            wanted = f"square images (batch, {shape[0]}, side, side)"
            raise ValueError(f"a CLIP takes {wanted}, not {tuple(images.shape)}")
        if self.preparation is None and images.shape[1:] != shape:
            others = f"takes no others, such as {tuple(images.shape[1:])}"
            raise ValueError(f"this CLIP was trained on images of shape {shape} and {others}")
        if images.dtype != torch.uint8 and not images.is_floating_point():
            raise ValueError(f"images are uint8 from 0 to 255 or floats in [-1, 1], not {images.dtype}")

    def embed_images(self, images: Tensor) -> Tensor:
        """Points of the sphere, (batch, projection), with gradients; raises ValueError for other images."""
        self._check_images(images)
        pixels = to_signed(images) if images.dtype == torch.uint8 else images.float()
        pixels = pixels if self.preparation is None else self.preparation(pixels)
        return F.normalize(self.model.get_image_features(pixels).pooler_output, dim=1)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Points of the sphere, (batch, projection), of the tokens (batch, any) of texts, with gradients."""
        return F.normalize(self.model.get_text_features(ids).pooler_output, dim=1)

    def _many(self, tower: Callable[[Tensor], Tensor], values: Tensor, numbers: int, *shape: int) -> Tensor:
        """`tower` of `values`, of `numbers` activations each, in parts: (count, *shape)."""
        device = self.model.device
        parts = filled(values, TOGETHER, NUMBERS_TOGETHER // numbers) if len(values) else ()
        found = [tower(part.to(device))[:count] for part, count in parts]
        return torch.cat(found) if found else torch.zeros(0, *shape, device=device)

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Conditions:
        """What a flow attends to: the last states after the final norm, of a text that is cut if too long."""
        ids, own = self.tokenizer.encode(texts)
        shape = self.length, self.width
        hidden = self._many(lambda part: self.text_tower(part).last_hidden_state, ids, prod(shape), *shape)
        return Conditions(hidden, own.to(self.model.device))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Texts as points of the sphere, (count, projection), float32."""
        self._check_towers()
        ids, _ = self.tokenizer.encode(texts)
        return self._many(self.embed_tokens, ids, self.length * self.width, self.model.config.projection_dim)

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """Images (count, channels, height, width) as points of the sphere, (count, projection), float32."""
        self._check_images(images)
        own = self.model.config.vision_config
        numbers = ((own.image_size // own.patch_size) ** 2 + 1) * own.hidden_size
        return self._many(self.embed_images, images, numbers, self.model.config.projection_dim)

    def score(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """100 max(cos, 0) of image k and text k, (count,), float32; ValueError unless each has one."""
        if len(images) != len(texts):
            found = f"there are {len(texts)} texts and {len(images)} images"
            raise ValueError(f"a score takes one text an image: {found}")
        return 100 * (self.image_features(images) * self.text_features(texts)).sum(1).clamp(min=0)


def small(
    shape: Sequence[int], tokenizer: Tokenizer, width: int, layers: int, heads: int, patch: int,
    projection: int,
) -> Clip:  # fmt: skip
    """An untrained CLIP of images of `shape` (channels, side, side), of two towers of the same sizes."""
    tower = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "projection_dim": projection, "hidden_act": ACTIVATION,
    }  # fmt: skip
    words = tokenizer.vocabulary
    texts = {"bos_token_id": words[START], "eos_token_id": tokenizer.end, "vocab_size": len(words)}
    texts |= {"pad_token_id": words[tokenizer.filling], "max_position_embeddings": tokenizer.length}
    images = {"num_channels": shape[0], "image_size": shape[1], "patch_size": patch}
    towers = {"text_config": tower | texts, "vision_config": tower | images}
    config = CLIPConfig(**towers, projection_dim=projection, attn_implementation=ATTENTION)
    network = Clip(CLIPModel(config), tokenizer)
    embeddings = network.text_tower.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=OF_TOKENS)
    nn.init.normal_(embeddings.position_embedding.weight, std=OF_PLACES)
    return network
