"""What UNets share: levels that halve images, attention that is differentiated, dropout that is repeated."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..flows.conditioning import Conditions
from .forward_mode.dual import value_of


def check(
    kind: str, shape: Sequence[int], channels: Sequence[int], attention: Sequence[bool],
    divisors: dict[str, int],
) -> None:  # fmt: skip
    """Raise ValueError unless a UNet of `kind` fits images or latents of `shape` (channels, height, width).

    Each of the `divisors`, by what it counts, must divide every width of `channels`.
    """
    if len(shape) != 3:
        wanted = "images or latents of shape (channels, height, width)"
        raise ValueError(f"a {kind} takes {wanted}, not {tuple(shape)}")
    if len(attention) != len(channels):
        wanted = f"one entry of `attention` for each of its {len(channels)} levels"
        raise ValueError(f"a {kind} needs {wanted}, not {len(attention)}")
    check_halving(f"{len(channels)} levels of a {kind}", shape, len(channels))
    for what, number in divisors.items():
        if odd := [width for width in channels if width % number]:
            wanted = f"every width of {list(channels)} must be divisible by the {number} {what}"
            raise ValueError(f"a level of a {kind} is {odd[0]} wide: {wanted}")


def check_halving(what: str, shape: Sequence[int], levels: int) -> None:
    """Raise ValueError unless `levels` - 1 levels halve images of `shape` (channels, height, width)."""
    factor = 2 ** (levels - 1)
    if shape[1] % factor or shape[2] % factor:
        size = f"{shape[1]} x {shape[2]} is not divisible by {factor}"
        raise ValueError(f"{what} halve the image {levels - 1} times: {size}")


def is_differentiated() -> bool:
    """Whether torch.func takes a derivative here and now."""
    return torch._C._are_functorch_transforms_active()


def differentiable_attention() -> AbstractContextManager:
    """Attention written out under torch.func: the fused kernels have no forward-mode derivative."""
    return sdpa_kernel(SDPBackend.MATH) if is_differentiated() else nullcontext()


def repeatable_dropout(network: nn.Module, x: Tensor) -> AbstractContextManager:
    """A random state that follows from the batch `x`, if `network` drops: torch's own is in no checkpoint."""
    return _seeded_by(x) if network.dropout and network.training else nullcontext()


@contextmanager
def _seeded_by(x: Tensor) -> Iterator[None]:
    content = value_of(x).detach().float().contiguous().view(torch.int32)
    with torch.random.fork_rng(devices=[x.device] if x.is_cuda else []):
        torch.manual_seed(int(content.sum(dtype=torch.int64)))
        yield


def text_conditional(
    kind: str, shape: Sequence[int], channels: Sequence[int], layers: int, attention: Sequence[bool],
    heads: int, groups: int, width: int, class_embed_type: str,
) -> UNet2DConditionModel:  # fmt: skip
    """diffusers' UNet with cross-attention, on levels by `attention`, to texts of `width` numbers a token."""
    check(kind, shape, channels, attention, {"groups": groups, "heads": heads})
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in attention]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(attention)]
    return UNet2DConditionModel(
        sample_size=shape[1], in_channels=shape[0], out_channels=shape[0], block_out_channels=tuple(channels),
        layers_per_block=layers, down_block_types=tuple(down), up_block_types=tuple(up),
        norm_num_groups=groups, cross_attention_dim=width, class_embed_type=class_embed_type, freq_shift=0,
        attention_head_dim=heads,  # by the name of a width, always the number of heads
    )  # fmt: skip


class Encoder(nn.Module):
    """Copies of a text-conditional UNet's layers up to its middle: latents at times (batch,) to features.

    Features are (batch, `width`, height and width of the coarsest level). A subclass has `embedded(s, x)`,
    the embedding of times, and `attended(conditions, x)`, the texts as diffusers' blocks take them.
    """

    LAYERS: tuple[str, ...] = ("time_proj", "time_embedding", "conv_in", "down_blocks", "mid_block")

    def __init__(self, model: nn.Module):
        super().__init__()
        for name in self.LAYERS:
            setattr(self, name, copy.deepcopy(getattr(model, name)).requires_grad_(True))
        self.width = model.config.block_out_channels[-1]

    def forward(self, s: Tensor, x: Tensor, conditions: Conditions) -> Tensor:
        embedded, attended = self.embedded(s, x), self.attended(conditions, x)
        h = self.conv_in(x)
        with differentiable_attention():
            for block in self.down_blocks:
                attends = getattr(block, "has_cross_attention", False)
                h, _ = block(h, embedded, **(attended if attends else {}))
            return self.mid_block(h, embedded, **attended)
