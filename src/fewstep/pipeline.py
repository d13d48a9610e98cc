"""dvc.yaml, written from params.yaml and the import graph.

Every stage depends on the notebook that it runs, the modules that this really imports, the parameters that it
reads and the files that it is handed; `python -m fewstep stages` writes them down, and a test holds dvc.yaml
against it. Stages are named after their tier, so that dvc.lock keeps the states of several side by side.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import yaml

from . import data, experiments, networks, objectives
from .experiments import Experiment, Method, SettingsError, Tier
from .fingerprint import closure, imports
from .notebooks import executed_name
from .study import TOUR
from .trained import weights_file

HEADER = """# Written by `python -m fewstep stages` from params.yaml and the import graph: do not edit by hand.
# A stage depends on the modules that its notebook really imports, so a change retrains only what it touches.
"""
ARTIFACTS, RESULTS = "artifacts/${item.tier}", "results/${item.tier}"
CHECKED = f"{ARTIFACTS}/params-checked.txt"


def _modules(root: Path, notebook: str, extra: list[str]) -> list[str]:
    """The source files behind notebooks/<notebook>.ipynb, relative to the root."""
    cells = nbformat.read(root / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    source = "\n".join("\n".join(line for line in c.source.splitlines() if line[:1] not in "%!") for c in cells if c.cell_type == "code")
    files = closure([*imports(source, ""), *extra]).values()
    package = Path(__file__).parent
    return sorted(f"src/{package.name}/{path.relative_to(package).as_posix()}" for path in files)


def _dynamic(experiment: Experiment, methods: list[Method]) -> list[str]:
    """The modules that settings name: objectives, networks and the data set."""
    named = {f"{objectives.__name__}.{term.objective}" for method in methods for term in method.terms}
    built = [experiment.training.network, *(method.network for method in experiment.methods.values())]
    named |= {f"{networks.__name__}.{network.kind}" for network in built if network}
    return sorted(named | {f"{data.__name__}.{experiment.training.data}"})


def _stage(notebook: str, experiment: str | None, method: str | None, deps: list[str], params: list[str], outs: list[Any]) -> dict:
    words = [f"python -m fewstep run {notebook} --tier ${{item.tier}}"]
    words += [f"--experiment {experiment}"] if experiment and experiment != TOUR else []
    words += [f"--method {method}"] if method else []
    executed = executed_name(notebook, None if experiment == TOUR else experiment, method)
    return {
        "matrix": {"tier": ["${tier}"]},
        "cmd": " ".join(words),
        "deps": [CHECKED, f"notebooks/{notebook}.ipynb", *deps],
        **({"params": params} if params else {}),
        "outs": [*outs, f"{ARTIFACTS}/notebooks/{executed}"],
    }


def _experiment(root: Path, name: str, settings: Experiment) -> dict[str, dict]:
    """The stages of one experiment: a training for each method, then sampling, then metrics."""
    key, stages = f"${{item.tier}}.experiments.{name}", {}
    seeds = settings.training.seeds
    teachers = {m.teacher for m in settings.methods.values()}
    for method, own in settings.methods.items():
        notebook = "1-teacher" if method in teachers else "2-distill"
        deps = _modules(root, notebook, _dynamic(settings, [own]))
        if own.teacher:
            deps += [f"{ARTIFACTS}/{name}/{own.teacher}"]
        params = [f"{key}.training", f"{key}.methods.{method}"]
        stages[f"{name}-{method}"] = _stage(notebook, name, method, deps, params, [f"{ARTIFACTS}/{Path(weights_file(name, method, seeds[0])).parent}"])
    trained = [f"{ARTIFACTS}/{name}/{method}" for method in settings.methods]
    source = _dynamic(settings, [])
    stages[f"{name}-sample"] = _stage(
        "3-sample", name, None, _modules(root, "3-sample", source) + trained,
        [f"{key}.training", f"{key}.sampling"], [f"{ARTIFACTS}/samples/{name}"],
    )  # fmt: skip
    stages[f"{name}-metrics"] = _stage(
        "4-metrics", name, None, _modules(root, "4-metrics", source) + ["data/checkerboard.npy", f"{ARTIFACTS}/samples/{name}"],
        [key], [f"{ARTIFACTS}/metrics/{name}.csv"],
    )  # fmt: skip
    return stages


def stages(root: Path, tier: Tier) -> dict[str, dict]:
    """All stages, by name."""
    found: dict[str, dict] = {
        "check": {
            "matrix": {"tier": ["${tier}"]},
            "cmd": f"python -m fewstep check --tier ${{item.tier}} --mark {CHECKED}",
            "deps": ["params.yaml"],
            "outs": [CHECKED],
        }
    }
    tour = _dynamic(tier.tour, list(tier.tour.methods.values()))
    found["tour"] = _stage("0-tour", TOUR, None, _modules(root, "0-tour", tour), ["${item.tier}.tour"], [])
    inputs: list[str] = []
    for name, settings in tier.experiments.items():
        found |= _experiment(root, name, settings)
        inputs += [f"{ARTIFACTS}/metrics/{name}.csv", f"{ARTIFACTS}/samples/{name}"]
        inputs += [f"{ARTIFACTS}/{name}/{method}" for method in settings.methods]
    # no parameters of its own: whatever a setting changes reaches it through the files that it reads
    figures = _stage(
        "5-figures", None, None, [*_modules(root, "5-figures", []), "src/fewstep/published.csv", *inputs], [], []
    )
    uncached = [f"{RESULTS}/{name}" for name in ("tables", "figures", "claims.csv", "report.md")]
    figures["outs"] += [{path: {"cache": False}} for path in uncached]
    figures["metrics"] = [{f"{RESULTS}/metrics.json": {"cache": False}}]
    found["figures"] = figures
    found["publish"] = {
        "matrix": {"tier": ["${tier}"]},
        "cmd": "python -m fewstep publish --tier ${item.tier}",
        "deps": [f"{ARTIFACTS}/notebooks"],
        "outs": [{f"{RESULTS}/notebooks": {"cache": False}}],
    }
    return found


def render(root: Path) -> str:
    """The text of dvc.yaml; raises SettingsError when two tiers do not hold the same experiments and methods."""
    raw = experiments.read(root / "params.yaml")
    tiers = {name: experiments.load(root / "params.yaml", name) for name in experiments.TIERS if name in raw}
    shapes = {name: {e: list(x.methods) for e, x in t.experiments.items()} for name, t in tiers.items()}
    first = next(iter(shapes))
    for name, shape in shapes.items():
        if shape != shapes[first]:
            raise SettingsError(f"params.yaml: the tiers '{first}' and '{name}' must hold the same experiments and methods")
    text = yaml.safe_dump({"stages": stages(root, tiers[first])}, sort_keys=False, width=140, default_flow_style=False)
    return HEADER + text
