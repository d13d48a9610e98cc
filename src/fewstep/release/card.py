"""The model card of a saved student. Its numbers are those of the project's tables on disk, letter for letter."""

from __future__ import annotations

import csv
import importlib
import json
import re
import shlex
from typing import TYPE_CHECKING

from .. import objectives
from ..evaluation import prompts
from ..objectives import scflow
from ..settings.training import Method
from ..training.experiment import Experiment

if TYPE_CHECKING:
    from .pipeline import FewStepPipeline

# objectives whose own text names no paper
PAPERS = {"meanflow": "2505.13447"}
LICENCE = "Apache-2.0"
# what the example asks for where the measured prompts are not on this machine
PROMPT = "a red circle"
LIMITS = {
    "smoke": "Tier smoke trains for seconds, for tests: its images and numbers mean nothing but that every part runs.",
    "laptop": "Tier laptop trains small networks for minutes, on data that stand in for the papers': its numbers compare with each other and with nobody's.",
    "paper": "Tier paper follows the papers' data, networks and training; a published number stands beside its own only where the protocol is the same.",
}
Row = dict[str, str]


def tables(experiment: Experiment, label: str) -> dict[str, list[Row]]:
    """The rows of a method in the tables of its tier, as text, by table: the experiment's own first, and no cell twice.

    Empty where no table holds the method.
    """
    folder, found, seen = experiment.workspace.root / "results" / experiment.tier / "tables", {}, set()
    for path in sorted(folder.glob("*.csv"), key=lambda path: (path.stem != experiment.name, path.stem)):
        with path.open(newline="") as file:
            rows = [
                row
                for row in csv.DictReader(file)
                if (row["experiment"], row["method"], row["tier"])
                == (experiment.name, label, experiment.tier)
            ]
        fresh = [row for row in rows if (row["metric"], row["nfe"]) not in seen]
        seen |= {(row["metric"], row["nfe"]) for row in fresh}
        if fresh:
            found[path.stem] = fresh
    return found


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _grid(rows: list[Row]) -> str:
    """Metrics down, network calls across: `value ± sd` as they stand in the rows, and under them what is published."""
    calls = sorted({row["nfe"] for row in rows}, key=int)
    lines = [_line(["", *(f"N = {n}" for n in calls)]), _line(["---"] * (len(calls) + 1))]
    for metric in dict.fromkeys(row["metric"] for row in rows):
        own = {row["nfe"]: row for row in rows if row["metric"] == metric}
        lines.append(
            _line(
                [
                    metric,
                    *(
                        own[n]["value"] + (f" ± {own[n]['sd']}" if own[n]["sd"] else "") if n in own else ""
                        for n in calls
                    ),
                ]
            )
        )
        if any(row["published"] for row in own.values()):
            beside = [
                f"{own[n]['published']} ({own[n]['status']})" if n in own and own[n]["published"] else ""
                for n in calls
            ]
            lines.append(_line([f"{metric}, published", *beside]))
    return "\n".join(lines)


def _origin(rows: list[Row]) -> list[str]:
    """One line for each metric: protocol, seeds, notebook, revision, parameters and hardware."""
    lines = []
    for metric in dict.fromkeys(row["metric"] for row in rows):
        row = next(row for row in rows if row["metric"] == metric)
        lines.append(
            f"- **{metric}**: {row['protocol']}; mean over {row['seeds']}, {row['samples']} samples each; notebook {row['notebook']}, revision "
            f"{row['revision']}, parameters {row['parameters']}; {row['hardware']}; {row['software']}"
        )
    return lines


def numbers(experiment: Experiment, method: str, seed: int) -> list[str]:
    """The section of numbers, one entry a paragraph."""
    found = tables(experiment, experiment.settings.method(method).label)
    if not found:
        return [
            f"No table of results/{experiment.tier}/tables holds this method: nothing was measured that could stand here."
        ]
    text = [
        f"N is the number of network calls for an image; ± is the standard deviation between training seeds. Every number is a mean over seeds, of which "
        f"these weights are training seed {seed}: theirs alone may differ by about the deviation."
    ]
    for name, own in found.items():
        text += [f"From results/{experiment.tier}/tables/{name}.csv:", _grid(own), "\n".join(_origin(own))]
    return text


def _named(words: str | None) -> str | None:
    """The first arXiv number in a text."""
    found = re.search(r"arXiv\s+(\d{4}\.\d{5})", words or "")
    return found and found[1]


def paper(objective: str) -> str:
    """The arXiv number of an objective's paper: the first that its text names; raises KeyError where nothing names one."""
    return _named(objectives.load(objective).__doc__) or PAPERS[objective]


def _link(number: str) -> str:
    return f"[arXiv {number}](https://arxiv.org/abs/{number})"


def papers(method: Method) -> list[str]:
    """One line for each objective of a method: what it is and its paper."""
    if method.self_correction:
        return [f"- self-corrected flow distillation (SCFlow): {_link(_named(scflow.__doc__))}"]
    names = dict.fromkeys(term.objective for term in method.terms)
    said = {
        name: importlib.import_module(f"{objectives.__name__}.{name}").__doc__.partition("\n")[0].rstrip(".")
        for name in names
    }
    return [f"- `{name}`, {said[name]}: {_link(paper(name))}" for name in names]


def shown_steps(experiment: Experiment, method: str) -> int:
    """How many steps to show: the fewest that are measured, or the most where nothing but the velocity was learned."""
    steps, own = experiment.settings.sampling.steps[method] or [1], experiment.settings.method(method)
    return max(steps) if own.terms and all(term.objective == "si" for term in own.terms) else min(steps)


def example(experiment: Experiment) -> str:
    """The first of the prompts that an experiment's tables measured, or PROMPT where their files are not there."""
    try:
        return prompts.load(experiment.latents.data, experiment.settings.sampling.prompts, 1).captions[0].text
    except FileNotFoundError:
        return PROMPT


def _of_texts(experiment: Experiment, method: str, pipe: FewStepPipeline) -> dict[str, str]:
    """The facts about what a student is told."""
    own, sampling, tower, read = (
        experiment.settings.method(method),
        experiment.settings.sampling,
        pipe.text_encoder,
        pipe.tokenizer.texts,
    )
    said, scale = pipe.config.student["clip"], pipe.config.guidance_scale
    captions = f" on `{said['captions']}`" if said["captions"] else ""
    # a teacher leaves captions out, a student has a teacher that is guided
    trained = f"; trained with {own.conditioning_dropout:.0%} of its captions left empty" if own.conditioning_dropout else ""
    trained += f"; trained with its teacher under guidance of {own.guidance_scale:g}" if own.guidance_scale else ""
    usual = (
        "none, one network call a step"
        if scale == 1
        else f"{scale:g} against the empty text, two network calls a step"
    )
    size = sum(p.numel() for p in tower.parameters())
    return {
        "text encoder": f"the text tower of a CLIP ({said['clip']}{captions}; sha256 {said['checksum'][:8]}), {size:,} parameters",
        "texts": f"{read.length} tokens of {len(read.vocabulary):,}, {tower.config.hidden_size} numbers each; trained with the captions of `{experiment.data_name}`",
        "prompts measured": f"the first {sampling.count:,} of `{sampling.prompts}` of `{experiment.data_name}`, zero-shot",
        "guidance": f"{usual}, unless a call names a `guidance_scale`{trained}",
    }


def _facts(experiment: Experiment, method: str, seed: int, pipe: FewStepPipeline) -> dict[str, str]:
    own, training = experiment.settings.method(method), experiment.settings.training
    settings, shape = pipe.flow_map.config.settings, " x ".join(map(str, pipe.flow_map.config.shape))
    source = experiment.source
    image = " x ".join(map(str, getattr(source, "image", source.shape)))
    taught = f", from the teacher `{own.teacher}`" if own.teacher else ""
    trained = (
        f"converted from {own.weights}"
        if own.weights
        else f"{own.steps:,} steps of {training.batch} samples, training seed {seed}, averaged over training"
    )
    mark = pipe.config.student["fingerprint"]
    facts = {
        "experiment": f"`{experiment.name}`, tier {experiment.tier}",
        "method": f"{own.label} (`{method}`){taught}",
        "data": f"`{experiment.data_name}`, images of {image} in {source.top + 1} levels",
        "network": f"{settings['kind']}, {sum(p.numel() for p in pipe.flow_map.parameters()):,} parameters, on points of {shape}",
        "steps": "jumps of the flow map"
        if pipe.scheduler.config.kind == "jumps"
        else "Euler steps of the velocity",
        "weights": f"{trained} (fingerprint {mark})",
    }
    if pipe.vae is not None:
        facts["decoder"] = (
            f"an AutoencoderKL, {sum(p.numel() for p in pipe.vae.parameters()):,} parameters; latents are scaled by {source.factor:.5g}"
        )
    return facts | (_of_texts(experiment, method, pipe) if pipe.flow_map.conditional else {})


def _limits(experiment: Experiment, pipe: FewStepPipeline) -> list[str]:
    draws = "- It draws without a prompt: images like its data, and no others."
    if pipe.flow_map.conditional:
        draws = (
            f"- It draws what captions like those of `{experiment.data_name}` say. Other words, and other languages, have tokens too, and nobody has looked at what "
            f"becomes of them; a prompt of more than {pipe.tokenizer.texts.length} tokens is cut, with a warning."
        )
    lines = [
        f"- {LIMITS[experiment.tier]}",
        draws,
        "- Other numbers of steps than the measured ones run, and nobody has looked at them.",
    ]
    if pipe.vae is not None:
        lines.append(
            "- An image is no sharper than the decoder: what the autoencoder loses, the student never saw."
        )
    return [
        *lines,
        "- The same noise gives the same bits on the CPU, with the pinned versions of torch; on a GPU nearly the same images.",
    ]


def text(experiment: Experiment, method: str, seed: int, pipe: FewStepPipeline, folder: str) -> str:
    """The card as Markdown, for a hub and for people; `folder` is what the example calls the student's folder."""
    own, steps = experiment.settings.method(method), shown_steps(experiment, method)
    prompt = example(experiment) if pipe.flow_map.conditional else None
    task, given, asked = ("unconditional-image-generation", "", "") if prompt is None else (
        "text-to-image", f"{json.dumps(prompt, ensure_ascii=False)}, ", f" --prompt {shlex.quote(prompt)}"
    )  # fmt: skip
    head = [
        "---",
        f"license: {LICENCE.lower()}",
        "library_name: diffusers",
        f"pipeline_tag: {task}",
        "tags: [flow-map, few-step, fewstep]",
        "---",
    ]
    use = [
        "```python", "import torch", "from fewstep.release import FewStepPipeline", "", f'pipe = FewStepPipeline.from_pretrained("{folder}")',
        f"images = pipe({given}num_inference_steps={steps}, batch_size=4, generator=torch.Generator().manual_seed(0)).images", 'images[0].save("one.png")', "```",
    ]  # fmt: skip
    facts = [
        _line(["", ""]),
        _line(["---", "---"]),
        *(_line([name, fact]) for name, fact in _facts(experiment, method, seed, pipe).items()),
    ]
    elsewhere = (
        f"A picture from the command line: `python -m fewstep sample {folder} --steps {steps}{asked}`. Through diffusers' own class: "
        f'`DiffusionPipeline.from_pretrained("{folder}", custom_pipeline="{folder}", trust_remote_code=True)`, which runs the one import in pipeline.py.'
    )
    taken = {
        "decoder": pipe.vae.config.get("_name_or_path") if pipe.vae is not None else "",
        "text encoder": pipe.text_encoder.config._name_or_path if pipe.text_encoder is not None else "",
    }
    others = "".join(f" The {what} is {name}, under its own licence." for what, name in taken.items() if name)
    parts = [
        "\n".join(head), f"# {experiment.name}, {own.label}", "A student of fewstep, which draws images in a few network calls.", "\n".join(facts),
        "## Use", "\n".join(use), elsewhere, "## Numbers", *numbers(experiment, method, seed), "## Papers", "\n".join(papers(own)),
        "## Limits", "\n".join(_limits(experiment, pipe)), "## Licence", f"{LICENCE}, the weights as the code.{others}",
    ]  # fmt: skip
    return "\n\n".join(parts) + "\n"
