"""A rehearsal: every stage of tier paper, with its true networks, in minutes, before it takes days of a GPU.

A tree of its own, artifacts/rehearsal, gets the notebooks, the settings of tier paper made small, tiny
archives in the published formats, and untrained networks where published ones are taken. Each stage then runs
there as DVC would run it, one after another. What is made small is the amount: batches, steps, seeds,
samples. Networks, optimisers, objectives, samplers and metrics stay; only where the networks of text-to-image
would not fit are they made narrow, and it says so. The tree says that it is a rehearsal's, and so does the
`revision` of every number in it.
"""

from __future__ import annotations

import difflib
import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..data.export import EXPORTS
from ..data.formats.archives import ENVIRONMENT, folder_of
from ..pipeline.stages import PAPER_ONLY, Stage, plan
from ..settings import tiers
from ..settings.tiers import Tier
from ..storage import stand_in
from ..storage.checkpoint import CheckpointError
from ..storage.files import write_atomically
from ..storage.progress import CHANNEL
from ..storage.workspace import PIPELINE, SCRATCH
from ..training import published_weights
from ..training.prepare import prepared
from . import disk, settings, tiny_archives, tiny_captioned
from .process import Usage, run
from .settings import STEPS, TIER

TREE = Path("artifacts") / "rehearsal"
# the target's reference sample: all else that tier paper reads comes from archives
SHIPPED = "data/checkerboard.npy"
CAPTIONED = {"laion": tiny_captioned.laion, "coco": tiny_captioned.coco}


class RehearsalError(RuntimeError):
    """A stage cannot be rehearsed; the message names it and says what it said."""


def _needs(stage: Stage, other: Stage) -> bool:
    """Whether `stage` depends on something that `other` makes."""
    pairs = [(Path(dep), Path(out)) for dep in stage.deps for out in other.outs]
    return any(dep == out or dep in out.parents or out in dep.parents for dep, out in pairs)


def chosen(stages: Sequence[Stage], names: Sequence[str]) -> list[Stage]:
    """The stages called `names`, or all, with what they need, in order; a name may leave its tier out.

    Raises RehearsalError, naming the nearest, for a name that there is not.
    """
    known = {stage.name.replace(f"@{TIER}-", "@").removesuffix(f"@{TIER}"): stage for stage in stages}
    todo = [] if names else list(stages)
    for name in names:
        short = name.replace(f"@{TIER}-", "@").removesuffix(f"@{TIER}")
        if short not in known:
            near = difflib.get_close_matches(short, known, 4) or list(known)[:4]
            raise RehearsalError(
                f"there is no stage '{name}' at tier {TIER}; there are {', '.join(near)} and others, as in "
                f"dvc.yaml and {PAPER_ONLY}"
            )
        todo.append(known[short])
    wanted: set[str] = set()
    while todo:
        stage = todo.pop()
        if stage.name not in wanted:
            wanted.add(stage.name)
            todo += [other for other in stages if _needs(stage, other)]
    return [stage for stage in stages if stage.name in wanted]


def _write_networks(tier: Tier, folder: Path, narrow: bool, stages: Sequence[Stage]) -> None:
    """Untrained networks in `folder` where `stages` take published ones, each where it is looked for.

    What is there stays. With `narrow`, the autoencoder is one of a sixteenth of the time.
    """
    from . import tiny_networks  # here, and not above: diffusers and transformers take seconds to load

    entries = [prepared(tier, stage.data) for stage in stages if stage.data]
    for name in dict.fromkeys(name for own in entries for name in own["latents"]):
        autoencoder = tier.latents[name].autoencoder
        place = _place(folder, autoencoder.repository) if autoencoder.kind == "pretrained" else None
        if place and not stand_in.is_marked(place):
            channels = tiny_networks.NARROW_AUTOENCODER if narrow else tiny_networks.AUTOENCODER
            tiny_networks.autoencoder(place, channels)
    for name in dict.fromkeys(name for own in entries for name in own["clip"]):
        clip = tier.clip[name]
        place = _place(folder, clip.repository) if clip.kind == "published" else None
        if place and not stand_in.is_marked(place):
            tiny_networks.clip(place, disk.token_states(tier, name)[1], clip.towers)
    trained = {stage.experiment for stage in stages}
    for k, weights in enumerate(published_weights.weights_files(tier)):
        if weights.experiment in trained and not _holds(folder / weights.name, weights.network):
            tiny_networks.weights(folder / weights.name, weights.network, weights.shape, k)


def _place(folder: Path, repository: str) -> Path:
    """Where a published repository would lie."""
    return folder / repository.partition("/")[2]


def _holds(path: Path, network: Mapping[str, object]) -> bool:
    """Whether weights of the settings `network` lie in `path`: another device rehearses at another width."""
    try:
        return published_weights.header(path)["network"] == network
    except CheckpointError:
        return False


def lay_out(
    root: Path, device: str, devices: int, memory: int | None = None, stages: Sequence[Stage] = ()
) -> Path:
    """Make or refresh the rehearsal's tree below `root`, and return it; raises as `settings.read`.

    `memory` is the GPU's, in bytes; the networks that `stages` take are written, and no others. Raises
    RehearsalError where something that is no rehearsal's is in its place.
    """
    tree = root / TREE
    if tree.exists() and not stand_in.is_marked(tree):
        raise RehearsalError(f"{tree} holds something that is no rehearsal's: move it away or delete it")
    stand_in.mark(tree)
    shutil.rmtree(tree / "notebooks", ignore_errors=True)
    left_out = shutil.ignore_patterns(".ipynb_checkpoints", "kernel-ipc-*")
    shutil.copytree(root / "notebooks", tree / "notebooks", ignore=left_out)
    paper = settings.read(root)
    settings.write(tree, settings.small(paper, device, devices, memory))
    # a root has these files; DVC, which looks for them in all folders, must find no stage in this one
    for name in ("dvc.yaml", PAPER_ONLY):
        write_atomically(tree / name, b"stages: {}\n")
    if not (tree / SHIPPED).is_file():
        write_atomically(tree / SHIPPED, EXPORTS[SHIPPED]())
    folder = tree / "data" / TIER
    if not (folder / "inception").exists():
        tiny_archives.write(folder)
    for name, write in CAPTIONED.items():
        if not stand_in.is_marked(folder / name):
            write(folder / name)
    narrow = device == "cpu" and settings.too_small(paper, device, memory) is not None
    _write_networks(tiers.load(tree / "params.yaml", TIER), folder, narrow, stages)
    return tree


def _environment(tree: Path) -> dict[str, str]:
    """What a stage gets: the rehearsal's archives, this very package, and nothing of another workspace."""
    package = str(Path(__file__).resolve().parents[2])
    kept = {key: value for key, value in os.environ.items() if key not in (PIPELINE, SCRATCH, CHANNEL)}
    paths = [package, *filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))]
    archives = str((tree / "data" / TIER).resolve())
    return kept | {ENVIRONMENT: archives, "PYTHONPATH": os.pathsep.join(dict.fromkeys(paths))}


def _done(tree: Path, stage: Stage) -> Path:
    """The file that says that a stage has run in `tree`."""
    return tree / "done" / stage.name


def _tidy(tree: Path, stages: Sequence[Stage]) -> None:
    """Delete what nobody needs any more: the states of trainings, and weights that all have read."""
    shutil.rmtree(tree / "artifacts" / TIER / "states", ignore_errors=True)
    for stage in stages:
        readers = [other for other in stages if _needs(other, stage)]
        if stage.name.startswith(("teacher", "students")) and all(
            _done(tree, own).exists() for own in readers
        ):
            shutil.rmtree(tree / stage.outs[0], ignore_errors=True)


def _narrowed(why: str, device: str) -> str:
    """What there is to say of networks that are rehearsed at reduced width, and why."""
    too = ", and so are autoencoders" if device == "cpu" else ""
    how = f"at reduced width, about a fifth of their channels{too}, because {why}"
    return f"Networks of text-to-image are rehearsed {how}: neither memory nor seconds are theirs."


def _inception(device: str) -> str:
    """Try the true Inception on four images where its verified file is there; returns what to say of it."""
    from ..metrics.features import INCEPTION, extract, inception

    path = folder_of("inception") / INCEPTION
    if not path.is_file():
        return (
            f"{path} is not there, so Inception itself is not rehearsed (`python -m fewstep preflight` says "
            "where to get it)"
        )
    import numpy as np

    features = extract(np.zeros((4, 3, 32, 32), np.uint8), inception(path), device=device).values.shape[1]
    return f"Inception's weights are there and verified: {features} features of four images came out"


def _machine(device: str) -> tuple[int, int | None]:
    """The number of GPUs and the bytes of one, or of cores and None; raises RuntimeError without a GPU."""
    if device == "cpu":
        return os.cpu_count() or 1, None
    import torch

    from ..training.processes import require_cuda

    require_cuda()
    return torch.cuda.device_count(), torch.cuda.get_device_properties(0).total_memory


def rehearse(root: Path, device: str, names: Sequence[str] = (), resume: bool = False) -> None:
    """Run the stages called `names` with what they need, or all of tier paper, on `device`.

    Prints what is rehearsed and, at the end, the seconds and peak memory of every stage. Nothing else below
    `root` is written. With `resume`, stages that an earlier rehearsal finished are not run again. Raises
    RehearsalError, naming the stage, at the first that fails, RuntimeError where `device` is "cuda" and there
    is none, and ValueError for a wrong params.yaml.
    """
    devices, memory = _machine(device)
    every = plan(root, TIER)
    stages = chosen(every, names)
    if not resume and stand_in.is_marked(root / TREE):
        shutil.rmtree(root / TREE)
    tree = lay_out(root, device, devices, memory, stages)
    stages = [stage for stage in stages if not _done(tree, stage).exists()]
    print(
        f"This is a rehearsal of tier {TIER} on {device}: true networks, {STEPS} steps, tiny archives, "
        f"{len(stages)} stages below {TREE}."
    )
    print(
        "Its numbers mean nothing: every row's revision says 'rehearsal', and images are measured in 3 "
        "channel means, not by Inception."
    )
    why = settings.too_small(settings.read(root), device, memory)
    if why and any("latents" in stage.name or "captions" in stage.name for stage in stages):
        print(_narrowed(why, device))
    print(_inception(device), flush=True)
    used: dict[str, Usage] = {}
    try:
        for k, stage in enumerate(stages, 1):
            print(f"[{k}/{len(stages)}] {stage.name}", flush=True)
            own = run([sys.executable, "-m", "fewstep", *stage.words], tree, _environment(tree), device)
            used[stage.name] = own
            if own.error:
                raise RehearsalError(f"the rehearsal stopped at the stage '{stage.name}': {own.error}")
            write_atomically(_done(tree, stage), b"")
            _tidy(tree, every)
    finally:
        print(table(used), flush=True)


def table(used: Mapping[str, Usage]) -> str:
    """What the stages took, for people: seconds, peak memory of the largest process, and peak of the GPU."""
    width = max([len(name) for name in used] or [5])
    rows = [f"{'stage':{width}}  seconds  peak memory  peak on GPU"]
    for name, own in used.items():
        gpu = f"{own.device_bytes / 2**30:8.1f} GB" if own.device_bytes is not None else "          -"
        row = f"{name:{width}}  {own.seconds:7.1f}  {own.memory / 2**30:8.1f} GB  {gpu}"
        rows.append(row + ("  FAILED" if own.error else ""))
    longest = sorted(used, key=lambda name: -used[name].seconds)[:3]
    seconds = sum(own.seconds for own in used.values())
    return "\n".join([*rows, f"{len(used)} stages, {seconds:.0f} s; longest: {', '.join(longest)}"])
