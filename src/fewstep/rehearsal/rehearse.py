"""A rehearsal: every stage of tier paper, with its true networks, in minutes, before anybody gives it days of a GPU.

A tree of its own, artifacts/rehearsal, gets the notebooks, the paper section of params.yaml made small, tiny archives in
the published formats, and untrained networks where published ones are taken. Each stage then runs there as DVC would run
it, one after another. What is made small is the amount: batches, steps, seeds, samples. Networks, optimisers, objectives,
samplers and metrics stay; only where the networks of text-to-image would not fit are they made narrow, and it says so. The
tree says that it is a rehearsal's, and so does the `revision` of every number in it.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.export import EXPORTS
from ..data.formats.archives import ENVIRONMENT, folder_of
from ..pipeline import stages as pipeline
from ..pipeline.notebooks import executed_name
from ..settings import document, tiers
from ..settings.resolve import as_file
from ..settings.tiers import Tier
from ..storage import stand_in
from ..storage.checkpoint import CheckpointError
from ..storage.files import write_atomically
from ..storage.progress import CHANNEL
from ..storage.workspace import PIPELINE, SCRATCH
from ..training import published_weights, train
from ..training.experiment import TOUR, Experiment
from ..training.job import advance
from . import disk, settings, tiny_archives, tiny_captioned
from .settings import STEPS, too_small
from .supervise import Spent, supervise

TIER, TREE = "paper", Path("artifacts") / "rehearsal"
CAPTIONED = {"laion": tiny_captioned.laion, "coco": tiny_captioned.coco}


FIRST_STEP = f"import sys; from {__name__} import first_step; first_step(*sys.argv[1:])"


class RehearsalError(RuntimeError):
    """A stage cannot be rehearsed; the message names it and says what it said."""


@dataclass(frozen=True)
class Step:
    """A stage as it is run here: its arguments for `python -m fewstep`, the files that it needs and those that it makes.

    Paths are below the tree; `trains` is the folder of weights that a training makes, and `trained` whose training it is,
    experiment and method, unless it takes its weights from a file.
    """

    name: str
    words: tuple[str, ...]
    after: tuple[str, ...]
    makes: tuple[str, ...]
    trains: str | None = None
    trained: tuple[str, str] | None = None


def steps(tier: Tier) -> list[Step]:
    """Everything that `dvc repro` runs at tier paper, in order: the check, every stage of the plan, and the report."""

    def here(paths: Sequence[str]) -> tuple[str, ...]:
        return tuple(path.replace("${item.tier}", TIER) for path in paths)

    artifacts, found = Path(pipeline.ARTIFACTS.replace("${item.tier}", TIER)), []
    inputs = (artifacts / "inputs").as_posix()
    for stage in pipeline.plan(tier):
        executed = executed_name(
            stage.notebook, None if stage.experiment == TOUR else stage.experiment, stage.method
        )
        makes = (*here(stage.outs), (artifacts / "notebooks" / executed).as_posix())
        trains = makes[0] if stage.method else None
        own = tier.experiments[stage.experiment].methods[stage.method] if trains else None
        trained = (stage.experiment, stage.method) if own and not own.weights else None
        found.append(
            Step(stage.name, tuple(pipeline.words(stage, TIER)), here(stage.after), makes, trains, trained)
        )
    reports = tuple(
        path for step in found for path in step.makes if Path(path).parent == artifacts / "report"
    )
    check = Step("check", ("check", "--tier", TIER, "--inputs", inputs), (), (inputs,))
    return [
        check,
        *found,
        Step("publish", ("publish", "--tier", TIER), reports, (f"results/{TIER}/report.md",)),
    ]


def chosen(every: Sequence[Step], names: Sequence[str]) -> list[Step]:
    """The steps called `names`, and all that make what these need, in order; every step without names.

    Raises RehearsalError, naming the nearest, for a name that there is not.
    """
    by_name, makers = (
        {step.name: step for step in every},
        {path: step.name for step in every for path in step.makes},
    )
    wanted: set[str] = set()
    todo = list(names) or list(by_name)
    while todo:
        name = todo.pop()
        if name not in by_name:
            near = difflib.get_close_matches(name, by_name, 4) or list(by_name)[:4]
            raise RehearsalError(
                f"there is no stage '{name}' at tier {TIER}; there are {', '.join(near)} and others, as in dvc.yaml and {pipeline.PAPER_ONLY}"
            )
        if name not in wanted:
            wanted.add(name)
            todo += [makers[path] for path in by_name[name].after]
    return [step for step in every if step.name in wanted]


def _write_networks(tier: Tier, folder: Path, narrow: bool, stages: Collection[str]) -> None:
    """Untrained networks where the `stages` of `tier` take published ones, in `folder`, each where it would be looked for; what is there stays.

    With `narrow`, the autoencoder is one of a sixteenth of the time.
    """
    from . import tiny_networks  # here, and not above: diffusers and transformers take seconds to load

    for name, own in tier.latents.items():
        if f"autoencoder-{name}" in stages and own.autoencoder.kind == "pretrained":
            place = folder / own.autoencoder.repository.partition("/")[2]
            if not stand_in.is_marked(place):
                tiny_networks.autoencoder(
                    place, tiny_networks.NARROW_AUTOENCODER if narrow else tiny_networks.AUTOENCODER
                )
    for name, own in tier.clip.items():
        if f"clip-{name}" in stages and own.kind == "published":
            place = folder / own.repository.partition("/")[2]
            if not stand_in.is_marked(place):
                tiny_networks.clip(place, disk.reading(tier, name)[1], own.towers)
    for k, own in enumerate(published_weights.weights_files(tier)):
        if f"{own.experiment}-{own.method}" in stages and not _holds(folder / own.name, own.network):
            tiny_networks.weights(folder / own.name, own.network, own.shape, k)


def _holds(path: Path, network: Mapping[str, Any]) -> bool:
    """Whether weights of the settings `network` lie in `path`: another device may have rehearsed here at another width."""
    try:
        return published_weights.described(path)["network"] == network
    except CheckpointError:
        return False


def lay_out(
    root: Path, device: str, devices: int, memory: int | None = None, stages: Collection[str] = ()
) -> Path:
    """Make or refresh the rehearsal's tree below `root`, and return it; raises SettingsError for what is wrong in params.yaml.

    `memory` is the GPU's, in bytes; the networks that `stages` take are written, by their names, and no others. Raises
    RehearsalError where something that is no rehearsal's is in its place.
    """
    tree = root / TREE
    if tree.exists() and not stand_in.is_marked(tree):
        raise RehearsalError(f"{tree} holds something that is no rehearsal's: move it away or delete it")
    stand_in.mark(tree)
    shutil.rmtree(tree / "notebooks", ignore_errors=True)
    shutil.copytree(
        root / "notebooks",
        tree / "notebooks",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints", "kernel-ipc-*"),
    )
    paper = tiers.section(root / "params.yaml", TIER)
    small = settings.settings(paper, device, devices, memory)
    write_atomically(
        tree / "params.yaml", document.dump(as_file(small, TIER)).encode()
    )
    # a root has a dvc.yaml; DVC, which looks for these files in all folders, must find no stage in this one
    write_atomically(tree / "dvc.yaml", b"stages: {}\n")
    tier = tiers.load(tree / "params.yaml", TIER)
    for name in sorted({name for stage in pipeline.plan(tier) for name in stage.data}):
        if not (tree / name).is_file():
            write_atomically(tree / name, EXPORTS[name]())
    folder = tree / "data" / TIER
    if not (folder / "inception").exists():
        tiny_archives.write(folder)
    for name, write in CAPTIONED.items():
        if not stand_in.is_marked(folder / name):
            write(folder / name)
    _write_networks(tier, folder, device == "cpu" and too_small(paper, device, memory) is not None, stages)
    return tree


def _environment(tree: Path) -> dict[str, str]:
    """What a stage gets: the rehearsal's archives, this very package, and nothing of another workspace."""
    package = str(Path(__file__).resolve().parents[1])
    kept = {key: value for key, value in os.environ.items() if key not in (PIPELINE, SCRATCH, CHANNEL)}
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    return kept | {
        ENVIRONMENT: str((tree / "data" / TIER).resolve()),
        "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths)),
    }


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
        if step.trains and all(
            (tree / other.makes[-1]).exists() for other in every if step.trains in other.after
        ):
            shutil.rmtree(tree / step.trains, ignore_errors=True)


def first_step(experiment: str, method: str) -> None:
    """Bring the trainings of a method to their first step, in the tree where this process stands.

    The stage that follows has to go on from a stored state, as every long training does many times.
    """
    os.environ[PIPELINE] = "1"
    for job, mark in train.jobs(Experiment.open(TIER, experiment), method):
        advance(job, mark, 1, lambda step: None)


def _narrowed(paper: Mapping[str, Any], device: str, memory: int | None) -> str | None:
    """What there is to say of networks that are rehearsed at reduced width, or None."""
    why = too_small(paper, device, memory)
    too = ", and so are autoencoders" if device == "cpu" else ""
    how = f"at reduced width, about a fifth of their channels{too}, because {why}"
    return why and f"Networks of text-to-image are rehearsed {how}: neither memory nor seconds are theirs."


def _inception(device: str) -> str:
    """Try the true Inception on four images where its verified file is there; returns what there is to say of it."""
    from ..metrics.features import INCEPTION, extract, inception

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
    devices, memory = os.cpu_count() or 1, None
    if device == "cuda":
        from ..training.devices import require_cuda

        require_cuda()
        import torch

        devices, memory = torch.cuda.device_count(), torch.cuda.get_device_properties(0).total_memory
    every = steps(tiers.load(root / "params.yaml", TIER))
    todo = chosen(every, names)
    if not go_on and stand_in.is_marked(root / TREE):
        shutil.rmtree(root / TREE)
    tree = lay_out(root, device, devices, memory, [step.name for step in todo])
    latent = any(step.name.startswith("autoencoder-") for step in todo)
    if go_on:
        todo = to_come(tree, todo)
    print(
        f"This is a rehearsal of tier {TIER} on {device}: true networks, {STEPS} steps, tiny archives, {len(todo)} stages below {TREE}."
    )
    print(
        "Its numbers mean nothing: every row's revision says 'rehearsal', and images are measured in 3 channel means, not by Inception."
    )
    if (said := _narrowed(tiers.section(root / "params.yaml", TIER), device, memory)) and latent:
        print(said)
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
        rows.append(
            f"{name:{width}}  {own.seconds:7.1f}  {own.bytes / 2**30:8.1f} GB  {gpu}"
            + ("  FAILED" if own.failed else "")
        )
    longest = sorted(spent, key=lambda name: -spent[name].seconds)[:3]
    rows.append(
        f"{len(spent)} stages, {sum(own.seconds for own in spent.values()):.0f} s; longest: {', '.join(longest)}"
    )
    return "\n".join(rows)
