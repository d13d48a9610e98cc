"""A rehearsal: every stage of tier paper, with its true networks, in minutes, before it takes days of a GPU.

A tree of its own, artifacts/rehearsal, gets the notebooks, the settings of tier paper made small, tiny
archives, and untrained networks in the place of published ones. Each stage then runs there as DVC would run
it. Tree and `revision` of every number in it say that they are a rehearsal's.
"""

import difflib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from ..data.export import EXPORTS
from ..data.formats.archives import ENVIRONMENT
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
from . import disk, settings, tiny_archives
from .settings import STEPS, TIER

TREE = Path("artifacts") / "rehearsal"
# the target's reference sample: all else that tier paper reads comes from archives
SHIPPED = "data/checkerboard.npy"


class RehearsalError(RuntimeError):
    """A stage cannot be rehearsed; the message names it."""


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
            tiny_networks.clip(place, disk.token_states(tier, name)[1], own.towers)
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

    `devices` is as in `settings.small`; raises SettingsError for a wrong params.yaml.
    """
    tree = root / TREE
    stand_in.mark(tree)
    left_out = shutil.ignore_patterns(".ipynb_checkpoints")
    shutil.copytree(root / "notebooks", tree / "notebooks", ignore=left_out)
    paper = tiers.section(root / "params.yaml", TIER)
    small = as_file(settings.small(paper, device, devices), TIER)
    write_atomically(tree / "params.yaml", document.dump(small).encode())
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


def _environment(tree: Path) -> dict[str, str]:
    """What a stage gets: the rehearsal's archives, this very package, and nothing of another workspace."""
    kept = {key: value for key, value in os.environ.items() if key not in (PIPELINE, SCRATCH, CHANNEL)}
    others = filter(None, os.environ.get("PYTHONPATH", "").split(os.pathsep))
    paths = dict.fromkeys([str(Path(__file__).resolve().parents[2]), *others])
    archives = str((tree / "data" / TIER).resolve())
    return kept | {ENVIRONMENT: archives, "PYTHONPATH": os.pathsep.join(paths)}


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
        for k, stage in enumerate(stages, 1):
            print(f"[{k}/{len(stages)}] {stage.name}", flush=True)
            words, environment = [sys.executable, "-m", "fewstep", *stage.words], _environment(tree)
            if subprocess.run(words, cwd=tree, env=environment, stdout=subprocess.DEVNULL).returncode:
                raise RehearsalError(f"the rehearsal stopped at the stage '{stage.name}': see above")
            # large, and of no use to another stage
            shutil.rmtree(tree / "artifacts" / TIER / "states", ignore_errors=True)
    print(f"{len(stages)} stages ran in {time.monotonic() - started:.0f} s")
