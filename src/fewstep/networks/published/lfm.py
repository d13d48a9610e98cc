"""The published ADM checkpoint of Latent Flow Matching, turned into a flow map of this library.

    python -m fewstep convert-lfm model_480.pth celebahq.safetensors

The source is the file that VinAIResearch/LFM and hao-pt/SCFlow link as celeba_f8_adm, a state dict with every
name behind "module.", or one of SCFlow's own students, of which the average, `ema_model`, is taken.
"""

import argparse
from collections.abc import Iterator, Mapping, Sequence
from itertools import zip_longest
from operator import attrgetter
from pathlib import Path
from typing import Any

from diffusers import UNet2DModel
from diffusers.models.attention_processor import Attention
from diffusers.models.downsampling import Downsample2D
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from ...storage.checkpoint import CheckpointError
from ...storage.files import amiss
from . import conversion

PUBLISHED: dict[str, Any] = {  # four heads: what the weights were trained with; see fewstep.networks.adm.ADM
    "kind": "adm", "width": 256, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention": [8], "heads": 4,
    "dropout": 0.0,
}  # fmt: skip
LATENTS = (4, 32, 32)
AVERAGED, TRAINED, WRAPPED = "ema_model", "model", "module."
# the layers in diffusers' blocks by their published names; queries, keys and values are one layer there
INNER = {
    ResnetBlock2D: {
        "in_layers.0": ["norm1"], "in_layers.2": ["conv1"], "emb_layers.1": ["time_emb_proj"],
        "out_layers.0": ["norm2"], "out_layers.3": ["conv2"], "skip_connection": ["conv_shortcut"],
    },
    Attention: {"norm": ["group_norm"], "qkv": ["to_q", "to_k", "to_v"], "proj_out": ["to_out.0"]},
    Downsample2D: {"op": ["conv"]},
    Upsample2D: {"conv": ["conv"]},
}  # fmt: skip


def _stages(model: UNet2DModel) -> Iterator[tuple[str, list[nn.Module]]]:
    """The published name of every stage of `model`, and its blocks one after the other."""

    def rows(level: nn.Module) -> list[list[nn.Module]]:
        pairs = zip_longest(level.resnets, getattr(level, "attentions", ()))
        return [[block for block in pair if block] for pair in pairs]

    down, up = [[model.conv_in]], []
    for level in model.down_blocks:
        down += rows(level) + [[block] for block in level.downsamplers or ()]
    for level in model.up_blocks:
        up += rows(level)
        up[-1] += level.upsamplers or ()
    first, last = model.mid_block.resnets
    yield "time_embed", [model.time_embedding.linear_1, nn.SiLU(), model.time_embedding.linear_2]
    yield from ((f"input_blocks.{k}", blocks) for k, blocks in enumerate(down))
    yield "middle_block", [first, *model.mid_block.attentions, last]
    yield from ((f"output_blocks.{k}", blocks) for k, blocks in enumerate(up))
    yield "out", [model.conv_norm_out, nn.SiLU(), model.conv_out]


def tensors(model: UNet2DModel) -> Iterator[tuple[str, tuple[int, ...], list[Tensor]]]:
    """The name and shape of every tensor of a published checkpoint, and what it is in `model`."""
    for stage, blocks in _stages(model):
        for k, block in enumerate(blocks):
            for name, paths in INNER.get(type(block), {"": [""]}).items():
                layers = [attrgetter(path)(block) if path else block for path in paths]
                for kind, first in layers[0].named_parameters() if layers[0] else ():
                    own = [getattr(layer, kind) for layer in layers]
                    # attention's layers are published as convolutions
                    one = (1,) if isinstance(block, Attention) and first.ndim == 2 else ()
                    shape = (len(own) * len(first), *first.shape[1:], *one)
                    yield ".".join(filter(None, (stage, str(k), name, kind))), shape, own


def read(source: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint under the network's own names; CheckpointError for none."""
    if not source.is_file():
        cure = "download celeba_f8_adm, which the readmes of LFM and SCFlow link"
        raise CheckpointError(f"the checkpoint {source} {amiss(source)}: {cure}")
    cure = "convert the state dict that was saved without it (model_480.pth, not content.pth)"
    content = conversion.unpickled(source, "checkpoint", cure)
    if isinstance(content, Mapping):
        inner = (content.get(key) for key in (AVERAGED, TRAINED))
        content = next((found for found in inner if isinstance(found, Mapping)), content)
    content = conversion.state_dict(content, source, "give the file of the network's weights alone")
    prefix = WRAPPED if all(name.startswith(WRAPPED) for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def convert(
    source: Path, target: Path, network: Mapping[str, Any] = PUBLISHED, shape: Sequence[int] = LATENTS,
    data: str = "latents",
) -> dict[str, Any]:  # fmt: skip
    """Write the published weights in `source` to `target` as a trained flow map, and return its description.

    `network`, of kind `adm`, `shape` and `data` are as in `conversion.save`. What the flow map has beside the
    published network starts from seed 0 and adds nothing. Raises CheckpointError when the source is not that
    network, name by name and shape by shape.
    """
    source, target = Path(source), conversion.target_of(Path(target))
    found = read(source)
    flow_map = conversion.new_flow_map(network, shape)
    own = [*tensors(flow_map.network.model)]
    cure = "give the width, multipliers, blocks and attention that it was trained with"
    shapes = {name: size for name, size, _ in own}
    types = conversion.check(found, shapes, source, f"{cure} (heads change no shape)")
    for name, _, parameters in own:
        # the queries, keys and values of one head lie together
        heads = network["heads"] if len(parameters) > 1 else 1
        parts = found[name].unflatten(0, (heads, len(parameters), -1)).unbind(1)
        for parameter, part in zip(parameters, parts):
            parameter.data.copy_(part.reshape_as(parameter))
    return conversion.save(flow_map, source, target, network, shape, data, {"types": types})


def command(root: Path, arguments: argparse.Namespace) -> None:
    """python -m fewstep convert-lfm SOURCE TARGET: `convert`, and what was converted in one line."""
    network = PUBLISHED | {"heads": arguments.heads}
    origin = f"source sha256 {convert(arguments.source, arguments.target, network)['source']['sha256']}"
    checked = f"every name and shape checked, with {arguments.heads} heads ({origin})"
    print(f"{arguments.target} is the published network, {checked}")
