"""python -m fewstep save and python -m fewstep sample."""

from __future__ import annotations

import argparse
from pathlib import Path

from .. import missing_operators  # noqa: F401  before diffusers
from diffusers.utils import logging  # isort: skip

from . import picture, saving
from .pipeline import FewStepPipeline, seeded


def save(root: Path, arguments: argparse.Namespace) -> None:
    """Save a trained student as a pipeline, in the tier's scratch folder if nobody says where."""
    choice = saving.chosen(root, arguments.tier, arguments.experiment, arguments.method, arguments.seed)
    target = arguments.to or choice.study.workspace.writable / "students" / choice.name
    saving.save(choice, target)
    print(f"{target} holds {choice.name} of tier {arguments.tier}; draw from it with `python -m fewstep sample {target}`")


def sample(_: Path, arguments: argparse.Namespace) -> None:
    """Draw a picture from a saved student; the noise is that of a sampling seed of the tables."""
    picture.check_free(arguments.to)
    # a bar that is full at once tells nobody anything
    logging.disable_progress_bar()
    pipe = FewStepPipeline.from_pretrained(arguments.folder)
    pipe.set_progress_bar_config(disable=True)
    drawn = pipe(num_inference_steps=arguments.steps, batch_size=arguments.count, generator=seeded(arguments.seed)).images
    student = pipe.config.student or {}
    words = f"{student.get('label', 'a student')} of {student.get('experiment', arguments.folder)}, N = {arguments.steps}, sampling seed {arguments.seed}"
    picture.write(arguments.to, drawn, words)
    print(f"{arguments.to} shows {len(drawn)} images: {words}")
