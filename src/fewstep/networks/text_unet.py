"""A two-time UNet for v_{s,t}(x | c), conditioned on a text: diffusers' UNet2DConditionModel."""

import copy
from collections.abc import Sequence

import torch
from diffusers import UNet2DConditionModel
from diffusers.models.attention import BasicTransformerBlock
from torch import Tensor, nn

from ..flows.conditioning import Conditions
from . import unet_levels


class Encoder(unet_levels.Encoder):
    LAYERS = (*unet_levels.Encoder.LAYERS, "class_embedding")

    def __init__(self, network: nn.Module):
        super().__init__(network.model)
        self.readers = copy.deepcopy(network.readers).requires_grad_(True)

    def embedded(self, s: Tensor, x: Tensor) -> Tensor:
        no_gap = self.class_embedding(self.time_proj(torch.zeros_like(s)))
        return self.time_embedding(self.time_proj(s)) + no_gap

    def attended(self, conditions: Conditions, x: Tensor) -> dict[str, Tensor]:
        mask = _as_bias(conditions.mask, x.dtype)
        return {"encoder_hidden_states": _read(self.readers, conditions), "encoder_attention_mask": mask}


class TextUNet(nn.Module):
    """v_{s,t}(x | c) for latents (batch, channels, height, width) and texts of `width` numbers a token.

    channels, layers, groups, time_scale  as in fewstep.networks.unet.UNet
    attention    whether each level attends, to its own places and to the text; the middle always does
    heads        of every attention
    text_layers  layers, trained with the flow, in which a text's tokens attend to each other in both
                 directions before the UNet attends to them: a CLIP's tower is causal

    The last layer starts at zero, so an untrained flow map is the identity. Raises ValueError when the levels
    do not halve the latents evenly, or groups do not divide the widths.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool],
        heads: int, groups: int, time_scale: float, width: int, text_layers: int = 0,
    ):  # fmt: skip
        super().__init__()
        sizes = unet_levels.sizes("a text_unet", shape, channels, layers, attention, groups, "CrossAttn")
        # attention_head_dim: by the name of a width, always the number of heads
        own = {"cross_attention_dim": width, "attention_head_dim": heads, "class_embed_type": "timestep"}
        self.model = UNet2DConditionModel(**sizes, **own)
        unet_levels.prepare(self.model, unet_levels.rising(channels[0], time_scale))
        size = (width, heads, width // heads)
        readers = (BasicTransformerBlock(*size, activation_fn="geglu") for _ in range(text_layers))
        self.readers = nn.ModuleList(readers)

    def forward(self, s: Tensor, t: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        """v_{s,t}(x | c): times (batch,), latents (batch, channels, height, width), a text a sample."""
        with unet_levels.differentiable_attention():
            texts, mask = _read(self.readers, conditions), conditions.mask
            return self.model(x, s, texts, t - s, encoder_attention_mask=mask, return_dict=False)[0]

    def encoder(self) -> Encoder:
        """Copies of the layers up to the middle."""
        return Encoder(self)


def _as_bias(mask: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask of tokens as diffusers' blocks take it, (batch, 1, tokens): zero where one counts."""
    return (1 - mask[:, None].to(dtype)) * -10_000.0


def _read(readers: nn.ModuleList, conditions: Conditions) -> Tensor:
    """A text's tokens, (batch, tokens, width), after they have attended to each other."""
    hidden, mask = conditions.hidden, _as_bias(conditions.mask, conditions.hidden.dtype)
    for reader in readers:
        hidden = reader(hidden, attention_mask=mask)
    return hidden


build = TextUNet
