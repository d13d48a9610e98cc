"""From a training's weights to a pipeline: what a student needs besides them to draw without the project's files."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data import DESCRIBED
from ..data.latents import AUTOENCODER, LatentSource
from ..flows.sampler_names import GUIDED
from ..networks import clip_files
from ..networks.autoencoder import read_described
from ..settings import tiers
from ..settings.base import SettingsError
from ..storage.checkpoint import CheckpointError, load_checkpoint
from ..storage.workspace import Workspace
from ..training import clip as contrastive
from ..training.experiment import Experiment
from ..training.weights import weights_file
from . import card, folder
from .network import FlowMapModel
from .pipeline import FewStepPipeline
from .scheduler import KINDS, FlowMapScheduler, kind_of
from .tokenizer import TextTokenizer


@dataclass(frozen=True)
class Choice:
    """One trained student: a method of an experiment, from one of its training seeds; and the CLIP that has read the captions, if it is told texts."""

    experiment: Experiment
    method: str
    seed: int
    reader: contrastive.ClipPreparation | None = None

    @property
    def weights(self) -> Path:
        """Its file of weights; raises FileNotFoundError, naming the cure, before it is trained."""
        return self.experiment.workspace.read(weights_file(self.experiment, self.method, self.seed))

    @property
    def name(self) -> str:
        """What it is called, and the folder that it is saved to if nobody says where."""
        return f"{self.experiment.name}-{self.method}-seed-{self.seed}"


def chosen(root: Path, tier: str, experiment: str, method: str, seed: int) -> Choice:
    """The student of `experiment` at `tier`.

    Raises SettingsError for a tier, experiment, method or seed that there is not, for experiments whose points are no
    images, and for a sampler that is no steps of a pipeline; FileNotFoundError before it is trained.
    """
    workspace = Workspace(root, tier)
    settings = tiers.load(workspace.params, tier)
    own = settings.experiment(experiment)
    own.method(method)
    if len(settings.shape(own)) != 3:
        pictures = [name for name, other in settings.experiments.items() if len(settings.shape(other)) == 3]
        raise SettingsError(
            f"'{experiment}' models points in the plane, which make no pictures; a pipeline draws images: {', '.join(pictures)}"
        )
    if kind_of(own.sampling.samplers[method])[0] not in KINDS:
        raise SettingsError(
            f"'{method}' is sampled by '{own.sampling.samplers[method]}', and a pipeline knows {', '.join(KINDS)} and {GUIDED}<scale>"
        )
    if seed not in own.training.seeds:
        raise SettingsError(
            f"'{experiment}' is trained from the seeds {', '.join(map(str, own.training.seeds))} at tier '{tier}', and not from {seed}"
        )
    latents = settings.latents.get(own.training.latents)
    reader = (
        contrastive.ClipPreparation(latents.clip, workspace, settings.clip[latents.clip], "cpu")
        if latents and latents.clip
        else None
    )
    found = Choice(Experiment(experiment, workspace, own, settings.compute, latents), method, seed, reader)
    found.weights
    return found


def _decoder(source: LatentSource) -> dict[str, Any]:
    """What a pipeline in latents has besides: the autoencoder, its scale in its own config."""
    decoder = source.decoder()
    # under its published name, and not the folder of this machine that it was found in
    described = read_described(source.folder / AUTOENCODER)
    decoder.model.register_to_config(
        scaling_factor=source.factor, _name_or_path=described.get("repository", "")
    )
    return {"vae": decoder.model, "bypass": decoder.bypass}


def _said(choice: Choice) -> dict[str, Any]:
    """What a stage has said of the CLIP that read a student's captions; raises CheckpointError where its folder holds another by now."""
    described = clip_files.read_described(choice.reader.folder)
    read_by = (
        json.loads((choice.experiment.data_folder / DESCRIBED).read_text())
        .get("captions", {})
        .get("clip", "none")
    )
    if described["checksum"] != read_by:
        raise CheckpointError(
            f"the captions of {choice.experiment.data_folder} were read by another CLIP (sha256 {read_by[:8]}) than lies in {choice.reader.folder} "
            f"({described['checksum'][:8]}): run `dvc repro` again"
        )
    return described


def _texts(choice: Choice, described: dict[str, Any]) -> dict[str, Any]:
    """What a pipeline that is told texts has besides: the tower of the CLIP so described that read the captions, and its tokenizer."""
    network = contrastive.load(choice.reader)
    network.text_tower.config._name_or_path = described.get("repository", "")
    return {"text_encoder": network.text_tower, "tokenizer": TextTokenizer(network.tokenizer)}


def pipeline(choice: Choice) -> FewStepPipeline:
    """The student as a pipeline; raises CheckpointError for weights that are damaged, and for a CLIP that is not the one whose texts it was trained with."""
    experiment = choice.experiment
    source, method = experiment.source, experiment.settings.method(choice.method)
    kind, guidance = kind_of(experiment.settings.sampling.samplers[choice.method])
    scheduler = FlowMapScheduler(kind=kind, noise_scale=float(source.scale))
    student = {
        "experiment": experiment.name, "method": choice.method, "label": method.label, "tier": experiment.tier, "seed": choice.seed,
        "data": experiment.data_name, "fingerprint": load_checkpoint(choice.weights)[1]["fingerprint"],
    }  # fmt: skip
    further = _decoder(source) if isinstance(source, LatentSource) else {}
    if choice.reader:
        said = _said(choice)
        student["clip"] = {
            "clip": said["clip"],
            "checksum": said["checksum"],
            "captions": None if "repository" in said else said["data"],
        }
        further |= _texts(choice, said)
    return FewStepPipeline(
        FlowMapModel.trained(choice.weights),
        scheduler,
        top=source.top,
        guidance_scale=guidance,
        student=student,
        **further,
    )


def save(choice: Choice, target: Path) -> None:
    """Write the student and its model card to the folder `target`; raises FolderError rather than write over anything else."""
    folder.check_free(target)
    made = pipeline(choice)
    made.save_pretrained(target, card.text(choice.experiment, choice.method, choice.seed, made, target.name))
