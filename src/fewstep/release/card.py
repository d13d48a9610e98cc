"""The model card of a saved student; its numbers are those of the report, digit for digit."""

from __future__ import annotations

import importlib
import re
from typing import TYPE_CHECKING

import pandas as pd
import torch

from .. import objectives
from ..evaluation.tables import metrics, read_table, shown
from ..pipeline.report import HOW_TO_READ, markdown
from ..settings.training import Method
from ..training.experiment import Experiment

if TYPE_CHECKING:
    from .pipeline import FewStepPipeline

LICENCE = "Apache-2.0"
PROMPT = "a red circle"
LIMITS = {
    "smoke": "Tier smoke trains for seconds, for tests: its images and numbers mean nothing but that every "
    "part runs.",
    "laptop": "Tier laptop trains small networks for minutes, on data that stand in for the papers': its "
    "numbers compare with each other and with nobody's.",
    "overnight": "Tier overnight trains small networks for two hours, on data that stand in for the papers': "
    "its numbers compare with each other, and on the checkerboard with published ones.",
    "paper": "Tier paper follows the papers' data, networks and training; a published number stands beside "
    "its own only where the protocol is the same.",
}
ALWAYS = (
    "Other numbers of steps than the measured ones run, and nobody has looked at them.",
    "The same noise gives the same bits on the CPU, with the pinned torch; on a GPU nearly so.",
)
ORIGIN = (
    "- **{metric}**: {protocol}; {seeds} seeds, {samples} samples each; notebook {notebook}, revision "
    "{revision}, parameters {parameters}; {hardware}; {software}"
)


def rows(experiment: Experiment, label: str) -> dict[str, pd.DataFrame]:
    """The rows of a method by table, its own first and no cell twice; raises as `read_table`."""
    folder = experiment.workspace.root / "results" / experiment.tier / "tables"
    paths = sorted(folder.glob("*.csv"), key=lambda path: (path.stem != experiment.name, path.stem))
    if not paths:
        return {}
    table = pd.concat([read_table(path) for path in paths])
    own = (table.experiment == experiment.name) & (table.method == label) & (table.tier == experiment.tier)
    return dict(iter(table[own].drop_duplicates(["metric", "nfe"]).groupby("table", sort=False)))


def numbers(experiment: Experiment, method: str, seed: int) -> list[str]:
    """The section of numbers, one entry a paragraph."""
    found = rows(experiment, experiment.settings.method(method).label)
    if not found:
        return [f"No table of results/{experiment.tier}/tables holds this method: nothing was measured."]
    text = [
        f"N is the number of network calls for an image. {' '.join(HOW_TO_READ)} Every number is a mean over "
        f"seeds, of which these weights are training seed {seed}: theirs alone may differ by the deviation."
    ]
    for name, table in found.items():
        lines = [shown(table, metric).set_axis([metric]) for metric in metrics(table)]
        # `N = 2` before `N = 16`
        columns = sorted({n for line in lines for n in line}, key=lambda n: (int(re.search(r"\d+", n)[0]), n))
        grid = pd.concat(lines).fillna("")[columns]
        origins = [ORIGIN.format(**row) for row in table.drop_duplicates("metric").to_dict("records")]
        text += [f"From results/{experiment.tier}/tables/{name}.csv:", markdown(grid), "\n".join(origins)]
    return text


def papers(method: Method) -> list[str]:
    """One line for each objective of a method: what it is and its paper, the first that its module names."""
    names, lines = dict.fromkeys(term.objective for term in method.terms), []
    for name in names if method.terms else [method.loop]:
        about = importlib.import_module(f"{objectives.__name__}.{name}").__doc__
        number = re.search(r"arXiv\s+(\d{4}\.\d{5})", about)[1]
        title = about.partition(" (")[0]
        lines.append(f"- `{name}`, {title}: [arXiv {number}](https://arxiv.org/abs/{number})")
    return lines


def _captions(own: Method, pipe: FewStepPipeline) -> dict[str, str]:
    """The facts about the captions that a student is conditioned on."""
    clip, scale = pipe.flow_map.config.student["clip"], pipe.flow_map.guidance()
    source = clip["clip"] + (f" on `{clip['captions']}`" if clip["captions"] else "")
    calls = "none, one network call" if scale == 1 else f"{scale:g} against the empty text, two network calls"
    guidance = f"{calls} a step, unless a call names a `guidance_scale`"
    if own.conditioning_dropout:  # a teacher leaves captions out, a student has a teacher that is guided
        guidance += f"; trained with {own.conditioning_dropout:.0%} of its captions left empty"
    if own.guidance_scale:
        guidance += f"; trained with its teacher under guidance of {own.guidance_scale:g}"
    tower = f"the text tower of a CLIP ({source}; sha256 {clip['checksum'][:8]})"
    read = f"{pipe.texts.length} tokens of {len(pipe.texts.vocabulary):,}, by {tower}"
    return {"texts": read, "guidance": guidance}


def _facts(experiment: Experiment, method: str, seed: int, pipe: FewStepPipeline) -> dict[str, str]:
    own, source, model = experiment.settings.method(method), experiment.source, pipe.flow_map.config
    image, shape = (" x ".join(map(str, s)) for s in (getattr(source, "image", source.shape), model.shape))
    batch, size = experiment.settings.training.batch, pipe.flow_map.num_parameters()
    origin = f"{own.steps:,} steps of {batch} samples, training seed {seed}, averaged over training"
    if own.weights:
        origin = f"converted from {own.weights}"
    rounded = ", rounded to half precision" if pipe.flow_map.dtype == torch.float16 else ""
    taught = f", from the teacher `{own.teacher}`" if own.teacher else ""
    facts = {
        "experiment": f"`{experiment.name}`, tier {experiment.tier}",
        "method": f"{own.label} (`{method}`){taught}",
        "data": f"`{experiment.data_name}`, images of {image} in {source.top + 1} levels",
        "network": f"{model.settings['kind']}, {size:,} parameters, on points of {shape}",
        "steps": "jumps of the flow map" if model.sampler == "jumps" else "Euler steps of the velocity",
        "weights": f"{origin}{rounded} (fingerprint {model.student['fingerprint']})",
    }
    if pipe.vae is not None:
        decoder = f"an AutoencoderKL, {pipe.vae.num_parameters():,} parameters"
        facts["decoder"] = f"{decoder}; latents are scaled by {source.factor:.5g}"
    return facts | (_captions(own, pipe) if pipe.flow_map.conditional else {})


HEAD = """---
license: {licence}
library_name: diffusers
pipeline_tag: {task}
tags: [flow-map, few-step, fewstep]
---"""
USE = """```python
import torch
from fewstep.release import FewStepPipeline

pipe = FewStepPipeline.from_pretrained("{folder}")
generator = torch.Generator().manual_seed(0)
images = pipe({prompt}num_inference_steps={steps}, batch_size=4, generator=generator).images
images[0].save("one.png")
```"""
ELSEWHERE = (
    "A picture from the command line: `python -m fewstep sample {folder} --steps {steps}{option}`. Through "
    'diffusers\' own class: `DiffusionPipeline.from_pretrained("{folder}", custom_pipeline="{folder}", '
    "trust_remote_code=True)`, which runs the one import in pipeline.py."
)


def text(experiment: Experiment, method: str, seed: int, pipe: FewStepPipeline, folder: str) -> str:
    """The card as Markdown, for a hub and for people; `folder` is what its example opens."""
    own, measured = experiment.settings.method(method), experiment.settings.sampling.steps[method] or [1]
    # of the example, as few as measured, but many where only a velocity was learned
    velocity = own.terms and all(term.objective == "si" for term in own.terms)
    steps = max(measured) if velocity else min(measured)
    task, argument, option = "unconditional-image-generation", "", ""
    draws = "It draws without a prompt: images like its data, and no others."
    if pipe.flow_map.conditional:
        task, argument, option = "text-to-image", f'"{PROMPT}", ', f' --prompt "{PROMPT}"'
        draws = f"It draws what captions like those of `{experiment.data_name}` say; no others were tried."
    elsewhere = ELSEWHERE.format(folder=folder, steps=steps, option=option)
    licence = f"{LICENCE}, the weights as the code."
    for what, component in (("decoder", pipe.vae), ("text encoder", pipe.text_encoder)):
        if component is not None and (name := getattr(component.config, "_name_or_path", None)):
            licence += f" The {what} is {name}, under its own licence."
    parts = [
        HEAD.format(licence=LICENCE.lower(), task=task),
        f"# {experiment.name}, {own.label}",
        "A student of fewstep, which draws images in a few network calls.",
        markdown(pd.DataFrame({"": _facts(experiment, method, seed, pipe)})),
        "## Use",
        USE.format(folder=folder, prompt=argument, steps=steps),
        elsewhere,
        "## Numbers",
        *numbers(experiment, method, seed),
        "## Papers",
        "\n".join(papers(own)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in (LIMITS[experiment.tier], draws, *ALWAYS)),
        "## Licence",
        licence,
    ]
    return "\n\n".join(parts) + "\n"
