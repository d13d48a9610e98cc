"""Files of weights that methods use in the place of training: are they there, and of the right network?"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from ..data.formats.archives import ENVIRONMENT, folder_of
from ..settings.tiers import Tier
from ..storage import stand_in
from ..storage.checkpoint import ENTRY, CheckpointError, load_checkpoint

HUB = "https://huggingface.co"
# the published UNets by the name of their converted file in params.yaml: repository and folder
INSTAFLOW = {
    "2_rectified_flow": f"{HUB}/XCLiu/2_rectified_flow_from_sd_1_5 (the folder unet)",
    "instaflow": f"{HUB}/XCLiu/instaflow_0_9B_from_sd_1_5 (the folder unet)",
    "scflow_t2i": f"{HUB}/haopt/scflow_t2i (the folder unet_ema)",
}


@dataclass(frozen=True)
class WeightsFile:
    """A file of weights: its name in params.yaml, who uses it, its network and the shape of a sample."""

    name: str
    experiment: str
    method: str
    network: Mapping[str, Any]
    shape: tuple[int, ...]

    @property
    def path(self) -> Path:
        folder, _, file = self.name.partition("/")
        return folder_of(folder) / file

    @property
    def cure(self) -> str:
        """How to obtain the file."""
        convert, kind = "into it by `python -m fewstep convert-", self.network["kind"]
        if kind == "published_unet":
            source = INSTAFLOW.get(self.path.stem, " or ".join(INSTAFLOW.values()))
            files = f"config.json and diffusion_pytorch_model.safetensors of {source}"
            return f"download {files} to a folder and turn them {convert}instaflow <folder> {self.path}`"
        if kind == "adm":
            checkpoint = "the checkpoint of Latent Flow Matching, model_480.pth,"
            return f"turn {checkpoint} {convert}lfm <file> {self.path}`"
        return "put a trained flow map of this library there"


def weights_files(tier: Tier) -> list[WeightsFile]:
    """Every file of weights that a tier uses, once."""
    files: dict[str, WeightsFile] = {}
    for name, experiment in tier.experiments.items():
        for method, settings in experiment.methods.items():
            if settings.weights and not experiment.students_of:
                network = (settings.network or experiment.training.network).model_dump()
                file = WeightsFile(settings.weights, name, method, network, tier.shape(experiment))
                files.setdefault(settings.weights, file)
    return list(files.values())


def header(path: Path) -> dict[str, Any]:
    """The info in a checkpoint's header; raises CheckpointError for a damaged start or a foreign file."""
    try:
        with safe_open(str(path), framework="pt") as file:
            return json.loads(file.metadata()[ENTRY])["info"]
    except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
        problem = f"{path} is damaged, or was not written by fewstep ({type(error).__name__})"
        raise CheckpointError(problem) from None


def misfit(path: Path, info: Mapping, network: Mapping, shape: Sequence[int], experiment: str) -> str | None:
    """How weights whose header says `info` differ from the network and shape of `experiment`, or None."""
    for what, expected in (("network", network), ("shape", list(shape))):
        if info.get(what) != expected:
            found = f"{path} holds weights of another {what}, {info.get(what)}"
            return f"{found}, and {experiment} has {expected}"
    return None


def _problem(file: WeightsFile, checksums: bool) -> str | None:
    path = file.path
    if stand_in.is_marked(path.parent):
        return f"{path.parent} holds a rehearsal's weights ({stand_in.FILE} says so)"
    try:
        info = header(path)
        if checksums:
            load_checkpoint(path)
    except CheckpointError as error:
        return str(error)
    return misfit(path, info, file.network, file.shape, file.experiment)


def missing(tier: Tier, checksums: bool) -> list[str]:
    """A sentence for each file of weights of `tier` that is amiss; damage is only seen with `checksums`."""
    sentences = []
    for file in weights_files(tier):
        path = file.path
        if not path.is_file():
            place = f"or set {ENVIRONMENT} to the folder that holds '{path.parent.name}'"
            what = f"the weights {path} that {file.experiment} takes for '{file.method}'"
            sentences.append(f"{what} are not there: {file.cure}, {place}")
        elif problem := _problem(file, checksums):
            sentences.append(f"{problem}: delete it, and {file.cure}")
    return sentences
