"""dvc.yaml, written from params.yaml: which notebook runs when, and what it depends on.

The stage `check` validates params.yaml and writes, for every other stage, one small file of what it is made from:
its settings, the modules that it really imports, the data that ship with the project, each with a hash. A stage
depends on its own such file, so a change re-runs what it touches and nothing else. Stages are named after their
tier, so that dvc.lock keeps the states of several side by side. Experiments that only tier paper has stand in
paper/dvc.yaml: what `dvc repro` at the other tiers does not know costs them nothing.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from .. import data, networks, objectives
from ..data.export import EXPORTS
from ..settings import tiers as experiments
from ..settings.base import SettingsError
from ..settings.tiers import ExperimentSettings, Tier
from ..settings.training import Method
from ..storage.fingerprint import closure, imports
from ..training import loops
from ..training.experiment import TOUR
from ..training.weights import weights_file
from .notebooks import executed_name

HEADER = "# Written by `python -m fewstep stages` from params.yaml: do not edit by hand.\n"
ARTIFACTS, RESULTS = "artifacts/${item.tier}", "results/${item.tier}"
INPUTS = f"{ARTIFACTS}/inputs"
PAPER_ONLY = "paper/dvc.yaml"
# the report of the two-dimensional experiments, which one notebook draws
CHECKERBOARD = "checkerboard"
REFERENCE_POINTS = "data/checkerboard.npy"


@dataclass(frozen=True)
class Stage:
    """One stage of the pipeline.

    notebook, experiment, method  what is executed, and its parameters
    settings  JSON-able: what it reads of params.yaml
    modules   the modules that settings name; those that the notebook imports are found in it
    data      files that ship with the project, below the root
    after     the files that other stages hand to it
    outs      the files that it hands on, besides the executed notebook
    """

    name: str
    notebook: str
    experiment: str | None = None
    method: str | None = None
    settings: Any = None
    modules: list[str] = field(default_factory=list)
    data: list[str] = field(default_factory=list)
    after: list[str] = field(default_factory=list)
    outs: list[str] = field(default_factory=list)


def _settings(*parts: Any) -> list:
    return [part.model_dump(exclude_none=True) for part in parts]


def _named(settings: ExperimentSettings, methods: list[Method]) -> list[str]:
    """The modules that an experiment's settings name: objectives and loops of `methods`, networks and the data set."""
    found = {f"{objectives.__name__}.{term.objective}" for method in methods for term in method.terms}
    found |= {f"{loops.__name__}.{method.loop}" for method in methods}
    built = [settings.training.network, *(method.network for method in settings.methods.values())]
    found |= {f"{networks.__name__}.{network.kind}" for network in built if network}
    return sorted(found | {f"{data.__name__}.{settings.training.data}"})


def _points(name: str, settings: ExperimentSettings, after: list[str]) -> list[Stage]:
    files = [REFERENCE_POINTS] if "w2_target" in settings.metrics.measures else []
    out = f"{ARTIFACTS}/metrics/{name}.csv"
    return [
        Stage(
            f"{name}-metrics",
            "4-metrics",
            name,
            None,
            _settings(settings),
            _named(settings, []),
            files,
            after,
            [out],
        )
    ]


def _training_notebook(method: str, settings: ExperimentSettings) -> str:
    own = settings.methods[method]
    if own.loop == "scflow":
        return "2-self-correction"
    teaches = any(other.teacher == method for other in settings.methods.values())
    return "1-teacher" if teaches and own.teacher is None else "2-distill"


def _made(settings: ExperimentSettings) -> list[str]:
    """The folder of the data that are modelled, where a stage makes them."""
    return [f"{ARTIFACTS}/latents/{settings.training.latents}"] if settings.training.latents else []


def _reader(tier: Tier, settings: ExperimentSettings) -> list[str]:
    """The folder of the CLIP that reads prompts, where there are any."""
    latents = tier.latents.get(settings.training.latents)
    return [f"{ARTIFACTS}/clip/{latents.clip}"] if latents and latents.clip else []


def _trained(name: str, settings: ExperimentSettings) -> list[str]:
    """The folders of the trained methods that an experiment samples."""
    return [f"{ARTIFACTS}/{settings.students_of or name}/{method}" for method in settings.methods]


def _figures(settings: ExperimentSettings) -> str:
    """The notebook of an experiment's tables."""
    if settings.sampling.prompts:
        return "5-figures-prompts" if settings.students_of else "5-figures-text"
    return "5-figures-scflow" if settings.self_corrected else "5-figures-images"


def _metrics(settings: ExperimentSettings) -> str:
    """The notebook that measures an experiment's images."""
    return "4-metrics-text" if settings.sampling.prompts else "4-metrics-images"


def _images(name: str, settings: ExperimentSettings, after: list[str]) -> list[Stage]:
    metrics, features = f"{ARTIFACTS}/metrics/{name}.csv", f"{ARTIFACTS}/features/{settings.metrics.features}"
    trained = _trained(name, settings)
    files, modules = data.files(settings.training.data), _named(settings, [])
    after, figures = [*after, *_made(settings)], _figures(settings)
    found = [
        Stage(f"{name}-metrics", _metrics(settings), name, None, _settings(settings), modules, files, [features, *after], [metrics]),
        Stage(
            f"{name}-figures", figures, name, None, _settings(settings), modules, files,
            [metrics, features, *after, *trained], [f"{ARTIFACTS}/report/{name}"],
        ),
    ]  # fmt: skip
    # where SCFlow is among the methods, what is timed stands in its own table
    if settings.speed and not settings.self_corrected:
        speed = f"{name.partition('-')[0]}-speed"
        out = f"{ARTIFACTS}/report/{speed}"
        found.append(
            Stage(
                speed,
                "4-speed",
                name,
                None,
                _settings(settings),
                modules,
                files,
                [metrics, *after, *trained],
                [out],
            )
        )
    return found


def _experiment(name: str, settings: ExperimentSettings, reader: list[str]) -> list[Stage]:
    """A training for each method, then sampling, then metrics; with images, the figures too."""
    stages, seeds = [], settings.training.seeds
    files, made = data.files(settings.training.data), _made(settings)
    for method, own in settings.methods.items() if not settings.students_of else ():
        after = made + ([f"{ARTIFACTS}/{name}/{own.teacher}"] if own.teacher else [])
        out = f"{ARTIFACTS}/{Path(weights_file(name, method, seeds[0])).parent}"
        stages.append(
            Stage(
                f"{name}-{method}", _training_notebook(method, settings), name, method,
                _settings(settings.training, own), _named(settings, [own]), files, after, [out],
            )
        )  # fmt: skip
    trained, samples = _trained(name, settings), f"{ARTIFACTS}/samples/{name}"
    drawn = _settings(settings.training, settings.sampling)
    stages.append(
        Stage(
            f"{name}-sample",
            "3-sample",
            name,
            None,
            drawn,
            _named(settings, []),
            files,
            [*made, *reader, *trained],
            [samples],
        )
    )
    return stages + (_images if settings.metrics.of_images else _points)(name, settings, [samples, *reader])


def plan(tier: Tier) -> list[Stage]:
    """All stages that execute a notebook, in order."""
    tour = tier.tour
    stages = [Stage("tour", "0-tour", TOUR, None, _settings(tour), _named(tour, list(tour.methods.values())))]
    for name, own in tier.features.items():
        modules, files = [f"{data.__name__}.{own.data}"], data.files(own.data)
        stages.append(
            Stage(
                f"features-{name}",
                "0-features",
                name,
                None,
                _settings(own),
                modules,
                files,
                [f"{ARTIFACTS}/features/{own.classifier_of}"] if own.classifier_of else [],
                [f"{ARTIFACTS}/features/{name}"],
            )
        )
    for name, own in tier.clip.items():
        modules, files = ([f"{data.__name__}.{own.data}"], data.files(own.data)) if own.data else ([], [])
        stages.append(
            Stage(
                f"clip-{name}",
                "0-clip",
                name,
                None,
                _settings(own),
                modules,
                files,
                [],
                [f"{ARTIFACTS}/clip/{name}"],
            )
        )
    for name, own in tier.latents.items():
        modules, files, maker = (
            [f"{data.__name__}.{own.data}"],
            data.files(own.data),
            f"{ARTIFACTS}/autoencoders/{name}",
        )
        stages.append(
            Stage(
                f"autoencoder-{name}",
                "0-autoencoder",
                name,
                None,
                _settings(own),
                modules,
                files,
                [],
                [maker],
            )
        )
        after = [maker, *([f"{ARTIFACTS}/clip/{own.clip}"] if own.clip else [])]
        stages.append(
            Stage(
                f"latents-{name}",
                "0-latents",
                name,
                None,
                _settings(own),
                modules,
                files,
                after,
                [f"{ARTIFACTS}/latents/{name}"],
            )
        )
    points: list[str] = []
    for name, settings in tier.experiments.items():
        stages += _experiment(name, settings, _reader(tier, settings))
        if not settings.metrics.of_images:
            points += [f"{ARTIFACTS}/metrics/{name}.csv", f"{ARTIFACTS}/samples/{name}"]
            points += [f"{ARTIFACTS}/{name}/{method}" for method in settings.methods]
    # no settings of its own: whatever a setting changes reaches it through the files that it reads
    stages.append(Stage("figures", "5-figures", after=points, outs=[f"{ARTIFACTS}/report/{CHECKERBOARD}"]))
    return stages


def _code(root: Path, stage: Stage) -> dict[str, Path]:
    """The source files behind a stage by their path below the root: those that its notebook imports, and those that settings name."""
    cells = json.loads((root / "notebooks" / f"{stage.notebook}.ipynb").read_text())["cells"]
    lines = [
        line for cell in cells if cell["cell_type"] == "code" for line in "".join(cell["source"]).splitlines()
    ]
    source = "\n".join(line for line in lines if line[:1] not in "%!")
    package = Path(__file__).parents[1]
    files = list(closure([*imports(source, ""), *stage.modules]).values())
    files += [package / "evaluation" / "published.csv"] if "figures" in stage.name else []
    return {f"src/{package.name}/{path.relative_to(package).as_posix()}": path for path in sorted(files)}


def _digest(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not there: run `python -m fewstep data`")
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def inputs(root: Path, tier: Tier) -> dict[str, dict]:
    """What each stage is made from, by its name: its settings, and the hashes of its modules and of its data."""
    found = {}
    for stage in plan(tier):
        code = {name: _digest(path) for name, path in _code(root, stage).items()}
        found[stage.name] = {
            "settings": stage.settings,
            "code": code,
            "data": {name: _digest(root / name) for name in stage.data},
        }
    files = closure([f"{__package__}.report"]).values()
    found["publish"] = {
        "code": {
            path.relative_to(Path(__file__).parents[1]).as_posix(): _digest(path) for path in sorted(files)
        }
    }
    return found


def write_inputs(root: Path, tier: Tier, folder: Path) -> None:
    """Write `inputs` into `folder`, one file a stage, and remove what belongs to no stage."""
    from ..storage.files import write_atomically

    found = inputs(root, tier)
    for name, content in found.items():
        write_atomically(
            folder / f"{name}.json", (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()
        )
    for path in folder.glob("*.json"):
        if path.stem not in found:
            path.unlink()


def words(stage: Stage, tier: str) -> list[str]:
    """What `python -m fewstep` is called with to run a stage."""
    found = ["run", stage.notebook, "--tier", tier]
    found += ["--experiment", stage.experiment] if stage.experiment and stage.experiment != TOUR else []
    return found + (["--method", stage.method] if stage.method else [])


def _entry(stage: Stage) -> dict:
    """A stage as dvc.yaml says it."""
    executed = executed_name(
        stage.notebook, None if stage.experiment == TOUR else stage.experiment, stage.method
    )
    return {
        "matrix": {"tier": ["${tier}"]},
        "cmd": " ".join(["python -m fewstep", *words(stage, "${item.tier}")]),
        "deps": [f"{INPUTS}/{stage.name}.json", f"notebooks/{stage.notebook}.ipynb", *stage.after],
        "outs": [*stage.outs, f"{ARTIFACTS}/notebooks/{executed}"],
    }


def _frame() -> tuple[dict, dict]:
    """The first stage and the last."""
    check = {
        "matrix": {"tier": ["${tier}"]},
        "cmd": f"python -m fewstep check --tier ${{item.tier}} --inputs {INPUTS}",
        "deps": ["params.yaml", "notebooks", "src/fewstep", *sorted(EXPORTS)],
        "outs": [INPUTS],
    }
    kept = [f"{RESULTS}/{name}" for name in ("tables", "figures", "claims.csv", "report.md", "notebooks")]
    publish = {
        "matrix": {"tier": ["${tier}"]},
        "cmd": "python -m fewstep publish --tier ${item.tier}",
        "deps": [f"{INPUTS}/publish.json", f"{ARTIFACTS}/notebooks", f"{ARTIFACTS}/report"],
        "outs": [{path: {"cache": False}} for path in kept],
        "metrics": [{f"{RESULTS}/metrics.json": {"cache": False}}],
    }
    return check, publish


def _paper_only(stage: Stage) -> dict:
    """A stage of paper/dvc.yaml: it names its tier, whatever tier is selected."""
    text = json.dumps({key: value for key, value in _entry(stage).items() if key != "matrix"})
    return json.loads(text.replace("${item.tier}", "paper")) | {"wdir": ".."}


def render(root: Path) -> dict[str, str]:
    """The texts of dvc.yaml and paper/dvc.yaml, by path.

    Raises SettingsError when smoke and laptop do not hold the same experiments and methods, or paper lacks one.
    """
    raw = experiments.read(root / "params.yaml")
    tiers = {name: experiments.load(root / "params.yaml", name) for name in experiments.TIERS if name in raw["tiers"]}
    first = next(iter(tiers))
    stages = {name: {stage.name: _entry(stage) for stage in plan(tier)} for name, tier in tiers.items()}
    for name, own in stages.items():
        common = own if name != "paper" else {key: own[key] for key in own if key in stages[first]}
        if common != stages[first]:
            lacking = sorted(set(common) ^ set(stages[first])) or sorted(
                k for k in common if common[k] != stages[first][k]
            )
            raise SettingsError(
                f"params.yaml: the tiers '{first}' and '{name}' must hold the same experiments, methods and features: see {lacking[0]}"
            )
    check, publish = _frame()
    texts = {
        "dvc.yaml": {
            "params": ["params.yaml"],
            "stages": {"check": check, **stages[first], "publish": publish},
        }
    }
    if "paper" in tiers:
        only = {
            stage.name: _paper_only(stage)
            for stage in plan(tiers["paper"])
            if stage.name not in stages[first]
        }
        texts[PAPER_ONLY] = {"stages": only}
    return {
        name: HEADER + yaml.safe_dump(text, sort_keys=False, width=140, default_flow_style=False)
        for name, text in texts.items()
    }
