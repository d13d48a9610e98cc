"""The published ADM checkpoint of Latent Flow Matching, turned into a flow map of this library.

    python -m fewstep convert-lfm model_480.pth celebahq.safetensors

The source is the file that VinAIResearch/LFM and hao-pt/SCFlow link as celeba_f8_adm, a state dict saved by torch with
every name behind "module."; SCFlow's own students, which keep their average as `ema_model` beside `model`, are read too,
and it is the average that is taken, as their test script does. Nothing in the file is run: torch reads it with
weights_only, and what asks for more is refused.
"""

from __future__ import annotations

import argparse
import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ...storage.checkpoint import CheckpointError
from .. import build
from .conversion import check_finite, check_names, save

# Four heads: what the weights were trained with, and so what the evaluation uses; see fewstep.networks.adm.build
PUBLISHED: dict[str, Any] = {
    "kind": "adm", "width": 256, "multipliers": [1, 2, 2, 2], "blocks": 2, "attention": [8], "heads": 4, "head_channels": None, "dropout": 0.0,
}  # fmt: skip
LATENTS = (4, 32, 32)
DATA = "latents"

AVERAGED, TRAINED, WRAPPED = "ema_model", "model", "module."
OWN = "gap_embed."  # what a flow map has beside the published network


def read(source: Path) -> dict[str, Tensor]:
    """The tensors of a published checkpoint under the network's own names; nothing that the file contains is run.

    Raises CheckpointError when the file is absent, damaged, no state dict, or carries pickled code.
    """
    if not source.is_file():
        raise CheckpointError(
            f"the checkpoint {source} is not there: download celeba_f8_adm, which the readmes of LFM and SCFlow link"
        )
    try:
        with warnings.catch_warnings():
            # torch remarks on foreign pickles before it refuses them
            warnings.simplefilter("ignore")
            content = torch.load(source, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged pickle can fail in any way
        if code := re.search(r"GLOBAL ([\w.]+)", str(error)):
            raise CheckpointError(
                f"{source} carries pickled code ({code[1]}), which is never run here: convert the state dict that was saved without it "
                "(model_480.pth, not content.pth)"
            ) from None
        raise CheckpointError(
            f"{source} is no whole checkpoint of torch ({type(error).__name__}): download it again"
        ) from None
    for key in (AVERAGED, TRAINED):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
            break
    if not isinstance(content, Mapping) or not content:
        raise CheckpointError(
            f"{source} holds a {type(content).__name__} and no state dict: give the file of the network's weights"
        )
    for name, value in content.items():
        if not isinstance(name, str) or not isinstance(value, Tensor) or value.layout != torch.strided:
            raise CheckpointError(
                f"{source} holds '{name}', which is no tensor: give the file of the network's weights alone"
            )
    if all(name.startswith(WRAPPED) for name in content):
        content = {name.removeprefix(WRAPPED): value for name, value in content.items()}
    return dict(content)


def check(found: Mapping[str, Tensor], network: nn.Module, source: Path) -> None:
    """Raise CheckpointError naming the first tensor of `found` whose name, shape or type is not the network's, or that is not finite."""
    own = {name: value for name, value in network.state_dict().items() if not name.startswith(OWN)}
    cure = "give the width, multipliers, blocks and attention that it was trained with (heads and head_channels change no shape)"
    check_names(found, own, source, cure)
    for name, value in found.items():
        if value.dtype != own[name].dtype:
            there, here = (str(tensor.dtype).removeprefix("torch.") for tensor in (value, own[name]))
            raise CheckpointError(
                f"{source} has '{name}' in {there}, not {here}: convert the weights as they were trained, not a rounded copy"
            )
    check_finite(found, source)


def convert(
    source: Path,
    target: Path,
    network: Mapping[str, Any] = PUBLISHED,
    shape: Sequence[int] = LATENTS,
    data: str = DATA,
) -> dict[str, Any]:
    """Write the published weights in `source` to `target` as a trained flow map, and return its description.

    `network` are the settings of kind `adm` that it was trained with, `shape` that of one sample and `data` the name of
    the data set. What the flow map has beside the published network starts from seed 0 and adds nothing; see
    fewstep.networks.adm. The fingerprint is of the source's bytes and of the settings, since heads change the function.

    Raises CheckpointError when the source is not that network, name by name and shape by shape.
    """
    source = Path(source)
    found = read(source)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        flow_map = build(network, tuple(shape))
    check(found, flow_map.network, source)
    flow_map.network.load_state_dict(flow_map.network.state_dict() | found)
    return save(flow_map, source, Path(target), network, shape, data, {})


def command(root: Path, arguments: argparse.Namespace) -> None:
    """python -m fewstep convert-lfm SOURCE TARGET: `convert`, and what was converted in one line."""
    network = PUBLISHED | {name: getattr(arguments, name) for name in PUBLISHED if hasattr(arguments, name)}
    described = convert(arguments.source, arguments.target, network)
    heads = (
        f"{network['heads']} heads"
        if network["head_channels"] is None
        else f"heads of {network['head_channels']} channels"
    )
    print(
        f"{arguments.target} is the published network, every name and shape checked, with {heads} (source sha256 {described['source']['sha256']})"
    )
