"""A two-time UNet for v_{s,t}(x) on images: diffusers' UNet2DModel, its times embedded as s and t - s."""

from collections.abc import Sequence

from diffusers import UNet2DModel
from torch import Tensor

from . import unet_levels
from .forward_mode.dual import DualNetwork


class UNet(DualNetwork):
    """v_{s,t}(x) for images (batch, channels, height, width), of one `shape` (channels, height, width).

    channels    the width of each level, from the finest to the coarsest; every level halves the image
    layers      residual blocks a level
    attention   whether each level attends, in heads as wide as the narrowest that does, 64 channels at most;
                the middle attends if any level does
    groups      the groups of every normalisation
    time_scale  the highest frequency of the embedding of times, in radians
    dropout     the dropped fraction in every residual block while training; equal batches drop equal units

    The last layer starts at zero, so an untrained flow map is the identity. Raises ValueError when the levels
    do not halve the image evenly, or groups do not divide the widths.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool],
        groups: int, time_scale: float, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        sizes = unet_levels.sizes("a unet", shape, channels, layers, attention, groups, "Attn")
        narrow = [width for width, attends in zip(channels, attention) if attends]
        heads = min(64, *narrow) if narrow else None
        self.dropout = dropout
        self.model = UNet2DModel(
            **sizes, dropout=dropout, resnet_time_scale_shift="scale_shift", class_embed_type="timestep",
            add_attention=any(attention), attention_head_dim=heads,
        )  # fmt: skip
        unet_levels.prepare(self.model, unet_levels.rising(channels[0], time_scale))

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), images (batch, channels, height, width)."""
        with unet_levels.differentiable_attention(), unet_levels.repeatable_dropout(self, x):
            return self.model(x, s, class_labels=t - s, return_dict=False)[0]


build = UNet
