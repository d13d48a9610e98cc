"""From a training's weights to a pipeline that draws without the project's files."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from diffusers import FlowMapEulerDiscreteScheduler

from ..data import DESCRIBED
from ..data.latents import AUTOENCODER, LatentSource
from ..flows.sampler_names import GUIDED
from ..networks import clip_files, load_flow_map
from ..networks.autoencoder import read_described
from ..settings import tiers
from ..settings.base import SettingsError
from ..storage.checkpoint import CheckpointError, load_checkpoint
from ..storage.files import mapping
from ..storage.workspace import Workspace
from ..training import clip as contrastive
from ..training.experiment import Experiment
from ..training.weights import weights_file
from . import card, folder, prompts
from .network import SAMPLERS, FlowMapModel
from .pipeline import FewStepPipeline


def steps_of(sampler: str) -> tuple[str, float]:
    """The steps of a sampler and its scale of guidance: "guided-2" takes Euler steps under guidance of 2."""
    return ("euler", float(sampler.removeprefix(GUIDED))) if sampler.startswith(GUIDED) else (sampler, 1.0)


@dataclass(frozen=True)
class Student:
    """A method of an experiment from one training seed, and the `clip` that read its captions, if any."""

    experiment: Experiment
    method: str
    seed: int
    clip: contrastive.ClipPreparation | None = None

    @property
    def weights(self) -> Path:
        """Its file of weights; raises FileNotFoundError, naming the cure, before it is trained."""
        return self.experiment.workspace.read(weights_file(self.experiment, self.method, self.seed))

    @property
    def name(self) -> str:
        """What it and its folder are called."""
        return f"{self.experiment.name}-{self.method}-seed-{self.seed}"


def find(root: Path, tier: str, experiment: str, method: str, seed: int) -> Student:
    """The student of `experiment` at `tier`.

    Raises SettingsError for a tier, experiment, method or seed that there is not, and for points or samplers
    that a pipeline does not draw; FileNotFoundError before it is trained.
    """
    workspace = Workspace(root, tier)
    settings = tiers.load(workspace.params, tier)
    own = settings.experiment(experiment)
    own.method(method)
    pictures = [name for name, other in settings.experiments.items() if len(settings.shape(other)) == 3]
    if experiment not in pictures:
        why = f"'{experiment}' models points in the plane, which make no pictures"
        raise SettingsError(f"{why}; a pipeline draws images: {', '.join(pictures)}")
    sampler, known = own.sampling.samplers[method], f"{', '.join(SAMPLERS)} and {GUIDED}<scale>"
    if steps_of(sampler)[0] not in SAMPLERS:
        raise SettingsError(f"'{method}' is sampled by '{sampler}', and a pipeline knows {known}")
    if seed not in own.training.seeds:
        seeds = f"the seeds {', '.join(map(str, own.training.seeds))} at tier '{tier}'"
        raise SettingsError(f"'{experiment}' is trained from {seeds}, and not from {seed}")
    latents, clip = settings.latents.get(own.training.latents), None
    if latents and latents.clip:
        clip = contrastive.ClipPreparation(latents.clip, workspace, settings.clip[latents.clip], "cpu")
    found = Student(Experiment(experiment, workspace, own, settings.compute, latents), method, seed, clip)
    _ = found.weights  # which says at once where there are none
    return found


def _captions(student: Student) -> tuple[dict[str, Any], dict[str, Any]]:
    """The facts and components of a student's CLIP; CheckpointError where another CLIP lies in its place."""
    described, data = clip_files.read_described(student.clip.folder), student.experiment.data_folder
    stored = mapping(data / DESCRIBED, "delete it and run `dvc repro` again", CheckpointError)
    captions = stored.get("captions", {})
    total, read_by = described["checksum"], captions.get("clip", "none")
    if total != read_by:
        by = f"another CLIP (sha256 {read_by[:8]}) than lies in {student.clip.folder} ({total[:8]})"
        raise CheckpointError(f"the captions of {data} were read by {by}: run `dvc repro` again")
    facts = {"clip": described["clip"], "checksum": total}
    facts["captions"] = None if "repository" in described else described["data"]
    network = contrastive.load(student.clip)
    network.text_tower.config._name_or_path = described.get("repository", "")
    return facts, {"text_encoder": network.text_tower, "tokenizer": prompts.component(network.tokenizer)}


def pipeline(student: Student) -> FewStepPipeline:
    """The student as a pipeline; raises CheckpointError for damaged weights, or another CLIP than its own."""
    experiment = student.experiment
    source, method = experiment.source, experiment.settings.method(student.method)
    sampler, guidance = steps_of(experiment.settings.sampling.samplers[student.method])
    trained, (_, info) = load_flow_map(student.weights), load_checkpoint(student.weights)
    facts = {
        "experiment": experiment.name, "method": student.method, "label": method.label,
        "tier": experiment.tier, "seed": student.seed, "data": experiment.data_name,
        "fingerprint": info["fingerprint"],
    }  # fmt: skip
    in_latents, further = isinstance(source, LatentSource), {}
    if in_latents:
        further["vae"] = source.decoder().model
        # under its published name, and not the folder of this machine that it was found in
        repository = read_described(source.folder / AUTOENCODER).get("repository", "")
        further["vae"].register_to_config(scaling_factor=source.factor, _name_or_path=repository)
    if student.clip:
        facts["clip"], components = _captions(student)
        further |= components
    model = FlowMapModel(
        info["network"], info["shape"], sampler, noise_scale=float(source.scale), top=source.top,
        bypass=in_latents and source.decoder().bypass, guidance_scale=guidance, student=facts,
    )  # fmt: skip
    model.flow_map.load_state_dict(trained.state_dict())
    return FewStepPipeline(model.requires_grad_(False).eval(), FlowMapEulerDiscreteScheduler(), **further)


def save(student: Student, target: Path, named: str = "", half: bool = False) -> None:
    """Write the student and its model card to the folder `target`; raises as `folder.check_free`.

    `named` is what the card's example opens, the folder's name if empty; `half` rounds the flow map's weights
    to half precision, from which they are opened in single precision again.
    """
    folder.check_free(target)
    made = pipeline(student)
    if half:
        made.flow_map.half()
    text = card.text(student.experiment, student.method, student.seed, made, named or target.name)
    made.save_pretrained(target, text)
