"""The ADM UNet as Latent Flow Matching publishes it, made a flow map: v_{s,t}(x) on latents, and on images.

Layers are those of openai/guided-diffusion's UNetModel with learned resampling (VinAIResearch/LFM), which
diffusers' UNet2DModel computes too: fewstep.networks.published.lfm knows their published names. The published
network runs from data at time 0 to noise at time 1, unscaled, and predicts noise - data, so
v_{s,s}(x) = -ADM(1 - s, x).

What the gap t - s adds to the embedding of time vanishes at t = s, whatever is trained, and everywhere until
something is trained (`gap_layers`): the diagonal is the published network bit for bit.
"""

from collections.abc import Sequence
from math import log

import torch
from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.resnet import ResnetBlock2D
from torch import Tensor

from . import unet_levels, zeroed
from .forward_mode.dual import DualNetwork
from .unet_levels import SinusoidalEmbedding, gap_features, gap_layers

GROUPS = 32


def falling(dim: int) -> SinusoidalEmbedding:
    """`dim` numbers: cos, then sin, of frequencies from 1 radian down to a ten-thousandth."""
    half = dim // 2
    frequencies = torch.exp(-log(10_000) * torch.arange(half, dtype=torch.float32) / half)
    return SinusoidalEmbedding(frequencies, cosine_first=True)


class ADM(DualNetwork):
    """v_{s,t}(x) for (batch, channels, height, width), of one `shape` (channels, height, width).

    width        the channels that `multipliers` multiply
    multipliers  the channels of each level in units of `width`, from the finest to the coarsest
    blocks       residual blocks a level on the way down; one more on the way up
    attention    the levels that attend, by how many times smaller the image is there (8: 4 x 4 of 32 x 32);
                 the middle always does
    heads        of every attention; weights fit any number of heads, and compute another function
    dropout      the dropped fraction in every residual block while training; equal batches drop equal units

    SCFlow's training script gives the network for CelebA-HQ latents 4 heads, and its test script 16. The last
    layer starts at zero. Raises ValueError when levels do not halve the image evenly, or groups or
    heads do not divide the widths.
    """

    def __init__(
        self, shape: tuple[int, ...], width: int, multipliers: Sequence[int], blocks: int,
        attention: Sequence[int], heads: int, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        levels = {2**k: multiplier * width for k, multiplier in enumerate(multipliers)}
        attends = [factor in attention for factor in levels]
        own = unet_levels.sizes("an adm", shape, [*levels.values()], blocks, attends, GROUPS, "Attn")
        for factor, channels in levels.items():
            if factor in (*attention, max(levels)) and channels % heads:
                raise ValueError(f"{channels} channels attend, and `heads` {heads} does not divide them")
        self.dropout = dropout
        self.model = UNet2DModel(
            **own, dropout=dropout, resnet_time_scale_shift="scale_shift", class_embed_type="identity",
            attn_norm_num_groups=GROUPS, attention_head_dim=1,  # as many heads as channels, until below
        )  # fmt: skip
        unet_levels.prepare(self.model, falling(self.model.config.block_out_channels[0]))
        embedding = self.model.time_embedding.linear_2.out_features
        self.gap_embed = gap_layers(self.model.config.block_out_channels[0], embedding)
        for layer in self.model.modules():
            if isinstance(layer, Attention):
                layer.heads, layer.scale = heads, (layer.inner_dim / heads) ** -0.5
                zeroed(layer.to_out[0])
            elif isinstance(layer, ResnetBlock2D):
                zeroed(layer.conv2)

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), images (batch, channels, height, width)."""
        gap = self.gap_embed(gap_features(self.model.time_proj, t - s))
        with unet_levels.differentiable_attention(), unet_levels.repeatable_dropout(self, x):
            return -self.model(x, 1 - s, class_labels=gap, return_dict=False)[0]


build = ADM
