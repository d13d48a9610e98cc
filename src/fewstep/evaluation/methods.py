"""What notebooks show of methods: each one's loss, its settings and its call, and what came of them."""

import inspect
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import ModuleType

import numpy as np
import pandas as pd
import yaml

from .. import objectives
from ..objectives import sid
from ..objectives.scflow import losses
from ..objectives.sid.losses import score_identity
from ..settings.tiers import ExperimentSettings
from ..settings.training import Method, SelfCorrection, Term
from .claims import Logs
from .findings import UNTRAINED, gap, tenths

LOSSES = yaml.safe_load(Path(__file__).with_suffix(".yaml").read_text(encoding="utf-8"))


def source(function: Callable) -> str:
    """Where a loss comes from, by its docstring or its module's, or nothing."""
    module = inspect.getmodule(function)
    for text in (inspect.getdoc(function) or "", module.__doc__ or ""):
        if found := re.search(r"arXiv (\d{4}\.\d{5})(, [^).:;]*(?:\. \d[\d.]*\d)?)?", " ".join(text.split())):
            return f"[arXiv {found[1]}](https://arxiv.org/abs/{found[1]}){found[2] or ''}"
    return ""


def _settings(method: Method, settings: ExperimentSettings) -> str:
    said = [f"{method.steps:,} steps"]
    if method.teacher:
        start = ", whose weights it starts from" if method.start == "teacher" else ""
        said.append(f"teacher {settings.methods[method.teacher].label}{start}")
    if method.autoguidance:
        weak = settings.methods[method.autoguidance.weak].label
        said.append(f"autoguided away from {weak}, scale {method.autoguidance.scale:g}")
    if method.coupling:
        own = method.coupling.model_dump(exclude={"kind"}).items()
        said.append(f"coupling by {method.coupling.kind}, {', '.join(f'{k} {v:g}' for k, v in own)}")
    said += ["learned weight of (s, t)"] if method.learned_weight else []
    said += [f"own {what}" for what in ("network", "optimiser") if getattr(method, what)]
    return "; ".join(said) + (f"; weights from `{method.weights}`" if method.weights else "")


def _call(term: Term) -> str:
    options = "".join(f', {k}="{v}"' if isinstance(v, str) else f", {k}={v}" for k, v in term.options.items())
    teacher = ", teacher" if objectives.needs_teacher(term.objective) else ""
    call = f"`objectives.{term.objective}(student, batch{teacher}{options})`"
    times = ", ".join(f"{k} {v}" for k, v in term.times.model_dump(exclude_defaults=True).items())
    weight = f", weight {term.weight:g}" if term.weight != 1 else ""
    if own := term.adaptive:
        weight += f", each sample times 1/(residual + {own.offset:g})^{own.power:g}"
    return f"- {call} on {100 * term.share:g} % of a batch{weight}; times: {times}"


def _formulas(module: ModuleType | None) -> list[str]:
    return re.findall(r"\$\$.*?\$\$", getattr(module, "__doc__", "") or "", re.DOTALL)


def _terms(method: Method) -> list[str]:
    parts: list[str] = []
    for name in dict.fromkeys(term.objective for term in method.terms):
        objective = objectives.load(name)
        # each objective is a file, with its loss at its head
        formulas = _formulas(inspect.getmodule(objective))
        calls = "\n".join(_call(term) for term in method.terms if term.objective == name)
        parts += [*formulas, source(objective), calls]
    return [part for part in parts if part]


def _corrected(own: SelfCorrection) -> list[str]:
    parts, said = [r"\mathcal L_{\mathrm{TC}}"], [f"delta = {own.threshold:g}, t_trunc = {own.truncation:g}"]
    said.append(f"target keeps {own.target_ema:g}")
    for name, words in LOSSES.items():
        if loss := getattr(own, name, None):
            parts.append(rf"{loss.weight:g}\,\mathcal L_{{\mathrm{{{words['short']}}}}}")
            said += [f"{name} from step {loss.warmup}"] if loss.warmup else []
    paper = source(losses.truncated_consistency)
    return [f"$$ \\mathcal L = {' + '.join(parts)} $$", f"{paper}; {', '.join(said)}."]


def section(name: str, settings: ExperimentSettings) -> str:
    """A method as Markdown: its loss, where it comes from, its settings and its call."""
    method = settings.method(name)
    parts = _corrected(method.self_correction) if method.self_correction else _terms(method)
    if own := method.distribution_matching:
        said = f"alpha = {own.alpha:g}, f by Adam at lr {own.lr:g}, beta1 {own.beta1:g}"
        parts = [*_formulas(sid), f"{source(score_identity)}; {said}."]
    call = f'`train.train(exp, "{name}")`'
    return "\n\n".join([f"### {method.label}", *parts, f"{call}: {_settings(method, settings)}."])


def sections(names: Sequence[str], settings: ExperimentSettings) -> str:
    """`section` of every method, one below the other."""
    return "\n\n".join(section(name, settings) for name in names)


def self_correction(names: Sequence[str], settings: ExperimentSettings) -> str:
    """The losses of SCFlow that any of the methods takes part in, as Markdown; nothing where none does."""
    own, parts = [c for name in names if (c := settings.method(name).self_correction)], []
    for name, loss in LOSSES.items():
        if any(name == "consistency" or getattr(c, loss.get("with", name)) for c in own):
            formula = rf"$$ \mathcal L_{{\mathrm{{{loss['short']}}}}} = {loss['tex']} $$"
            parts += [formula, f"`losses.{loss['function']}`"]
    return "\n\n".join(parts)


def fell(logs: Logs) -> str:
    """One sentence: of how many trainings the loss fell, and of which it did not."""
    ends = {label: [tenths(run["loss"]) for run in runs if len(run["loss"])] for label, runs in logs.items()}
    if not any(ends.values()):
        return UNTRAINED
    rose = [label for label, own in ends.items() if any(last >= first for first, last in own)]
    compared = "lower in the last tenth of training than in the first"
    if not rose:
        return f"The loss of every network is {compared}."
    return f"The loss is {compared}, but not in every training of {'; '.join(rose)}."


def gradients(logs: Logs) -> str:
    """One sentence: whose gradients are largest and smallest, by the median norm over steps and seeds."""
    logged = {label: np.concatenate([run["gradient_norm"] for run in runs]) for label, runs in logs.items()}
    norms = {label: float(np.median(own)) for label, own in logged.items() if len(own)}
    if len(norms) < 2:
        return "".join(f"The median norm of {name}'s gradient is {n:.3g}." for name, n in norms.items())
    high, low = max(norms, key=norms.get), min(norms, key=norms.get)
    return f"Median gradient norms lie between {norms[low]:.3g} ({low}) and {norms[high]:.3g} ({high})."


def last_parts(runs: Sequence[Mapping[str, np.ndarray]], label: str) -> str:
    """One sentence: the mean of each logged loss over the last tenth of training, over all seeds."""
    parts = {
        name: float(np.mean([tenths(run[name])[1] for run in runs]))
        for name in runs[0]
        if name not in ("loss", "gradient_norm") and any(np.any(run[name]) for run in runs)
    }
    if not parts:
        return UNTRAINED
    said = ", ".join(f"{name.replace('_', ' ')} {value:.3g}" for name, value in parts.items())
    return f"{label}, mean over the last tenth of training: {said}."


def exact_row(settings: ExperimentSettings) -> str:
    """What the row `exact` is, where an experiment has one, and else that it has none."""
    if "exact" not in settings.sampling.steps:
        return "The velocity of these data is not known in closed form: there is no row of a perfect sampler."
    return (
        "The velocity of these data has a closed form, which the row *exact* follows: by Euler's method it "
        "is a perfect teacher, and its exact map in one jump is the perfect student. What they score is the "
        "floor under the tables."
    )


def moved(panels: Mapping[str, Mapping[str, np.ndarray]]) -> str:
    """One sentence: how far each method's samples move from its fewest steps to its most, least first."""
    drawn = {label: list(by_steps.values()) for label, by_steps in panels.items() if len(by_steps) > 1}
    gaps = [(label, gap(own[0], own[-1])) for label, own in drawn.items()]
    if not gaps:
        return "Every method was sampled in one number of steps."
    said = [f"{label} {far:.3g}" for label, far in sorted(gaps, key=lambda pair: pair[1])]
    from_few = "From the fewest steps to the most, samples from the same noise move by (root mean square)"
    return f"{from_few}: {'; '.join(said)}."


def counts(index: pd.DataFrame) -> str:
    """One sentence on what was drawn: arrays, samples, and the range of network calls a sample."""
    calls = f"{index.nfe.min()} to {index.nfe.max()}" if index.nfe.nunique() > 1 else f"{index.nfe.min()}"
    return f"{len(index):,} arrays, {index['count'].sum():,} samples in all, each in {calls} network calls."
