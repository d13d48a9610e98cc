"""What UNets share: times in sines and cosines, even levels, differentiable attention, repeated dropout."""

import copy
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..flows.conditioning import Conditions
from . import zeroed
from .forward_mode.dual import value_of


class SinusoidalEmbedding(nn.Module):
    """sin and then cos of w time for frequencies w in radians: (batch,) -> (batch, 2 frequencies)."""

    def __init__(self, frequencies: Tensor, cosine_first: bool = False):
        super().__init__()
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.cosine_first = cosine_first

    def forward(self, time: Tensor) -> Tensor:
        angle = time[:, None] * self.frequencies
        parts = [angle.cos(), angle.sin()] if self.cosine_first else [angle.sin(), angle.cos()]
        return torch.cat(parts, 1)


def rising(dim: int, highest: float) -> SinusoidalEmbedding:
    """`dim` numbers of frequencies spaced evenly in the logarithm from 1 to `highest` radians.

    The high end bounds the derivative in time, which the objectives of flow maps differentiate through.
    """
    return SinusoidalEmbedding(torch.logspace(0, 1, dim // 2, base=highest))


def gap_layers(dim: int, embedding: int) -> nn.Sequential:
    """What the gap t - s adds to the embedding of s, for a network that was published with one time.

    Without bias and on `gap_features`, it vanishes at t = s; its last layer starts at zero.
    """
    first, last = nn.Linear(dim, embedding, bias=False), nn.Linear(embedding, embedding, bias=False)
    return nn.Sequential(first, nn.SiLU(), zeroed(last))


def gap_features(embed: nn.Module, gap: Tensor) -> Tensor:
    """The embedding of the gap relative to that of no gap."""
    return embed(gap) - embed(0 * gap)


def sizes(
    kind: str, shape: Sequence[int], channels: Sequence[int], layers: int, attention: Sequence[bool],
    groups: int, attending: str,
) -> dict[str, Any]:  # fmt: skip
    """The settings that diffusers' UNets share; the kind of a level that attends begins with `attending`.

    Raises ValueError unless the levels of `kind`, "a unet" say, halve images of `shape` evenly.
    """
    levels = len(channels)
    if len(shape) != 3:
        wanted = "images or latents of shape (channels, height, width)"
        raise ValueError(f"{kind} takes {wanted}, not {tuple(shape)}")
    factor = 2 ** (levels - 1)
    if shape[1] % factor or shape[2] % factor:
        halve = f"{levels} levels of {kind} halve the image {levels - 1} times"
        raise ValueError(f"{halve}: {shape[1]} x {shape[2]} is not divisible by {factor}")
    kinds = [attending if attends else "" for attends in attention]
    return {
        "sample_size": shape[1], "in_channels": shape[0], "out_channels": shape[0],
        "block_out_channels": tuple(channels), "layers_per_block": layers, "norm_num_groups": groups,
        "down_block_types": tuple(f"{kind}DownBlock2D" for kind in kinds),
        "up_block_types": tuple(f"{kind}UpBlock2D" for kind in reversed(kinds)), "freq_shift": 0,
    }  # fmt: skip


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


def _contiguous(always: bool, _: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...] | None:
    return (inputs[0].contiguous(),) if always or is_differentiated() else None


def make_contiguous(model: nn.Module, always: bool) -> None:
    """Make what group norms take contiguous, which torch.func's asks for: `always`, or there alone."""
    for module in model.modules():
        if isinstance(module, nn.GroupNorm):
            module.register_forward_pre_hook(partial(_contiguous, always))


def prepare(model: nn.Module, embedding: nn.Module) -> None:
    """Make a UNet of diffusers fit for a flow map: its output zero, its times embedded as one says."""
    model.time_proj = embedding
    make_contiguous(model, always=True)
    zeroed(model.conv_out)


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
