"""CLIP, of transformers' own classes: texts and images as points of one sphere, and texts to attend to.

One that is small and trained here has the same methods as a published one, which
fewstep.networks.published.clip opens.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from . import torchvision_operators  # noqa: F401 - before diffusers

from transformers import CLIPConfig, CLIPModel, CLIPTextModel  # isort: skip

from ..data.images import to_signed
from ..flows.conditioning import Conditions
from .batches import filled
from .tokens import START, Tokenizer

# How a score is meant, for the evaluation protocol: as the field's tables give it, times 100, and not 2.5
# max(cos, 0), which is how Hessel et al. (arXiv 2104.08718) weigh it; a table that prints 0.318 means 31.8.
SCORE = "CLIP score, 100 max(cos(image, text), 0), mean over pairs"
# texts, or images, that go through a tower together, and how many activations they have at most
TOGETHER, NUMBERS_TOGETHER = 64, 2**21
# no attention that picks its algorithm by the size of the batch
ATTENTION = "eager"
# of a CLIP that is trained here: CLIP's own, three operations in the place of one, takes a fifth longer to
# train
ACTIVATION = "silu"
# deviations of a token's and of a place's embedding before training. With CLIP's own 0.02 what the layers add
# drowns which token stands where: the contrast of whole texts does not miss it, and a flow that attends to
# the tokens does
OF_TOKENS, OF_PLACES = 1.0, 0.5


@dataclass(frozen=True)
class Preparation:
    """How images in [-1, 1] reach a published tower.

    They are made `side` wide and high, bicubically, then (level - mean) / std. Levels are in [0, 1]; `mean`
    and `std` hold one number a channel.
    """

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
    thread.
    """

    def __init__(
        self, model: CLIPModel | CLIPTextModel, tokenizer: Tokenizer, preparation: Preparation | None = None
    ):
        super().__init__()
        self.model, self.tokenizer, self.preparation = model, tokenizer, preparation

    @property
    def text_tower(self) -> CLIPTextModel:
        """The model of texts alone."""
        return self.model.text_model if isinstance(self.model, CLIPModel) else self.model

    @property
    def width(self) -> int:
        """The width of `Conditions.hidden`."""
        return self.text_tower.config.hidden_size

    @property
    def length(self) -> int:
        """The number of tokens that every text is cut or filled up to."""
        return self.tokenizer.length

    def _check_images(self, images: Tensor) -> None:
        if not isinstance(self.model, CLIPModel):
            cure = "take a whole CLIP (`towers: both`) for features and scores of images"
            raise ValueError(f"this is a text encoder alone, without a tower of images: {cure}")
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

    def _pixels(self, images: Tensor) -> Tensor:
        """Images as the tower of images takes them."""
        self._check_images(images)
        signed = to_signed(images) if images.dtype == torch.uint8 else images.float()
        return signed if self.preparation is None else self.preparation(signed)

    def embed_images(self, images: Tensor) -> Tensor:
        """Points of the sphere, (batch, projection), with gradients; raises ValueError for other images."""
        return F.normalize(self.model.get_image_features(self._pixels(images)).pooler_output, dim=1)

    def embed_tokens(self, ids: Tensor) -> Tensor:
        """Points of the sphere, (batch, projection), of the tokens (batch, any) of texts, with gradients."""
        return F.normalize(self.model.get_text_features(ids).pooler_output, dim=1)

    @property
    def _device(self) -> torch.device:
        return next(self.parameters()).device

    def _parts(self, values: Tensor, numbers: int) -> Iterator[tuple[Tensor, int]]:
        """`values`, of `numbers` activations each, as `filled` splits them, on the model's device."""
        size = max(min(TOGETHER, NUMBERS_TOGETHER // numbers), 1)
        for part, count in filled(values, size) if len(values) else ():
            yield part.to(self._device), count

    def _text_parts(self, texts: Sequence[str]) -> Iterator[tuple[Tensor, int]]:
        return self._parts(self.tokenizer.encode(texts)[0], self.length * self.width)

    def _points(self, parts: list[Tensor]) -> Tensor:
        """Points of the sphere put together; none where there is no part."""
        none = torch.zeros(0, self.model.config.projection_dim, device=self._device)
        return torch.cat(parts) if parts else none

    @torch.no_grad()
    def text(self, texts: Sequence[str]) -> Conditions:
        """What a flow attends to: the last states after the final norm; see `Conditions`.

        A text that is too long is cut: `tokenizer.dropped` counts what it loses.
        """
        found = [self.text_tower(ids).last_hidden_state[:count] for ids, count in self._text_parts(texts)]
        none = torch.zeros(0, self.length, self.width, device=self._device)
        return Conditions(torch.cat([none, *found]), self.tokenizer.encode(texts)[1].to(self._device))

    @torch.no_grad()
    def text_features(self, texts: Sequence[str]) -> Tensor:
        """Texts as points of the sphere, (count, projection), float32."""
        if not isinstance(self.model, CLIPModel):
            cure = "take a whole CLIP (`towers: both`) for features"
            raise ValueError(f"this is a text encoder alone, whose texts have no place beside images: {cure}")
        return self._points([self.embed_tokens(ids)[:count] for ids, count in self._text_parts(texts)])

    @torch.no_grad()
    def image_features(self, images: Tensor) -> Tensor:
        """Images (count, channels, height, width) as points of the sphere, (count, projection), float32."""
        self._check_images(images)
        own = self.model.config.vision_config
        numbers = ((own.image_size // own.patch_size) ** 2 + 1) * own.hidden_size
        return self._points([self.embed_images(part)[:count] for part, count in self._parts(images, numbers)])

    def score(self, images: Tensor, texts: Sequence[str]) -> Tensor:
        """How well image k fits text k: 100 max(cos, 0), (count,), float32 in [0, 100]; see SCORE.

        Raises ValueError unless there is one text an image.
        """
        if len(images) != len(texts):
            found = f"there are {len(texts)} texts and {len(images)} images"
            raise ValueError(f"a score takes one text an image: {found}")
        return 100 * (self.image_features(images) * self.text_features(texts)).sum(1).clamp(min=0)


def small(
    shape: Sequence[int],
    tokenizer: Tokenizer,
    width: int,
    layers: int,
    heads: int,
    patch: int,
    projection: int,
) -> Clip:
    """An untrained CLIP of square images of `shape` (channels, side, side).

    Both towers have `layers` layers of `width` numbers and `heads` heads. Raises ValueError for images that
    do not fall into patches, and a width that does not fall into heads.
    """
    channels, side, other = shape
    if side != other or side % patch:
        found = f"{side} x {other} does not fall into squares of {patch} x {patch}"
        raise ValueError(f"a CLIP cuts square images into patches: {found}")
    if width % heads:
        raise ValueError(f"a tower of width {width} does not fall into {heads} heads of one width")
    tower = {
        "hidden_size": width, "intermediate_size": 4 * width, "num_hidden_layers": layers,
        "num_attention_heads": heads, "projection_dim": projection, "hidden_act": ACTIVATION,
    }  # fmt: skip
    texts = {
        "bos_token_id": tokenizer.vocabulary[START], "eos_token_id": tokenizer.end,
        "pad_token_id": tokenizer.vocabulary[tokenizer.filling], "vocab_size": len(tokenizer.vocabulary),
        "max_position_embeddings": tokenizer.length,
    }  # fmt: skip
    images = {"num_channels": channels, "image_size": side, "patch_size": patch}
    config = CLIPConfig(
        text_config=tower | texts, vision_config=tower | images, projection_dim=projection,
        attn_implementation=ATTENTION,
    )  # fmt: skip
    network = Clip(CLIPModel(config), tokenizer)
    embeddings = network.text_tower.embeddings
    nn.init.normal_(embeddings.token_embedding.weight, std=OF_TOKENS)
    nn.init.normal_(embeddings.position_embedding.weight, std=OF_PLACES)
    return network
