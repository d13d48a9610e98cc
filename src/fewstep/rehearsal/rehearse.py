"""A rehearsal: every stage of tier paper, with its true networks, in minutes, before it takes days of a GPU.

A tree of its own, artifacts/rehearsal, gets the notebooks, the settings of tier paper made small, tiny
archives, and untrained networks in the place of published ones. Each stage then runs there as DVC would run
it. Tree and `revision` of every number in it say that they are a rehearsal's. What is made small is the
amount: batches, steps, seeds, samples; networks only on a CPU, where they would not fit.
"""

import difflib
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from math import lcm
from pathlib import Path
from typing import Any

import torch

from ..data.export import EXPORTS
from ..data.formats.archives import ENVIRONMENT
from ..evaluation.measures import NEIGHBOURS
from ..evaluation.sample import POINTS
from ..pipeline.stages import PAPER_ONLY, Stage, plan
from ..settings import document, tiers
from ..settings.resolve import as_file
from ..settings.tiers import Tier
from ..storage import stand_in
from ..storage.files import lock, write_atomically
from ..storage.progress import CHANNEL
from ..storage.workspace import PIPELINE, SCRATCH
from ..training import published_weights
from ..training.prepare import prepared
from ..training.processes import require_cuda
from . import tiny_archives
from .forecast import token_states

TIER, TREE = "paper", Path("artifacts") / "rehearsal"
# the target's reference sample: all else that tier paper reads comes from archives
SHIPPED = "data/checkerboard.npy"
STEPS = 2
# of each process: a sample for every term of every method, and samples that share a teacher's solution
BATCH = 8
# on a CPU, where each has a network and its batch in memory
MOST_WORKERS = 4
# points: enough for a histogram's divergence to be positive; images: the neighbours that precision asks for
FEW_POINTS, FEW_PAIRS, FEW_IMAGES = 8 * POINTS, 100, NEIGHBOURS + 1
# of 256 x 256 pixels, each a minute of a CPU through the published autoencoder
FEW_LATENTS = 4
# network calls a sample: the most that claims name with captions, in distillation and in self-distillation;
# and those of a row that is drawn in more alone
WITH_CAPTIONS, DISTILLED, SELF_DISTILLED, FEW = 4, 8, 16, 2
# the network of 860M weights, whose step takes more than 30 GB: on a CPU its levels have a NARROWER-th of
# the channels
WIDE, NARROWER = "published_unet", 5


class RehearsalError(RuntimeError):
    """A stage cannot be rehearsed; the message names it."""


def narrow(network: Mapping[str, Any]) -> list[int]:
    """The channels of a network with about a fifth of them, as its heads and groups divide them."""
    unit = lcm(network["heads"], network["groups"])
    return [max(round(width / NARROWER / unit), 1) * unit for width in network["channels"]]


def _make_small(experiment: dict[str, Any], processes: int) -> None:
    training, sampling, metrics = (experiment[key] for key in ("training", "sampling", "metrics"))
    training["batch"], training["seeds"] = BATCH * processes, training["seeds"][:1]
    for method in experiment["methods"].values():
        method["steps"] = STEPS
        # a loss that waits for its first step would not be rehearsed
        for loss in method.get("self_correction", {}).values():
            if isinstance(loss, dict) and "warmup" in loss:
                loss["warmup"] = 0
    images = "features" in metrics
    sampling["count"] = FEW_IMAGES if images else FEW_POINTS
    # two where a measure compares one noise with another; sampling self-distillation's networks takes longest
    sampling["seeds"] = sampling["seeds"][: 2 if "t_fid" in metrics["measures"] or not images else 1]
    if "w2_samples" in metrics:
        metrics["w2_samples"] = min(metrics["w2_samples"], FEW_PAIRS)
    if not images:
        return
    # images in few steps, those that the claims name among them
    reference = metrics.get("reference")
    most = WITH_CAPTIONS if "prompts" in sampling else DISTILLED if reference else SELF_DISTILLED
    drawn = sampling["steps"].items()
    sampling["steps"] = {method: [n for n in steps if n <= most] or [FEW] for method, steps in drawn}
    for solvers in sampling.get("solvers", {}).values():
        solvers.update({solver: [min(n, FEW) for n in steps[:1]] for solver, steps in solvers.items()})
    if reference:
        reference["steps"] = max(sampling["steps"][reference["method"]])
    if "speed" in experiment:
        experiment["speed"] = {"batches": [1, 2], "repeats": 2}


def small(paper: Mapping[str, Any], device: str, devices: int) -> dict[str, Any]:
    """The settings `paper`, which are left alone, made small for `device` ("cpu" or "cuda").

    `devices` is the number of GPUs, or of a CPU's cores. `processes` are no more than the GPUs (on a CPU, 1),
    `workers` no more than the cores can keep busy.
    """
    # as plain values, before they are validated; through JSON, where what two experiments share becomes two
    settings = json.loads(json.dumps(paper))
    compute, experiments = settings["compute"], [settings["tour"], *settings["experiments"].values()]
    compute["device"] = device
    if device == "cpu":
        compute["workers"] = min(devices, MOST_WORKERS)
    for place in (compute, *(experiment["training"] for experiment in experiments)):
        if "processes" in place:
            place["processes"] = 1 if device == "cpu" else min(place["processes"], devices)
    for experiment in experiments:
        training = experiment["training"]
        _make_small(experiment, training.get("processes", compute.get("processes", 1)))
        if device == "cpu":
            only = ("compile", "cuda_graphs", "precision" if training.get("precision") == "tf32" else "")
            experiment["training"] = {k: v for k, v in training.items() if k not in only}
            for place in (experiment["training"], *experiment["methods"].values()):
                if place.get("network", {}).get("kind") == WIDE:
                    place["network"]["channels"] = narrow(place["network"])
    for features in settings.get("features", {}).values():
        if features.get("reference"):
            features["reference"] = tiny_archives.OF_COCO if "prompts" in features else tiny_archives.COUNT
    for latents in settings.get("latents", {}).values():
        latents |= {"count": FEW_LATENTS, "measured": FEW_IMAGES}
    return settings


def _short(name: str) -> str:
    """The name of a stage without its tier."""
    return name.replace(f"@{TIER}-", "@").removesuffix(f"@{TIER}")


def chosen(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """The stages called `names`, or all, with what they need, in order; a name may leave its tier out.

    Raises RehearsalError, naming the nearest, for a name that there is not.
    """
    known = {_short(stage.name): stage for stage in stages}
    for name in names:
        if _short(name) not in known:
            near = ", ".join(difflib.get_close_matches(_short(name), known, 4) or list(known)[:4])
            there = f"there are {near} and others, as in dvc.yaml and {PAPER_ONLY}"
            raise RehearsalError(f"there is no stage '{name}' at tier {TIER}; {there}")
    todo, wanted = [known[_short(name)] for name in names] or list(stages), set()
    while todo:
        stage = todo.pop()
        if stage.name not in wanted:
            wanted.add(stage.name)
            todo += filter(stage.reads, stages)
    return [stage for stage in stages if stage.name in wanted]


def _write_networks(tier: Tier, folder: Path, narrow: bool, stages: Sequence[Stage]) -> None:
    """Untrained networks in `folder` where `stages` take published ones, each where it is looked for.

    With `narrow`, the autoencoder is one of a sixteenth of the time.
    """
    from . import tiny_networks  # here, and not above: diffusers and transformers take seconds to load

    entries = [prepared(tier, stage.data) for stage in stages if stage.data]
    coders = [tier.latents[name].autoencoder for entry in entries for name in entry["latents"]]
    channels = tiny_networks.NARROW_AUTOENCODER if narrow else tiny_networks.AUTOENCODER
    for repository in {own.repository for own in coders if own.kind == "pretrained"}:
        tiny_networks.autoencoder(folder / repository.partition("/")[2], channels)
    for name in {name for entry in entries for name in entry["clip"]}:
        own = tier.clip[name]
        if own.kind == "published":
            place = folder / own.repository.partition("/")[2]
            tiny_networks.clip(place, token_states(tier, name)[1], own.towers)
    trained = {stage.experiment for stage in stages}
    for k, weights in enumerate(published_weights.weights_files(tier)):
        if weights.experiment in trained:
            tiny_networks.weights(folder / weights.name, weights.network, weights.shape, k)


@contextmanager
def _emptied(tree: Path) -> Iterator[None]:
    """Hold the rehearsal's tree, without what an earlier one has left there.

    Raises RehearsalError where another one runs in it, or something that is no rehearsal's is in its place.
    """
    if tree.exists() and not (tree.is_dir() and (stand_in.is_marked(tree) or not any(tree.iterdir()))):
        raise RehearsalError(f"{tree} holds something that is no rehearsal's: move it away or delete it")
    tree.mkdir(parents=True, exist_ok=True)
    # of the folder itself: the system lets go of it, however a rehearsal ends
    held = os.open(tree, os.O_RDONLY)
    try:
        if not lock(held):
            raise RehearsalError(f"another rehearsal is running in {tree}: wait for its end, or end it")
        for path in tree.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != stand_in.FILE:  # it says whose the tree is, in case this is ended halfway
                path.unlink()
        yield
    finally:
        os.close(held)


def lay_out(root: Path, device: str, devices: int, stages: Sequence[Stage] = ()) -> Path:
    """Fill the rehearsal's tree below `root`, with the networks that `stages` take, and return it.

    `devices` is as in `small`; raises SettingsError for a wrong params.yaml.
    """
    tree = root / TREE
    stand_in.mark(tree)
    left_out = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(root / "notebooks", tree / "notebooks", ignore=left_out)
    paper = tiers.section(root / "params.yaml", TIER)
    less = as_file(small(paper, device, devices), TIER)
    write_atomically(tree / "params.yaml", document.dump(less).encode())
    # a root has these files; DVC, which looks for them in all folders, must find no stage in this one
    for name in ("dvc.yaml", PAPER_ONLY):
        write_atomically(tree / name, b"stages: {}\n")
    write_atomically(tree / SHIPPED, EXPORTS[SHIPPED]())
    folder = tree / "data" / TIER
    tiny_archives.write(folder)
    tiny_archives.laion(folder / "laion")
    tiny_archives.coco(folder / "coco")
    _write_networks(tiers.load(tree / "params.yaml", TIER), folder, device == "cpu", stages)
    return tree


def rehearse(root: Path, device: str, names: Sequence[str] = ()) -> None:
    """Run the stages called `names` with what they need, or all of tier paper, on `device`.

    Raises RehearsalError, naming the stage, at the first that fails, and where another rehearsal is running;
    RuntimeError where `device` is "cuda" and there is none; ValueError for a wrong params.yaml.
    """
    if device == "cuda":
        require_cuda()
    devices = torch.cuda.device_count() if device == "cuda" else os.cpu_count() or 1
    stages, started = chosen(plan(root, TIER), names), time.monotonic()
    with _emptied(root / TREE):
        tree = lay_out(root, device, devices, stages)
        amounts = f"{STEPS} steps, tiny archives, {len(stages)} stages below {TREE}"
        print(f"This is a rehearsal of tier {TIER} on {device}: true networks, {amounts}.")
        measured = "images are measured in 3 channel means, not by Inception"
        print(f"Its numbers mean nothing: every row's revision says 'rehearsal', and {measured}.")
        if device == "cpu":
            how = "about a fifth of their channels, and published autoencoders a quarter"
            print(f"For the sake of a CPU the networks of text-to-image have {how}.", flush=True)
        # the rehearsal's archives, this very package, and nothing of another workspace
        kept = {key: value for key, value in os.environ.items() if key not in (PIPELINE, SCRATCH, CHANNEL)}
        others = filter(None, kept.get("PYTHONPATH", "").split(os.pathsep))
        paths = os.pathsep.join([str(Path(__file__).resolve().parents[2]), *others])
        environment = kept | {ENVIRONMENT: str((tree / "data" / TIER).resolve()), "PYTHONPATH": paths}
        for k, stage in enumerate(stages, 1):
            print(f"[{k}/{len(stages)}] {stage.name}", flush=True)
            words = [sys.executable, "-m", "fewstep", *stage.words]
            if subprocess.run(words, cwd=tree, env=environment, stdout=subprocess.DEVNULL).returncode:
                raise RehearsalError(f"the rehearsal stopped at the stage '{stage.name}': see above")
            # large, and of no use to another stage
            shutil.rmtree(tree / "artifacts" / TIER / "states", ignore_errors=True)
    print(f"{len(stages)} stages ran in {time.monotonic() - started:.0f} s")
