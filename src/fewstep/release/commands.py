"""python -m fewstep save and python -m fewstep sample."""

import argparse
import sys
import warnings
from pathlib import Path

from diffusers.utils import logging
from transformers.utils import logging as transformers_logging

from ..flows.sampler_names import GUIDED, calls_a_step
from . import picture, prompts
from .network import whole
from .pipeline import MOST_STEPS, FewStepPipeline, seeded

# images where neither their number nor several prompts are given
IMAGES, MOST_SHOWN = 16, 1024


def _without_bars() -> None:
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def save(root: Path, arguments: argparse.Namespace) -> None:
    """Save a trained student as a pipeline, in the tier's scratch folder if nobody says where."""
    from . import saving  # here, because whoever draws a picture needs none of the project's tables

    student = saving.find(root, arguments.tier, arguments.experiment, arguments.method, arguments.seed)
    target = arguments.to or student.experiment.workspace.writable / "students" / student.name
    _without_bars()
    saving.save(student, target)
    prompt = ' --prompt "..."' if student.clip else ""
    command = f"python -m fewstep sample {target}{prompt}"
    print(f"{target} holds {student.name} of tier {arguments.tier}; draw from it with `{command}`")


def sample(_: Path, arguments: argparse.Namespace) -> None:
    """Draw a picture from a saved student; the noise is that of a sampling seed of the tables."""
    picture.check_free(arguments.to)
    whole("--steps", arguments.steps, MOST_STEPS)
    if arguments.count is not None:
        whole("--count", arguments.count, MOST_SHOWN)
    generator = seeded(arguments.seed)
    # what the shell hands over need not be UTF-8
    texts = [text.encode("utf-8", "replace").decode() for text in arguments.prompt or ()]
    _without_bars()
    pipe = FewStepPipeline.from_pretrained(arguments.folder)
    pipe.set_progress_bar_config(disable=True)
    if pipe.flow_map.conditional and not texts:
        cure = 'give --prompt "a text", as often as you like'
        raise ValueError(f"{arguments.folder} draws what a text says: {cure}")
    if texts and not pipe.flow_map.conditional:
        raise ValueError(f"{arguments.folder} was trained without text: leave --prompt out")
    count = IMAGES if arguments.count is None and len(texts) < 2 else arguments.count
    scale = pipe.flow_map.guidance(arguments.guidance)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", prompts.CutWarning)
        drawn = pipe(texts or None, arguments.steps, scale, batch_size=count, generator=generator).images
    for warning in caught:
        print(f"fewstep: {warning.message}", file=sys.stderr)
    student = pipe.flow_map.config.student or {}
    calls = arguments.steps * calls_a_step(f"{GUIDED}{scale}")
    words = (
        f"{student.get('label', 'a student')} of {student.get('experiment', arguments.folder)}, N = {calls}, "
        f"sampling seed {arguments.seed}" + (f", guidance {scale:g}" if scale != 1 else "")
    )
    if texts:
        words += ", of " + ", ".join(f'"{" ".join(text.split())}"' for text in texts)
    picture.write(arguments.to, drawn, words)
    print(f"{arguments.to} shows {len(drawn)} images: {words}")
