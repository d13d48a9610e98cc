"""The published text-to-image networks of InstaFlow and SCFlow, turned into flow maps of this library.

    python -m fewstep convert-instaflow instaflow/unet instaflow.safetensors

The source is a folder in diffusers' format, config.json and the weights beside it: the folder unet of
XCLiu/instaflow_0_9B_from_sd_1_5, the teacher, or unet_ema, the averaged student, of haopt/scflow_t2i.
"""

import argparse
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from diffusers import UNet2DConditionModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from ...storage.checkpoint import CheckpointError
from ...storage.files import mapping
from . import conversion
from .repository import HUB

# Stable Diffusion 1.5's; gradient checkpointing, with which SCFlow trained it, changes no bit
PUBLISHED: dict[str, Any] = {
    "kind": "published_unet", "channels": [320, 640, 1280, 1280], "layers": 2,
    "attention": [True, True, True, False], "heads": 8, "groups": 32, "width": 768, "checkpointing": True,
}  # fmt: skip
LATENTS = (4, 64, 64)
CONFIG, CLASS = "config.json", "UNet2DConditionModel"
SAFETENSORS, PICKLED = "diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin"
CURE = "give the unet folder of InstaFlow or of SCFlow's student"


def place(source: Path) -> Path:
    """The folder with a config.json, `source` or unet below it; raises CheckpointError without one."""
    for folder in (source, source / "unet"):
        if (folder / CONFIG).exists():
            return folder
    places = f"{HUB}/XCLiu/instaflow_0_9B_from_sd_1_5 (the folder unet), or of {HUB}/haopt/scflow_t2i"
    cure = f"download {CONFIG} and {SAFETENSORS} of {places}, to one folder and give that"
    raise CheckpointError(f"{source} holds no {CONFIG}: {cure}")


def read(folder: Path) -> tuple[Path, dict[str, Tensor]]:
    """The file of weights in `folder`, and its tensors by name; CheckpointError for none, or damaged ones."""
    path = next((folder / name for name in (SAFETENSORS, PICKLED) if (folder / name).is_file()), None)
    if path is None:
        cure = f"download the first beside {CONFIG}"
        raise CheckpointError(f"{folder} holds neither {SAFETENSORS} nor {PICKLED}: {cure}")
    try:
        pickled = path.name == PICKLED
        in_place = f"download {SAFETENSORS} in its place"
        content = conversion.unpickled(path, "file", in_place) if pickled else load_file(path)
    except (SafetensorError, OSError) as error:
        found = f"is no whole file of safetensors ({type(error).__name__})"
        raise CheckpointError(f"{path} {found}: download it again") from None
    return path, conversion.state_dict(content, path, CURE)


def check_config(path: Path, model: UNet2DConditionModel) -> None:
    """Raise CheckpointError, naming it, for a setting at `path`, or a default left out, that differs."""
    found = mapping(path, "download it again", CheckpointError)
    if (name := found.get("_class_name")) != CLASS:
        raise CheckpointError(f"{path} describes a {name or 'thing without a class'} and no {CLASS}: {CURE}")
    parameters = inspect.signature(UNet2DConditionModel.__init__).parameters
    known = {name: value.default for name, value in parameters.items() if name != "self"}
    settings = {name: value for name, value in found.items() if not name.startswith("_")}
    for name, value in (known | settings).items():
        if name == "sample_size":  # decides no number: the size of latents is asked for
            continue
        # off is what a flow map adds to the embedding of time, and what diffusers does not know
        expected = None if name == "class_embed_type" or name not in known else model.config[name]
        said, own = json.dumps(value), json.dumps(expected)
        if json.loads(said) != json.loads(own) and not (expected is None and value is False):
            raise CheckpointError(f"{path} says `{name}: {said}`, and the network has {own}: {CURE}")


def convert(
    source: Path, target: Path, network: Mapping[str, Any] = PUBLISHED, shape: Sequence[int] = LATENTS,
    data: str = "latents",
) -> dict[str, Any]:  # fmt: skip
    """As `lfm.convert`, for a `network` of kind `published_unet`, which is checked setting by setting too."""
    folder, target = place(Path(source)), conversion.target_of(Path(target))
    flow_map = conversion.new_flow_map(network, shape)
    model: UNet2DConditionModel = flow_map.network.model
    check_config(folder / CONFIG, model)
    path, found = read(folder)
    shapes = {name: value.shape for name, value in model.state_dict().items()}
    types = conversion.check(found, shapes, path, CURE)
    model.load_state_dict({name: value.float() for name, value in found.items()})
    return conversion.save(flow_map, path, target, network, shape, data, {"types": types})


def command(root: Path, arguments: argparse.Namespace) -> None:
    """python -m fewstep convert-instaflow SOURCE TARGET: `convert`, and what was converted in one line."""
    source = convert(arguments.source, arguments.target)["source"]
    origin = f"source sha256 {source['sha256']}, in {' and '.join(source['types'])}"
    print(f"{arguments.target} is the published network, every setting, name and shape checked ({origin})")
