"""A rehearsal: every stage of tier paper, with its true networks, in minutes, before anybody gives it days of a GPU.

A tree of its own, artifacts/rehearsal, gets the notebooks, the paper section of params.yaml made small, and tiny
archives in the published formats. Each stage then runs there as DVC would run it, one after another. What is made
small is the amount: batches, steps, seeds, samples. Networks, optimisers, objectives, samplers and metrics stay. The
tree says that it is a rehearsal's, and so does the `revision` of every number in it.
"""

from __future__ import annotations

import difflib
import json
import os
import shutil
import sys
from dataclasses import dataclass
from math import lcm
from pathlib import Path
from typing import Any, Mapping, Sequence

import yaml

from . import experiments, pipeline, rehearsed, tiny_archives, training
from .claims_2d import RIVALS
from .data.archives import ENVIRONMENT, folder_of
from .data.export import EXPORTS
from .evaluation_images import NEIGHBOURS
from .experiments import Tier
from .files import write_atomically
from .notebooks import executed_name
from .progress import CHANNEL
from .run import advance
from .sampling import POINTS
from .study import TOUR, Study
from .supervised import Spent, supervise
from .workspace import PIPELINE, SCRATCH

TIER, TREE = "paper", Path("artifacts") / "rehearsal"
STEPS = 2
# on a CPU, where each has a network and its batch in memory
MOST_WORKERS = 4
# points: several chunks, and enough for a histogram's divergence to be positive; images: as few as have the neighbours
# that precision asks for
FEW_POINTS, FEW_PAIRS, FEW_IMAGES = 8 * POINTS, 100, NEIGHBOURS + 1
# of 256 x 256 pixels, each a minute of a CPU through the published autoencoder
FEW_LATENTS = 4
# the methods whose every number of steps the claims about self-distillation name
CLAIMED = ("lsd", *RIVALS)
# the numbers of steps that the claims about SCFlow name
CORRECTED = (1, 4, 8)


FIRST_STEP = f"import sys; from {__name__} import first_step; first_step(*sys.argv[1:])"


class RehearsalError(RuntimeError):
    """A stage cannot be rehearsed; the message names it and says what it said."""


@dataclass(frozen=True)
class Step:
    """A stage as it is run here: its arguments for `python -m fewstep`, the files that it needs and those that it makes.

    Paths are below the tree; `trains` is the folder of weights that a training makes, and `trained` whose training it is:
    experiment and method.
    """

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...]
    makes: tuple[str, ...]
    trains: str | None = None
    trained: tuple[str, str] | None = None


def smallest_batch(shares: Sequence[Sequence[float]], processes: int = 1) -> int:
    """The smallest batch, 2 or more, that gives a sample to every term of every method, and one to each of the `processes`.

    `shares` holds the shares of a batch of each method's terms, which add up to 1; they are rounded as training does.
    """

    def sizes(batch: int, own: Sequence[float]) -> list[int]:
        first = [round(share * batch) for share in own[:-1]]
        return [*first, batch - sum(first)]

    return next(batch for batch in range(2, 10_000) if all(min(s) >= 1 and max(s) >= processes for s in (sizes(batch, own) for own in shares)))


def multiple(batch: int, served: Sequence[int]) -> int:
    """`batch`, or the next number of samples that all of `served` divide: as many as share one solution of a teacher's."""
    common = lcm(*served)
    return -(-batch // common) * common


def _make_small(experiment: dict, processes: int) -> None:
    """Shrink one experiment of params.yaml, as it is read from the file, in place."""
    methods, sampling, metrics, shared = (experiment[key] for key in ("methods", "sampling", "metrics", "training"))
    images, reference = "features" in metrics, metrics.get("reference")
    corrected = any("self_correction" in method for method in methods.values())
    shares = [[term.get("share", 1.0) for term in method.get("terms", [{}])] for method in methods.values()]
    served = [term.get("options", {}).get("times", 1) for method in methods.values() for term in method.get("terms", [])]
    shared["batch"] = multiple(smallest_batch(shares, processes), served)
    shared["seeds"] = shared["seeds"][:1]
    for method in methods.values():
        method["steps"] = STEPS
        # a loss that waits for its first step would not be rehearsed
        for loss in method.get("self_correction", {}).values():
            if isinstance(loss, dict) and "warmup" in loss:
                loss["warmup"] = 0
    sampling["count"] = FEW_IMAGES if images else FEW_POINTS
    # two where a measure compares one noise with another; the sampling of self-distillation's large networks takes longest
    sampling["seeds"] = sampling["seeds"][: 2 if "t_fid" in metrics["measures"] or not images else 1]
    if "w2_samples" in metrics:
        metrics["w2_samples"] = min(metrics["w2_samples"], FEW_PAIRS)
    if not images:
        return
    for method, steps in sampling["steps"].items():
        if corrected:
            sampling["steps"][method] = [n for n in steps if n in CORRECTED]
        else:
            named = method in CLAIMED and not reference
            sampling["steps"][method] = steps if named else [n for n in steps if n <= 2] or steps[:1]
    for solvers in sampling.get("solvers", {}).values():
        solvers.update({solver: steps[:1] for solver, steps in solvers.items()})
    if reference:
        reference["steps"] = max(sampling["steps"][reference["method"]])
    if "speed" in experiment:
        experiment["speed"] = {"batches": [1, 2], "repeats": 2}


def settings(paper: Mapping[str, Any], device: str, devices: int) -> dict:
    """The section `paper` of params.yaml, as it is read from the file, made small for `device` ("cpu" or "cuda").

    `devices` is the number of GPUs, or of a CPU's cores. Changed are: the device, with `processes` no more than the GPUs
    (on a CPU, 1) or `workers` those that the cores can keep busy; of each training the batch and the seeds, and on a CPU
    the settings that only a GPU takes; the steps of each method; of sampling the count, seeds and, of images, the steps;
    w2_samples, the reference's steps, what is timed, and how many images are drawn to measure against, encoded and decoded. All else is as
    it was. `paper` is left alone.
    """
    small = json.loads(json.dumps(paper))
    compute = small["compute"]
    compute["device"] = device
    if device == "cpu":
        compute["workers"] = min(devices, MOST_WORKERS)
    if "processes" in compute:
        compute["processes"] = 1 if device == "cpu" else min(compute["processes"], devices)
    for experiment in (small["tour"], *small["experiments"].values()):
        shared = experiment["training"]
        if device == "cpu":
            for key in [k for k in ("compile", "cuda_graphs") if k in shared] + (["precision"] if shared.get("precision") == "tf32" else []):
                del shared[key]
        _make_small(experiment, compute.get("processes", 1))
    for features in small.get("features", {}).values():
        if features.get("reference"):
            features["reference"] = tiny_archives.COUNT
    for latents in small.get("latents", {}).values():
        latents |= {"count": FEW_LATENTS, "measured": FEW_IMAGES}
    return small


def steps(tier: Tier) -> list[Step]:
    """Everything that `dvc repro` runs at tier paper, in order: the check, every stage of the plan, and the report."""

    def here(paths: Sequence[str]) -> tuple[str, ...]:
        return tuple(path.replace("${item.tier}", TIER) for path in paths)

    artifacts, found = Path(pipeline.ARTIFACTS.replace("${item.tier}", TIER)), []
    inputs = (artifacts / "inputs").as_posix()
    for stage in pipeline.plan(tier):
        executed = executed_name(stage.notebook, None if stage.experiment == TOUR else stage.experiment, stage.method)
        makes = (*here(stage.outs), (artifacts / "notebooks" / executed).as_posix())
        trains = (makes[0], (stage.experiment, stage.method)) if stage.method else ()
        found.append(Step(stage.name, tuple(pipeline.words(stage, TIER)), here(stage.after), makes, *trains))
    reports = tuple(path for step in found for path in step.makes if Path(path).parent == artifacts / "report")
    check = Step("check", ("check", "--tier", TIER, "--inputs", inputs), (), (inputs,))
    return [check, *found, Step("publish", ("publish", "--tier", TIER), reports, (f"results/{TIER}/report.md",))]


def chosen(every: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps called `names`, and all that make what these need, in order; every step without names.

    Raises RehearsalError, naming the nearest, for a name that there is not.
    """
    by_name, makers = {step.name: step for step in every}, {path: step.name for step in every for path in step.makes}
    wanted: set[str] = set()
    todo = list(names) or list(by_name)
    while todo:
        name = todo.pop()
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 4) or list(by_name)[:4]
            raise RehearsalError(f"there is no stage '{name}' at tier {TIER}; there are {', '.join(near)} and others, as in dvc.yaml and {pipeline.PAPER_ONLY}")
        if name not in wanted:
            wanted.add(name)
            todo += [makers[path] for path in by_name[name].after]
    return [step for step in every if step.name in wanted]


def lay_out(root: Path, device: str, devices: int) -> Path:
    """Make or refresh the rehearsal's tree below `root`, and return it; raises SettingsError for what is wrong in params.yaml.

    Raises RehearsalError where something that is no rehearsal's is in its place.
    """
    tree = root / TREE
    if tree.exists() and not rehearsed.here(tree):
        raise RehearsalError(f"{tree} holds something that is no rehearsal's: move it away or delete it")
    rehearsed.mark(tree)
    shutil.rmtree(tree / "notebooks", ignore_errors=True)
    shutil.copytree(root / "notebooks", tree / "notebooks", ignore=shutil.ignore_patterns(".ipynb_checkpoints", "kernel-ipc-*"))
    small = settings(experiments.read(root / "params.yaml")[TIER], device, devices)
    write_atomically(tree / "params.yaml", yaml.safe_dump({"tier": TIER, TIER: small}, sort_keys=False, width=140).encode())
    # a root has a dvc.yaml; DVC, which looks for these files in all folders, must find no stage in this one
    write_atomically(tree / "dvc.yaml", b"stages: {}\n")
    tier = experiments.load(tree / "params.yaml", TIER)
    for name in sorted({name for stage in pipeline.plan(tier) for name in stage.data}):
        if not (tree / name).is_file():
            write_atomically(tree / name, EXPORTS[name]())
    if not (tree / "data" / TIER / "inception").exists():
        tiny_archives.write(tree / "data" / TIER)
    for own in tier.latents.values():
        # where the published one would be looked for
        folder = tree / "data" / TIER / own.autoencoder.repository.partition("/")[2] if own.autoencoder.kind == "pretrained" else tree
        if not folder.exists():
            tiny_archives.autoencoder(folder)
    return tree


def _environment(tree: Path) -> dict[str, str]:
    """What a stage gets: the rehearsal's archives, this very package, and nothing of another workspace."""
    package = str(Path(__file__).resolve().parents[1])
    kept = {key: value for key, value in os.environ.items() if key not in (PIPELINE, SCRATCH, CHANNEL)}
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return kept | {ENVIRONMENT: str((tree / "data" / TIER).resolve()), "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def to_come(tree: Path, todo: Sequence[Step]) -> list[Step]:
    """Those of the steps `todo`, in order, that have not run in `tree`, and those whose files are gone and wanted by one of these."""
    found: list[Step] = []
    for step in reversed(todo):
        gone = {path for path in step.makes if not (tree / path).exists()}
        if step.makes[-1] in gone or any(gone & set(other.after) for other in found):
            found.insert(0, step)
    return found


def _tidy(tree: Path, every: Sequence[Step]) -> None:
    """Delete what nobody needs any more: states of finished trainings, and weights whose every reader has run. They are the tier's gigabytes."""
    shutil.rmtree(tree / "artifacts" / TIER / "states", ignore_errors=True)
    for step in every:
        if step.trains and all((tree / other.makes[-1]).exists() for other in every if step.trains in other.after):
            shutil.rmtree(tree / step.trains, ignore_errors=True)


def first_step(experiment: str, method: str) -> None:
    """Bring the trainings of a method to their first step, in the tree where this process stands.

    The stage that follows has to go on from a stored state, as every long training does many times.
    """
    os.environ[PIPELINE] = "1"
    for job, mark in training.jobs(Study.open(TIER, experiment), method):
        advance(job, mark, 1, lambda step: None)


def _inception(device: str) -> str:
    """Try the true Inception on four images where its verified file is there; returns what there is to say of it."""
    from .metrics.features import INCEPTION, extract, inception

    path = folder_of("inception") / INCEPTION
    if not path.is_file():
        return f"{path} is not there, so Inception itself is not rehearsed (`python -m fewstep preflight` says where to get it)"
    import numpy as np

    found = extract(np.zeros((4, 3, 32, 32), np.uint8), inception(path), device=device)
    return f"Inception's weights are there and verified: {found.values.shape[1]} features of four images came out"


def rehearse(root: Path, device: str, names: Sequence[str] = (), go_on: bool = False) -> None:
    """Run the steps called `names` with what they need, or all of tier paper, in artifacts/rehearsal below `root`, on `device`.

    Prints what is rehearsed and, at the end, the seconds and peak memory of every stage. Nothing else below `root` is
    written. With `go_on`, what an earlier rehearsal finished is kept. Raises RehearsalError, naming the stage, at the
    first that fails, RuntimeError where `device` is "cuda" and there is none, and ValueError for a wrong params.yaml.
    """
    devices = os.cpu_count() or 1
    if device == "cuda":
        from .devices import require_cuda

        require_cuda()
        import torch

        devices = torch.cuda.device_count()
    every = steps(experiments.load(root / "params.yaml", TIER))
    todo = chosen(every, names)
    if not go_on and rehearsed.here(root / TREE):
        shutil.rmtree(root / TREE)
    tree = lay_out(root, device, devices)
    if go_on:
        todo = to_come(tree, todo)
    print(f"This is a rehearsal of tier {TIER} on {device}: true networks, {STEPS} steps, tiny archives, {len(todo)} stages below {TREE}.")
    print("Its numbers mean nothing: every row's revision says 'rehearsal', and images are measured in 3 channel means, not by Inception.")
    print(_inception(device), flush=True)
    spent: dict[str, Spent] = {}
    try:
        for k, step in enumerate(todo, 1):
            print(f"[{k}/{len(todo)}] {step.name}", flush=True)
            goes = [["-m", "fewstep", *step.words]]
            if step.trained:
                goes.insert(0, ["-c", FIRST_STEP, *step.trained])
            for words in goes:
                took = supervise([sys.executable, *words], tree, _environment(tree), device)
                spent[step.name] = spent[step.name].and_then(took) if step.name in spent else took
                if took.failed:
                    raise RehearsalError(f"the rehearsal stopped at the stage '{step.name}': {took.failed}")
            _tidy(tree, every)
    finally:
        print(table(spent), flush=True)


def table(spent: Mapping[str, Spent]) -> str:
    """What the stages took, for people: stage, seconds, peak memory of its largest process, peak of the GPU where there is one."""
    width = max([len(name) for name in spent] or [5])
    rows = [f"{'stage':{width}}  seconds  peak memory  peak on GPU"]
    for name, own in spent.items():
        gpu = f"{own.device_bytes / 2**30:8.1f} GB" if own.device_bytes is not None else "          -"
        rows.append(f"{name:{width}}  {own.seconds:7.1f}  {own.bytes / 2**30:8.1f} GB  {gpu}" + ("  FAILED" if own.failed else ""))
    longest = sorted(spent, key=lambda name: -spent[name].seconds)[:3]
    rows.append(f"{len(spent)} stages, {sum(own.seconds for own in spent.values()):.0f} s; longest: {', '.join(longest)}")
    return "\n".join(rows)
