"""python -m fewstep save and showcase, and sample: images side by side as a PNG, pixel for pixel."""

import argparse
import io
import sys
import warnings
from contextlib import suppress
from math import ceil, sqrt
from pathlib import Path

from diffusers.utils import logging
from PIL import Image, PngImagePlugin
from transformers.utils import logging as transformers_logging

from ..flows.sampler_names import GUIDED, calls_a_step
from ..storage.files import target, write_atomically
from . import folder, prompts
from .network import whole
from .pipeline import MOST_STEPS, FewStepPipeline, seeded

IMAGES, MOST_SHOWN = 16, 1024  # images where neither their number nor several prompts are given
GAP, SMALLEST = 2, 64  # pixels between images, and the smallest side that an image is shown at
KEY = "fewstep"  # the text in a PNG that tells a picture written here from any other


def sheet(images: list[Image.Image]) -> Image.Image:
    """Equally large images row by row on white, as many across as down; pixels of small ones are squares."""
    across, by = ceil(sqrt(len(images))), ceil(SMALLEST / max(images[0].size))
    width, height = (by * side + GAP for side in images[0].size)
    rows = ceil(len(images) / across)
    whole = Image.new(images[0].mode, (across * width - GAP, rows * height - GAP), "white")
    for k, image in enumerate(images):
        square = image.resize((width - GAP, height - GAP), Image.Resampling.NEAREST)
        whole.paste(square, (k % across * width, k // across * height))
    return whole


def _is_own(path: Path) -> bool:
    with suppress(Exception), Image.open(path) as found:  # Pillow has many ways to fail at a foreign file
        return KEY in found.info
    return False


def check_free(path: Path) -> Path:
    """Where a picture for `path` is written; ValueError unless that is a .png, and nobody else's file."""
    if path.suffix.lower() != ".png":
        raise ValueError(f"{path} does not end with .png, and a picture is a PNG: name it so")
    return target(path, _is_own, "`python -m fewstep sample`", "name another file with --to", ValueError)


def write(path: Path, images: list[Image.Image], words: str) -> None:
    """Write `images` as one picture, atomically, with `words` in its header; raises as `check_free`."""
    place = check_free(path)
    said, file = PngImagePlugin.PngInfo(), io.BytesIO()
    said.add_text(KEY, words)
    sheet(images).save(file, format="png", optimize=True, pnginfo=said)
    write_atomically(place, file.getvalue())


def _without_bars() -> None:
    logging.disable_progress_bar()
    transformers_logging.disable_progress_bar()


def save(root: Path, arguments: argparse.Namespace) -> None:
    """Save a trained student as a pipeline, in the tier's scratch folder if nobody says where."""
    from . import saving  # here, because whoever draws a picture needs none of the project's tables

    student = saving.find(root, arguments.tier, arguments.experiment, arguments.method, arguments.seed)
    place = arguments.to or student.experiment.workspace.writable / "students" / student.name
    _without_bars()
    saving.save(student, place)
    command = f"python -m fewstep sample {place}" + (' --prompt "..."' if student.clip else "")
    print(f"{place} holds {student.name} of tier {arguments.tier}; draw from it with `{command}`")


def showcase(root: Path, arguments: argparse.Namespace) -> None:
    """Write the students that come with the clone anew, from a tier's trainings and tables."""
    from . import showcase

    _without_bars()
    showcase.write(root, arguments.tier)
    names = ", ".join(own.name for own in showcase.STUDENTS)
    print(f"{root / folder.SHOWCASE} holds {names} of tier {arguments.tier}")


def sample(_: Path, arguments: argparse.Namespace) -> None:
    """Draw a picture from a saved student; the noise is that of a sampling seed of the tables."""
    check_free(arguments.to)
    whole("--steps", arguments.steps, MOST_STEPS)
    if arguments.count is not None:
        whole("--count", arguments.count, MOST_SHOWN)
    generator = seeded(arguments.seed)
    # what the shell hands over need not be UTF-8
    texts = [text.encode("utf-8", "replace").decode() for text in arguments.prompt or ()]
    _without_bars()
    pipe = FewStepPipeline.from_pretrained(folder.find(arguments.folder))
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
    words = f"{student.get('label', 'a student')} of {student.get('experiment', arguments.folder)}, "
    words += f"N = {calls}, sampling seed {arguments.seed}" + (f", guidance {scale:g}" if scale != 1 else "")
    if texts:
        words += ", of " + ", ".join(f'"{" ".join(text.split())}"' for text in texts)
    write(arguments.to, drawn, words)
    print(f"{arguments.to} shows {len(drawn)} images: {words}")
