"""Methods whose `weights` name a file in the place of training: is it there, whole, and of the method's network? Nothing is loaded to say so."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..data.formats.archives import ENVIRONMENT, folder_of
from ..settings.tiers import Tier
from ..storage import stand_in
from ..storage.checkpoint import ENTRY, CheckpointError, load_checkpoint

HUB = "https://huggingface.co"
# what is published, by the name that its converted file has in params.yaml: the file's command, and the folder of the repository
INSTAFLOW = {
    "2_rectified_flow": f"{HUB}/XCLiu/2_rectified_flow_from_sd_1_5 (the folder unet)",
    "instaflow": f"{HUB}/XCLiu/instaflow_0_9B_from_sd_1_5 (the folder unet)",
    "scflow_t2i": f"{HUB}/haopt/scflow_t2i (the folder unet_ema)",
}


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights that a method takes: its name in params.yaml, whose it is (experiment and method), the method's network, and the shape of one sample."""

    name: str
    experiment: str
    method: str
    network: Mapping[str, Any]
    shape: tuple[int, ...]

    @property
    def path(self) -> Path:
        """Where it belongs."""
        folder, _, file = self.name.partition("/")
        return folder_of(folder) / file

    @property
    def cure(self) -> str:
        """How the file comes about."""
        if self.network["kind"] == "published_unet":
            source = INSTAFLOW.get(self.path.stem, " or ".join(INSTAFLOW.values()))
            files = f"config.json and diffusion_pytorch_model.safetensors of {source}"
            return f"download {files} to a folder and turn them into it by `python -m fewstep convert-instaflow <folder> {self.path}`"
        if self.network["kind"] == "adm":
            return f"turn the checkpoint of Latent Flow Matching, model_480.pth, into it by `python -m fewstep convert-lfm <file> {self.path}`"
        return "put a trained flow map of this library there"


def weights_files(tier: Tier) -> list[WeightsFile]:
    """Every file of weights that a tier takes, once."""
    found: dict[str, WeightsFile] = {}
    for name, experiment in tier.experiments.items():
        for method, own in experiment.methods.items():
            if own.weights and not experiment.students_of:
                network = (own.network or experiment.training.network).model_dump()
                found.setdefault(
                    own.weights, WeightsFile(own.weights, name, method, network, tier.shape(experiment))
                )
    return list(found.values())


def described(path: Path) -> dict[str, Any]:
    """What the header of a checkpoint says of it; raises CheckpointError for a file that is damaged at its start, or foreign."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return json.loads(file.metadata()[ENTRY])["info"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(
            f"{path} is damaged, or was not written by fewstep ({type(error).__name__})"
        ) from None


def _problem(own: WeightsFile, checksums: bool) -> str | None:
    """What is wrong with a file that is there, or None."""
    if stand_in.is_marked(own.path.parent):
        return f"{own.path.parent} holds a rehearsal's weights ({stand_in.FILE} says so)"
    try:
        info = described(own.path)
        if checksums:
            load_checkpoint(own.path)
    except CheckpointError as error:
        return str(error)
    for what, theirs, ours in (
        ("network", info.get("network"), own.network),
        ("shape", info.get("shape"), list(own.shape)),
    ):
        if theirs != ours:
            return f"{own.path} holds weights of another {what}, {theirs}, and {own.experiment} has {ours}"
    return None


def missing(tier: Tier, checksums: bool) -> list[str]:
    """A sentence for each file of weights of `tier` that is not what its method takes; whether it is whole is only seen with `checksums`."""
    found = []
    for own in weights_files(tier):
        if not own.path.is_file():
            place = f", or set {ENVIRONMENT} to the folder that holds '{own.path.parent.name}'"
            found.append(
                f"the weights {own.path} that {own.experiment} takes for '{own.method}' are not there: {own.cure}{place}"
            )
        elif problem := _problem(own, checksums):
            found.append(f"{problem}: delete it, and {own.cure}")
    return found
