"""The model card of a saved student; its numbers are those of the project's tables, letter for letter."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shlex
from collections.abc import Sequence
from typing import TYPE_CHECKING

from .. import objectives
from ..evaluation import prompts
from ..settings.training import Method
from ..training.experiment import Experiment

if TYPE_CHECKING:
    from .pipeline import FewStepPipeline

LICENCE = "Apache-2.0"
# what the example asks for where the measured prompts are not on this machine
PROMPT = "a red circle"
LIMITS = {
    "smoke": "Tier smoke trains for seconds, for tests: its images and numbers mean nothing but that every "
    "part runs.",
    "laptop": "Tier laptop trains small networks for minutes, on data that stand in for the papers': its "
    "numbers compare with each other and with nobody's.",
    "overnight": "Tier overnight trains small networks for a night, on data that stand in for the papers': "
    "its numbers compare with each other, and on the checkerboard with published ones.",
    "paper": "Tier paper follows the papers' data, networks and training; a published number stands beside "
    "its own only where the protocol is the same.",
}
Row = dict[str, str]
SHOWN = (
    "metric", "value", "sd", "published", "status", "protocol", "seeds", "samples", "notebook", "revision",
    "parameters", "hardware", "software",
)  # fmt: skip


def tables(experiment: Experiment, label: str) -> dict[str, list[Row]]:
    """The rows of a method by table, as text, the experiment's own table first and no cell twice.

    Raises ValueError, naming the file, for a table that lacks what a card shows.
    """
    folder = experiment.workspace.root / "results" / experiment.tier / "tables"
    own, found, seen = {"experiment": experiment.name, "method": label, "tier": experiment.tier}, {}, set()
    for path in sorted(folder.glob("*.csv"), key=lambda path: (path.stem != experiment.name, path.stem)):
        try:
            with path.open(newline="", encoding="utf-8") as file:
                whole = list(csv.DictReader(file))
            if any(None in (*row, *row.values()) for row in whole):
                raise ValueError("a row is cut short, or too long")
            rows = [row for row in whole if own.items() <= row.items()]
            _ = [(int(row["nfe"]), *(row[name] for name in SHOWN)) for row in rows]
        except (csv.Error, ValueError, KeyError) as error:
            cure = "run `dvc repro` again, or take the table away"
            raise ValueError(f"{path} is no table of results ({error}): {cure}") from None
        fresh = [row for row in rows if (row["metric"], row["nfe"]) not in seen]
        seen |= {(row["metric"], row["nfe"]) for row in fresh}
        if fresh:
            found[path.stem] = fresh
    return found


def _by_metric(rows: Sequence[Row]) -> dict[str, dict[str, Row]]:
    """The rows of each metric by their number of network calls."""
    metrics = dict.fromkeys(row["metric"] for row in rows)
    return {metric: {row["nfe"]: row for row in rows if row["metric"] == metric} for metric in metrics}


def _markdown(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)


def _grid(rows: Sequence[Row]) -> str:
    """Metrics down, network calls across: `value ± sd` as in the rows, and under them what is published."""
    calls, lines = sorted({row["nfe"] for row in rows}, key=int), []
    for metric, own in _by_metric(rows).items():
        cells = {n: row["value"] + (f" ± {row['sd']}" if row["sd"] else "") for n, row in own.items()}
        lines.append([metric, *(cells.get(n, "") for n in calls)])
        published = {n: f"{row['published']} ({row['status']})" for n, row in own.items() if row["published"]}
        if published:
            lines.append([f"{metric}, published", *(published.get(n, "") for n in calls)])
    return _markdown(["", *(f"N = {n}" for n in calls)], lines)


ORIGIN = (
    "- **{metric}**: {protocol}; mean over {seeds}, {samples} samples each; notebook {notebook}, revision "
    "{revision}, parameters {parameters}; {hardware}; {software}"
)


def numbers(experiment: Experiment, method: str, seed: int) -> list[str]:
    """The section of numbers, one entry a paragraph."""
    found = tables(experiment, experiment.settings.method(method).label)
    if not found:
        return [f"No table of results/{experiment.tier}/tables holds this method: nothing was measured."]
    text = [
        "N is the number of network calls for an image; ± is the standard deviation between training seeds. "
        f"Every number is a mean over seeds, of which these weights are training seed {seed}: theirs alone "
        "may differ by about the deviation."
    ]
    for name, rows in found.items():
        origins = [ORIGIN.format(**next(iter(own.values()))) for own in _by_metric(rows).values()]
        text += [f"From results/{experiment.tier}/tables/{name}.csv:", _grid(rows), "\n".join(origins)]
    return text


def _docstring(objective: str) -> str:
    return importlib.import_module(f"{objectives.__name__}.{objective}").__doc__


def paper(objective: str) -> str:
    """The arXiv number of an objective's paper: the first that its module names."""
    return re.search(r"arXiv\s+(\d{4}\.\d{5})", _docstring(objective))[1]


def papers(method: Method) -> list[str]:
    """One line for each objective of a method: what it is and its paper."""
    names = dict.fromkeys(term.objective for term in method.terms)
    described = {name: f"`{name}`, {_docstring(name).partition(' (')[0]}" for name in names}
    if method.self_correction:
        described = {"scflow": "self-corrected flow distillation (SCFlow)"}
    link = "[arXiv {0}](https://arxiv.org/abs/{0})"
    return [f"- {words}: {link.format(paper(name))}" for name, words in described.items()]


def example_steps(experiment: Experiment, method: str) -> int:
    """The steps of the example: the fewest measured, or the most where only a velocity was learned."""
    steps, own = experiment.settings.sampling.steps[method] or [1], experiment.settings.method(method)
    return max(steps) if own.terms and all(term.objective == "si" for term in own.terms) else min(steps)


def example_prompt(experiment: Experiment) -> str:
    """The first prompt that an experiment's tables measured, or PROMPT where the files are not there."""
    try:
        return prompts.load(experiment.latents.data, experiment.settings.sampling.prompts, 1).captions[0].text
    except FileNotFoundError:
        return PROMPT


def _captions(experiment: Experiment, method: str, pipe: FewStepPipeline) -> dict[str, str]:
    """The facts about the captions that a student is conditioned on."""
    own, data = experiment.settings.method(method), experiment.data_name
    sampling, tokenizer, encoder = experiment.settings.sampling, pipe.texts, pipe.text_encoder
    clip, scale = pipe.flow_map.config.student["clip"], pipe.flow_map.guidance()
    source = clip["clip"] + (f" on `{clip['captions']}`" if clip["captions"] else "")
    calls = "none, one network call" if scale == 1 else f"{scale:g} against the empty text, two network calls"
    guidance = f"{calls} a step, unless a call names a `guidance_scale`"
    # a teacher leaves captions out, a student has a teacher that is guided
    if own.conditioning_dropout:
        guidance += f"; trained with {own.conditioning_dropout:.0%} of its captions left empty"
    if own.guidance_scale:
        guidance += f"; trained with its teacher under guidance of {own.guidance_scale:g}"
    return {
        "text encoder": f"the text tower of a CLIP ({source}; sha256 {clip['checksum'][:8]}), "
        f"{encoder.num_parameters():,} parameters",
        "texts": f"{tokenizer.length} tokens of {len(tokenizer.vocabulary):,}, {encoder.config.hidden_size} "
        f"numbers each; trained with the captions of `{data}`",
        "prompts measured": f"the first {sampling.count:,} of `{sampling.prompts}` of `{data}`, zero-shot",
        "guidance": guidance,
    }


def _facts(experiment: Experiment, method: str, seed: int, pipe: FewStepPipeline) -> dict[str, str]:
    own, source, model = experiment.settings.method(method), experiment.source, pipe.flow_map.config
    image, shape = (" x ".join(map(str, s)) for s in (getattr(source, "image", source.shape), model.shape))
    batch, size = experiment.settings.training.batch, pipe.flow_map.num_parameters()
    origin = f"{own.steps:,} steps of {batch} samples, training seed {seed}, averaged over training"
    if own.weights:
        origin = f"converted from {own.weights}"
    taught = f", from the teacher `{own.teacher}`" if own.teacher else ""
    facts = {
        "experiment": f"`{experiment.name}`, tier {experiment.tier}",
        "method": f"{own.label} (`{method}`){taught}",
        "data": f"`{experiment.data_name}`, images of {image} in {source.top + 1} levels",
        "network": f"{model.settings['kind']}, {size:,} parameters, on points of {shape}",
        "steps": "jumps of the flow map" if model.sampler == "jumps" else "Euler steps of the velocity",
        "weights": f"{origin} (fingerprint {model.student['fingerprint']})",
    }
    if pipe.vae is not None:
        decoder = f"an AutoencoderKL, {pipe.vae.num_parameters():,} parameters"
        facts["decoder"] = f"{decoder}; latents are scaled by {source.factor:.5g}"
    return facts | (_captions(experiment, method, pipe) if pipe.flow_map.conditional else {})


def _limits(experiment: Experiment, pipe: FewStepPipeline) -> list[str]:
    draws = "It draws without a prompt: images like its data, and no others."
    if pipe.flow_map.conditional:
        draws = (
            f"It draws what captions like those of `{experiment.data_name}` say. Other words, and other "
            "languages, have tokens too, and nobody has looked at what becomes of them; a prompt of more "
            f"than {pipe.texts.length} tokens is cut, with a warning."
        )
    steps = "Other numbers of steps than the measured ones run, and nobody has looked at them."
    decoder = "An image is no sharper than the decoder: what the autoencoder loses, the student never saw."
    bits = "The same noise gives the same bits on the CPU, with the pinned versions of torch"
    bits += "; on a GPU nearly the same images."
    return [LIMITS[experiment.tier], draws, steps, *([] if pipe.vae is None else [decoder]), bits]


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
    own, steps = experiment.settings.method(method), example_steps(experiment, method)
    task, argument, option = "unconditional-image-generation", "", ""
    if pipe.flow_map.conditional:
        prompt = example_prompt(experiment)
        task, argument = "text-to-image", f"{json.dumps(prompt, ensure_ascii=False)}, "
        option = f" --prompt {shlex.quote(prompt)}"
    elsewhere = ELSEWHERE.format(folder=folder, steps=steps, option=option)
    licence = f"{LICENCE}, the weights as the code."
    for what, component in (("decoder", pipe.vae), ("text encoder", pipe.text_encoder)):
        if component is not None and (name := getattr(component.config, "_name_or_path", None)):
            licence += f" The {what} is {name}, under its own licence."
    parts = [
        HEAD.format(licence=LICENCE.lower(), task=task),
        f"# {experiment.name}, {own.label}",
        "A student of fewstep, which draws images in a few network calls.",
        _markdown(["", ""], list(_facts(experiment, method, seed, pipe).items())),
        "## Use",
        USE.format(folder=folder, prompt=argument, steps=steps),
        elsewhere,
        "## Numbers",
        *numbers(experiment, method, seed),
        "## Papers",
        "\n".join(papers(own)),
        "## Limits",
        "\n".join(f"- {limit}" for limit in _limits(experiment, pipe)),
        "## Licence",
        licence,
    ]
    return "\n\n".join(parts) + "\n"
