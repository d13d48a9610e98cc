"""A two-time UNet for v_{s,t}(x) on images: diffusers' UNet2DModel, its times embedded as s and t - s."""

from collections.abc import Sequence

from diffusers import UNet2DModel
from torch import Tensor, nn

from . import unet_levels
from .embeddings import rising, zeroed
from .forward_mode.dual import DualNetwork


def _contiguous(_: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # torch.func's group norm refuses what attention leaves behind
    return (inputs[0].contiguous(),)


def prepare(model: nn.Module, time_scale: float) -> nn.Module:
    """A UNet of diffusers as a flow map needs it: times embedded up to `time_scale` radians, output zero."""
    model.time_proj = rising(model.config.block_out_channels[0], time_scale)
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(_contiguous)
    zeroed(model.conv_out)
    return model


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
    do not halve the image evenly, or widths, groups and levels do not fit.
    """

    def __init__(
        self, shape: tuple[int, ...], channels: Sequence[int], layers: int, attention: Sequence[bool],
        groups: int, time_scale: float, dropout: float = 0.0,
    ):  # fmt: skip
        super().__init__()
        unet_levels.check("unet", shape, channels, attention, {"groups": groups})
        narrow = [width for width, attends in zip(channels, attention) if attends]
        heads = min(64, *narrow) if narrow else None
        attending = [width for width, attends in zip(channels, [*attention[:-1], bool(heads)]) if attends]
        if odd := [width for width in attending if width % heads]:
            wanted = f"which heads of {heads} channels do not divide: change `channels` or `attention`"
            raise ValueError(f"a level of a unet that attends is {odd[0]} wide, {wanted}")
        self.dropout = dropout
        down = ["AttnDownBlock2D" if attends else "DownBlock2D" for attends in attention]
        up = ["AttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)]
        self.model = UNet2DModel(
            sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], layers_per_block=layers,
            block_out_channels=tuple(channels), down_block_types=tuple(down), up_block_types=tuple(up),
            norm_num_groups=groups, class_embed_type="timestep", freq_shift=0, add_attention=any(attention),
            attention_head_dim=heads, dropout=dropout, resnet_time_scale_shift="scale_shift",
        )  # fmt: skip
        prepare(self.model, time_scale)

    def forward(self, s: Tensor, t: Tensor, x: Tensor) -> Tensor:
        """v_{s,t}(x): times (batch,), images (batch, channels, height, width)."""
        with unet_levels.differentiable_attention(), unet_levels.repeatable_dropout(self, x):
            return self.model(x, s, class_labels=t - s, return_dict=False)[0]


build = UNet
