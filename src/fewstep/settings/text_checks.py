"""What must go together in an experiment whose samples are told texts, and what no other may name: said before anything runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .. import data
from ..flows.sampler_names import GUIDED
from .training import CONDITIONAL

if TYPE_CHECKING:
    from .captions import Clip
    from .evaluation import Features
    from .latents import Latents
    from .tiers import ExperimentSettings

MEASURES = ("clip", "attributes")


def _needs_texts(experiment: ExperimentSettings) -> str | None:
    """The first setting that means nothing without texts, or None."""
    for name, method in experiment.methods.items():
        corrected = method.self_correction
        if method.guidance is not None or method.dropped is not None:
            return f"`methods.{name}.{'dropped' if method.guidance is None else 'guidance'}`"
        if corrected and corrected.adversarial and corrected.adversarial.head:
            return f"`methods.{name}.self_correction.adversarial.head`"
    sampling = experiment.sampling
    guided = [name for name, sampler in sampling.samplers.items() if sampler.startswith(GUIDED)]
    guided += [
        name for name, own in sampling.solvers.items() if any(solver.startswith(GUIDED) for solver in own)
    ]
    if guided:
        return f"the guided sampler of '{guided[0]}'"
    measure = next((measure for measure in experiment.metrics.measures if measure in MEASURES), None)
    return f"the measure '{measure}'" if measure else None


def texts_problem(
    experiment: ExperimentSettings, latents: Latents | None, reader: Clip | None, features: Features | None
) -> str | None:
    """What is wrong with the texts of an experiment, in words, or None.

    `latents` are those that it models, `reader` the CLIP that reads their captions, and `features` what its images are
    measured in, each None where there is none.
    """
    told, prompts = reader is not None, experiment.sampling.prompts
    networks = [
        experiment.training.network,
        *(method.network for method in experiment.methods.values() if method.network),
    ]
    if any((network.kind in CONDITIONAL) != told for network in networks) or (prompts is not None) != told:
        return f"latents with texts (`clip`), networks of kind {' or '.join(CONDITIONAL)} and `sampling.prompts` go together: give all or none"
    if not told:
        needing = _needs_texts(experiment)
        return needing and f"{needing} needs latents with texts: remove it, or name a `clip` for the latents"
    if prompts not in data.prompt_sets(latents.data):
        return f"the data set '{latents.data}' has no prompts '{prompts}'; there are {', '.join(data.prompt_sets(latents.data)) or 'none'}"
    if reader.kind == "trained" and (
        odd := next((network.width for network in networks if network.width != reader.width), None)
    ):
        return f"the network reads tokens {odd} wide, and its CLIP's are {reader.width}: give `network.width` the CLIP's `width`"
    if "attributes" in experiment.metrics.measures and not (features and features.probe):
        return "the measure 'attributes' reads pictures with a probe: give the steps of its training under `probe` of its features"
    return None
