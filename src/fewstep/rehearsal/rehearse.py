"""A rehearsal: every stage of tier paper, with its true networks, in minutes, before it takes days of a GPU.

A tree of its own, artifacts/rehearsal, gets the notebooks, the settings of tier paper made small, tiny
archives, and untrained networks in the place of published ones. Each stage then runs there as DVC would run
it. Tree and `revision` of every number in it say that they are a rehearsal's.
"""

import difflib
import fcntl
import os
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch

from ..data.export import EXPORTS
from ..data.formats.archives import ENVIRONMENT, folder_of
from ..metrics.features import INCEPTION, extract, inception
from ..pipeline.stages import PAPER_ONLY, Stage, plan
from ..settings import document, tiers
from ..settings.resolve import as_file
from ..settings.tiers import Tier
from ..storage import stand_in
from ..storage.checkpoint import CheckpointError
from ..storage.files import write_atomically
from ..storage.progress import CHANNEL
from ..storage.workspace import PIPELINE, SCRATCH
from ..training import published_weights
from ..training.prepare import prepared
from ..training.processes import require_cuda
from ..training.weights import PHASES
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
            todo += [other for other in stages if _needs(stage, other)]
    return [stage for stage in stages if stage.name in wanted]


def _write_networks(tier: Tier, folder: Path, narrow: bool, stages: Sequence[Stage]) -> None:
    """Untrained networks in `folder` where `stages` take published ones, each where it is looked for.

    What is there stays. With `narrow`, the autoencoder is one of a sixteenth of the time.
    """
    from . import tiny_networks  # here, and not above: diffusers and transformers take seconds to load

    def wanted(repository: str) -> Path | None:
        place = folder / repository.partition("/")[2]
        return None if stand_in.is_marked(place) else place

    entries = [prepared(tier, stage.data) for stage in stages if stage.data]
    channels = tiny_networks.NARROW_AUTOENCODER if narrow else tiny_networks.AUTOENCODER
    for own in (tier.latents[name].autoencoder for entry in entries for name in entry["latents"]):
        if own.kind == "pretrained" and (place := wanted(own.repository)):
            tiny_networks.autoencoder(place, channels)
    for name in (name for entry in entries for name in entry["clip"]):
        own = tier.clip[name]
        if own.kind == "published" and (place := wanted(own.repository)):
            tiny_networks.clip(place, disk.token_states(tier, name)[1], own.towers)
    trained = {stage.experiment for stage in stages}
    for k, weights in enumerate(published_weights.weights_files(tier)):
        if weights.experiment in trained and not _holds(folder / weights.name, weights.network):
            tiny_networks.weights(folder / weights.name, weights.network, weights.shape, k)


def _holds(path: Path, network: Mapping[str, object]) -> bool:
    """Whether weights of the settings `network` lie in `path`: another device rehearses at another width."""
    try:
        return published_weights.header(path)["network"] == network
    except CheckpointError:
        return False


def _require_own(tree: Path) -> None:
    """Raise RehearsalError where something that is no rehearsal's is in the place of its tree."""
    if tree.exists() and not (tree.is_dir() and (stand_in.is_marked(tree) or not any(tree.iterdir()))):
        raise RehearsalError(f"{tree} holds something that is no rehearsal's: move it away or delete it")


@contextmanager
def _alone(tree: Path) -> Iterator[None]:
    """Hold the rehearsal's tree; raises RehearsalError where another rehearsal does."""
    _require_own(tree)
    tree.mkdir(parents=True, exist_ok=True)
    # of the folder itself: the system lets go of it, however a rehearsal ends
    held = os.open(tree, os.O_RDONLY)
    try:
        try:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            running = f"another rehearsal is running in {tree}"
            raise RehearsalError(f"{running}: wait for its end, or end it") from None
        yield
    finally:
        os.close(held)


def _clear(tree: Path) -> None:
    """Delete all of an earlier rehearsal but the word that the tree is one, in case this is ended halfway."""
    for path in tree.iterdir():
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name != stand_in.FILE:
            path.unlink()


def lay_out(
    root: Path, device: str, devices: int, memory: int | None = None, stages: Sequence[Stage] = ()
) -> Path:
    """Make or refresh the rehearsal's tree below `root`, with the networks that `stages` take, and return it.

    `memory` is the GPU's, in bytes. Raises as `settings.read`, and RehearsalError where something that is no
    rehearsal's is in its place.
    """
    tree = root / TREE
    _require_own(tree)
    stand_in.mark(tree)
    shutil.rmtree(tree / "notebooks", ignore_errors=True)
    left_out = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(root / "notebooks", tree / "notebooks", ignore=left_out)
    paper = settings.read(root)
    small = as_file(settings.small(paper, device, devices, memory), TIER)
    write_atomically(tree / "params.yaml", document.dump(small).encode())
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
    kept = {key: value for key, value in os.environ.items() if key not in (PIPELINE, SCRATCH, CHANNEL)}
    others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    paths = dict.fromkeys([str(Path(__file__).resolve().parents[2]), *others])
    archives = str((tree / "data" / TIER).resolve())
    return kept | {ENVIRONMENT: archives, "PYTHONPATH": os.pathsep.join(paths)}


def _done(tree: Path, stage: Stage) -> Path:
    return tree / "done" / stage.name


def _tidy(tree: Path, stages: Sequence[Stage]) -> None:
    """Delete what nobody needs any more: the states of trainings, and weights that all have read."""
    shutil.rmtree(tree / "artifacts" / TIER / "states", ignore_errors=True)
    for stage in stages:
        readers = [other for other in stages if _needs(other, stage)]
        if stage.name.startswith(PHASES) and all(_done(tree, own).exists() for own in readers):
            shutil.rmtree(tree / stage.outs[0], ignore_errors=True)


def _inception(device: str) -> str:
    """Try the true Inception on four images where its verified file is there; returns what to say of it."""
    path = folder_of("inception") / INCEPTION
    if not path.is_file():
        where = "(`python -m fewstep preflight` says where to get it)"
        return f"{path} is not there, so Inception itself is not rehearsed {where}"
    features = extract(np.zeros((4, 3, 32, 32), np.uint8), inception(path), device=device).values.shape[1]
    return f"Inception's weights are there and verified: {features} features of four images came out"


def _say(root: Path, device: str, memory: int | None, stages: Sequence[Stage]) -> None:
    """Print what is rehearsed, what is made narrow and why, and whether Inception is there."""
    amounts = f"true networks, {STEPS} steps, tiny archives, {len(stages)} stages below {TREE}"
    print(f"This is a rehearsal of tier {TIER} on {device}: {amounts}.")
    measured = "images are measured in 3 channel means, not by Inception"
    print(f"Its numbers mean nothing: every row's revision says 'rehearsal', and {measured}.")
    why = settings.too_small(settings.read(root), device, memory)
    if why and any("latents" in stage.name or "captions" in stage.name for stage in stages):
        too = ", and so are autoencoders" if device == "cpu" else ""
        how = f"at reduced width, about a fifth of their channels{too}, because {why}"
        print(f"Networks of text-to-image are rehearsed {how}: neither memory nor seconds are theirs.")
    print(_inception(device), flush=True)


def rehearse(root: Path, device: str, names: Sequence[str] = (), resume: bool = False) -> None:
    """Run the stages called `names` with what they need, or all of tier paper, on `device`.

    Prints what is rehearsed and, at the end, the seconds and peak memory of every stage. With `resume`, what
    an earlier rehearsal finished is not run again. Raises RehearsalError, naming the stage, at the first that
    fails, and where another rehearsal is running; RuntimeError where `device` is "cuda" and there is none;
    ValueError for a wrong params.yaml.
    """
    devices, memory = os.cpu_count() or 1, None
    if device == "cuda":
        require_cuda()
        devices, memory = torch.cuda.device_count(), torch.cuda.get_device_properties(0).total_memory
    every = plan(root, TIER)
    stages = chosen(every, names)
    with _alone(root / TREE):
        if not resume:
            _clear(root / TREE)
        tree = lay_out(root, device, devices, memory, stages)
        stages = [stage for stage in stages if not _done(tree, stage).exists()]
        _say(root, device, memory, stages)
        used: dict[str, Usage] = {}
        try:
            for k, stage in enumerate(stages, 1):
                print(f"[{k}/{len(stages)}] {stage.name}", flush=True)
                own = run([sys.executable, "-m", "fewstep", *stage.words], tree, _environment(tree))
                used[stage.name] = own
                if own.error:
                    raise RehearsalError(f"the rehearsal stopped at the stage '{stage.name}': {own.error}")
                write_atomically(_done(tree, stage), b"")
                _tidy(tree, every)
        finally:
            print(table(used), flush=True)


def table(used: Mapping[str, Usage]) -> str:
    """What the stages took, for people: seconds, and peak memory of the largest process."""
    width = max([len(name) for name in used] or [5])
    rows = [f"{'stage':{width}}  seconds  peak memory"]
    for name, own in used.items():
        row = f"{name:{width}}  {own.seconds:7.1f}  {own.memory / 2**30:8.1f} GB"
        rows.append(row + ("  FAILED" if own.error else ""))
    longest = sorted(used, key=lambda name: -used[name].seconds)[:3]
    seconds = sum(own.seconds for own in used.values())
    return "\n".join([*rows, f"{len(used)} stages, {seconds:.0f} s; longest: {', '.join(longest)}"])
