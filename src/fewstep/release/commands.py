"""python -m fewstep save and python -m fewstep sample."""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

from ..networks import torchvision_operators  # noqa: F401 - before diffusers

from diffusers.utils import logging  # isort: skip
from transformers.utils import logging as logging_of_texts

from ..flows.sampler_names import GUIDED, calls_a_step
from . import picture, prompts, saving
from .pipeline import FewStepPipeline, seeded

# prompts that are said in one sentence; the picture's header holds all
SAID = 3
# images where neither their number nor several prompts are given
IMAGES = 16


def _without_bars() -> None:
    # a bar that is full at once tells nobody anything
    logging.disable_progress_bar()
    logging_of_texts.disable_progress_bar()


def save(root: Path, arguments: argparse.Namespace) -> None:
    """Save a trained student as a pipeline, in the tier's scratch folder if nobody says where."""
    choice = saving.chosen(root, arguments.tier, arguments.experiment, arguments.method, arguments.seed)
    target = arguments.to or choice.experiment.workspace.writable / "students" / choice.name
    _without_bars()
    saving.save(choice, target)
    told = ' --prompt "..."' if choice.reader else ""
    print(
        f"{target} holds {choice.name} of tier {arguments.tier}; draw from it with `python -m fewstep sample {target}{told}`"
    )


def _texts(arguments: argparse.Namespace) -> list[str] | None:
    """The prompts that were given, or None where none was."""
    if arguments.prompts is not None:
        return prompts.from_file(arguments.prompts)
    # what the shell hands over need not be UTF-8
    return arguments.prompt and [text.encode("utf-8", "replace").decode() for text in arguments.prompt]


def _check(pipe: FewStepPipeline, texts: list[str] | None, folder: Path) -> None:
    if pipe.flow_map.conditional and texts is None:
        raise ValueError(
            f'{folder} draws what a text says: give --prompt "a text", as often as you like, or --prompts with a file of one prompt a line'
        )
    if not pipe.flow_map.conditional and texts is not None:
        raise ValueError(f"{folder} was trained without text: leave --prompt and --prompts out")


def _quoted(texts: list[str] | None, most: int) -> str:
    """The first `most` prompts as the end of a sentence."""
    if texts is None:
        return ""
    more = f" and {len(texts) - most} more" if len(texts) > most else ""
    return ", told " + ", ".join(f'"{" ".join(text.split())}"' for text in texts[:most]) + more


def sample(_: Path, arguments: argparse.Namespace) -> None:
    """Draw a picture from a saved student; the noise is that of a sampling seed of the tables."""
    picture.check_free(arguments.to)
    texts = _texts(arguments)
    _without_bars()
    pipe = FewStepPipeline.from_pretrained(arguments.folder)
    pipe.set_progress_bar_config(disable=True)
    _check(pipe, texts, arguments.folder)
    count = IMAGES if arguments.count is None and (texts is None or len(texts) == 1) else arguments.count
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", prompts.CutWarning)
        drawn = pipe(
            texts, arguments.steps, arguments.guidance, batch_size=count, generator=seeded(arguments.seed)
        ).images
    for warning in caught:
        print(f"fewstep: {warning.message}", file=sys.stderr)
    student, scale = (
        pipe.config.student or {},
        pipe.config.guidance_scale if arguments.guidance is None else arguments.guidance,
    )
    calls = arguments.steps * calls_a_step(f"{GUIDED}{scale}")
    words = f"{student.get('label', 'a student')} of {student.get('experiment', arguments.folder)}, N = {calls}, sampling seed {arguments.seed}"
    words += f", guidance {scale:g}" if scale != 1 else ""
    picture.write(arguments.to, drawn, words + _quoted(texts, len(texts or ())))
    print(f"{arguments.to} shows {len(drawn)} images: {words}{_quoted(texts, SAID)}")
