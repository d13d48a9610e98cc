"""From a training's weights to a pipeline: what a student needs besides them to draw without the project's files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from .. import experiments
from ..checkpoint import load_checkpoint
from ..data.latents import AUTOENCODER, LatentSource
from ..networks.autoencoder import read_described
from ..study import Study
from ..trained import weights_file
from ..typed import SettingsError
from ..workspace import Workspace
from . import card, folder
from .network import FlowMapModel
from .pipeline import FewStepPipeline
from .scheduler import KINDS, FlowMapScheduler


@dataclass(frozen=True)
class Choice:
    """One trained student: a method of a study, from one of its training seeds."""

    study: Study
    method: str
    seed: int

    @property
    def weights(self) -> Path:
        """Its file of weights; raises FileNotFoundError, naming the cure, before it is trained."""
        return self.study.workspace.read(weights_file(self.study.trained, self.method, self.seed))

    @property
    def name(self) -> str:
        """What it is called, and the folder that it is saved to if nobody says where."""
        return f"{self.study.name}-{self.method}-seed-{self.seed}"


def chosen(root: Path, tier: str, experiment: str, method: str, seed: int) -> Choice:
    """The student of `experiment` at `tier`.

    Raises SettingsError for a tier, experiment, method or seed that there is not, and for experiments whose points are no
    images; FileNotFoundError before it is trained.
    """
    workspace = Workspace(root, tier)
    settings = experiments.load(workspace.params, tier)
    own = settings.experiment(experiment)
    own.method(method)
    if len(settings.shape(own)) != 3:
        pictures = [name for name, other in settings.experiments.items() if len(settings.shape(other)) == 3]
        raise SettingsError(f"'{experiment}' models points in the plane, which make no pictures; a pipeline draws images: {', '.join(pictures)}")
    if own.sampling.samplers[method] not in KINDS:
        raise SettingsError(f"'{method}' is sampled by '{own.sampling.samplers[method]}', and a pipeline knows {' and '.join(KINDS)}")
    if seed not in own.training.seeds:
        raise SettingsError(f"'{experiment}' is trained from the seeds {', '.join(map(str, own.training.seeds))} at tier '{tier}', and not from {seed}")
    found = Choice(Study(experiment, workspace, own, settings.compute), method, seed)
    found.weights
    return found


def _decoder(source: LatentSource) -> dict:
    """What a pipeline in latents has besides: the autoencoder, its scale in its own config."""
    decoder = source.decoder()
    # under its published name, and not the folder of this machine that it was found in
    described = read_described(source.folder / AUTOENCODER)
    decoder.model.register_to_config(scaling_factor=source.factor, _name_or_path=described.get("repository", ""))
    return {"vae": decoder.model, "bypass": decoder.bypass}


def pipeline(choice: Choice) -> FewStepPipeline:
    """The student as a pipeline; raises CheckpointError for weights that are damaged."""
    study = choice.study
    source, method = study.source, study.experiment.method(choice.method)
    scheduler = FlowMapScheduler(kind=study.experiment.sampling.samplers[choice.method], noise_scale=float(source.scale))
    student = {
        "experiment": study.name, "method": choice.method, "label": method.label, "tier": study.tier, "seed": choice.seed,
        "data": study.data_name, "fingerprint": load_checkpoint(choice.weights)[1]["fingerprint"],
    }  # fmt: skip
    decoder = _decoder(source) if isinstance(source, LatentSource) else {}
    return FewStepPipeline(FlowMapModel.trained(choice.weights), scheduler, top=source.top, student=student, **decoder)


def save(choice: Choice, target: Path) -> None:
    """Write the student and its model card to the folder `target`; raises FolderError rather than write over anything else."""
    folder.check_free(target)
    made = pipeline(choice)
    made.save_pretrained(target, card.text(choice.study, choice.method, choice.seed, made, target.name))
