"""Stable Diffusion 1.5's UNet as InstaFlow and SCFlow publish it, made a flow map: v_{s,t}(x | c) on latents.

Layers and their names are those of diffusers' UNet2DConditionModel: see fewstep.networks.published.instaflow.
InstaFlow (arXiv 2309.06380) calls its network with times from 1000 for noise to 0 for data and takes from it
a velocity from noise to data, so v_{s,s}(x | c) = UNet(1000 (1 - s), x, c), without a change of sign.

As in fewstep.networks.adm, what the gap t - s adds vanishes at t = s, and everywhere until something is
trained. Every place attends to all tokens, the filling behind a text included, as in Stable Diffusion.
"""

from collections.abc import Sequence
from typing import Any

from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from ..flows.conditioning import Conditions
from . import unet_levels, zeroed
from .unet_levels import differentiable_attention, gap_features, gap_layers, is_differentiated, rising

NOISE = 1000.0  # the published network's time of pure noise
HIGHEST = 16.0  # the highest frequency of the gap's embedding, in radians


def _recomputed(layer: nn.Module, *inputs: Any) -> Any:
    """`layer` of `inputs`, computed again on the way back and not kept; torch.func keeps it all."""
    if is_differentiated():
        return layer(*inputs)
    return checkpoint(layer, *inputs, use_reentrant=False, preserve_rng_state=False)


class Encoder(unet_levels.Encoder):
    def embedded(self, s: Tensor, x: Tensor) -> Tensor:
        return self.time_embedding(self.time_proj(NOISE * (1 - s)).to(x.dtype))

    def attended(self, conditions: Conditions, x: Tensor) -> dict[str, Tensor]:
        return {"encoder_hidden_states": conditions.hidden}


class PublishedUNet(nn.Module):
    """v_{s,t}(x | c) for latents (batch, channels, height, width), of one `shape` (channels, height, width).

    channels, layers, attention, heads, groups, width  as in fewstep.networks.text_unet.TextUNet
    checkpointing  whether the residual blocks are computed again on the way back in the place of being kept:
                   it changes the memory and the time that a step of training takes, and no bit

    The last layer starts at zero. Raises ValueError as TextUNet does.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool],
        heads: int, groups: int, width: int, checkpointing: bool = True,
    ):  # fmt: skip
        super().__init__()
        # what is added to the embedding of time comes without a layer of its own: identity
        sizes = unet_levels.sizes("a published_unet", shape, channels, layers, attention, groups, "CrossAttn")
        # attention_head_dim: by the name of a width, always the number of heads
        own = {"cross_attention_dim": width, "attention_head_dim": heads, "class_embed_type": "identity"}
        self.model = UNet2DConditionModel(**sizes, **own)
        zeroed(self.model.conv_out)
        self.embedding = rising(channels[0], HIGHEST)
        self.gap_embed = gap_layers(channels[0], self.model.time_embedding.linear_2.out_features)
        unet_levels.make_contiguous(self.model, always=False)
        if checkpointing:
            self.model.enable_gradient_checkpointing(_recomputed)

    def forward(self, s: Tensor, t: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        """v_{s,t}(x | c): times (batch,), latents (batch, channels, height, width), a text a sample."""
        added = self.gap_embed(gap_features(self.embedding, t - s))
        with differentiable_attention():
            return self.model(x, NOISE * (1 - s), conditions.hidden, added, return_dict=False)[0]

    def encoder(self) -> Encoder:
        """Copies of the layers up to the middle."""
        return Encoder(self.model)


build = PublishedUNet
