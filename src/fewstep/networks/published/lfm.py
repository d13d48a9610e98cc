"""The published ADM checkpoint of Latent Flow Matching, turned into a flow map of this library.

    python -m fewstep convert-lfm model_480.pth celebahq.safetensors

The source is the file that VinAIResearch/LFM and hao-pt/SCFlow link as celeba_f8_adm, a state dict with every
name behind "module.", or one of SCFlow's own students, of which the average, `ema_model`, is taken.
"""

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...storage.checkpoint import CheckpointError
from . import conversion
from .repository import amiss

# four heads: what the weights were trained with; see fewstep.networks.adm.ADM
PUBLISHED: dict[str, Any] = {
    "kind": "adm", "width": 256, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention": [8], "heads": 4,
    "head_channels": None, "dropout": 0.0,
}  # fmt: skip
LATENTS = (4, 32, 32)
DATA = "latents"

AVERAGED, TRAINED, WRAPPED = "ema_model", "model", "module."
OWN = "gap_embed."  # what a flow map has beside the published network


def read(source: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint under the network's own names; nothing in the file is run.

    Raises CheckpointError when the file is absent, damaged, no state dict, or carries pickled code.
    """
    if not source.is_file():
        cure = "download celeba_f8_adm, which the readmes of LFM and SCFlow link"
        raise CheckpointError(f"the checkpoint {source} {amiss(source)}: {cure}")
    cure = "convert the state dict that was saved without it (model_480.pth, not content.pth)"
    content = conversion.unpickled(source, "checkpoint", cure)
    if isinstance(content, Mapping):
        inner = (content.get(key) for key in (AVERAGED, TRAINED))
        content = next((found for found in inner if isinstance(found, Mapping)), content)
    if not isinstance(content, Mapping) or not content:
        found = f"holds a {type(content).__name__} and no state dict"
        raise CheckpointError(f"{source} {found}: give the file of the network's weights")
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            cure = "give the file of the network's weights alone"
            raise CheckpointError(f"{source} holds '{name}', which is no tensor: {cure}")
    prefix = WRAPPED if all(name.startswith(WRAPPED) for name in content) else ""
    return {name.removeprefix(prefix): value for name, value in content.items()}


def convert(
    source: Path, target: Path, network: Mapping[str, Any] = PUBLISHED, shape: Sequence[int] = LATENTS,
    data: str = DATA,
) -> dict[str, Any]:  # fmt: skip
    """Write the published weights in `source` to `target` as a trained flow map, and return its description.

    `network`, of kind `adm`, `shape` and `data` are as in `conversion.save`. What the flow map has beside the
    published network starts from seed 0 and adds nothing. Raises CheckpointError when the source is not that
    network, name by name and shape by shape.
    """
    source, target = Path(source), conversion.target_of(Path(target))
    found = read(source)
    flow_map = conversion.new_flow_map(network, shape)
    whole = flow_map.network.state_dict()
    own = {name: value for name, value in whole.items() if not name.startswith(OWN)}
    given = "the width, multipliers, blocks and attention that it was trained with"
    conversion.check(found, own, source, f"give {given} (heads and head_channels change no shape)")
    for name, value in found.items():
        if value.dtype != own[name].dtype:
            there, here = (str(tensor.dtype).removeprefix("torch.") for tensor in (value, own[name]))
            cure = "convert the weights as they were trained, not a rounded copy"
            raise CheckpointError(f"{source} has '{name}' in {there}, not {here}: {cure}")
    flow_map.network.load_state_dict(whole | found)
    return conversion.save(flow_map, source, target, network, shape, data, {})


def command(root: Path, arguments: argparse.Namespace) -> None:
    """python -m fewstep convert-lfm SOURCE TARGET: `convert`, and what was converted in one line."""
    network = PUBLISHED | {name: getattr(arguments, name) for name in PUBLISHED if hasattr(arguments, name)}
    described = convert(arguments.source, arguments.target, network)
    count, channels = network["heads"], network["head_channels"]
    heads = f"{count} heads" if channels is None else f"heads of {channels} channels"
    checked = f"every name and shape checked, with {heads} (source sha256 {described['source']['sha256']})"
    print(f"{arguments.target} is the published network, {checked}")
