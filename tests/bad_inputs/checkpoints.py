"""Checkpoints: states of trainings, weights on disk, and what `rehearse` and `preflight` are given."""

import fcntl
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from fewstep.networks.load import load_flow_map
from fewstep.pipeline.stages import PAPER_ONLY
from fewstep.rehearsal.preflight import preflight
from fewstep.rehearsal.rehearse import TREE, rehearse
from fewstep.settings import tiers
from fewstep.storage import stand_in
from fewstep.storage.checkpoint import load_checkpoint, save_checkpoint
from fewstep.training.job import Job, advance
from fewstep.training.train import publish

from .case import Case

ROOT = Path(__file__).parents[2]
STATE, WEIGHTS = "si-seed-0.safetensors", "weights.safetensors"
Change = Callable[[dict[str, torch.Tensor], dict[str, Any]], object]


@cache
def _settings(tier: str) -> tiers.Tier:
    return tiers.load(ROOT / "params.yaml", tier)


def _job(folder: Path) -> Job:
    """Four steps of a small network on the checkerboard; its state is in `folder`."""
    own = _settings("smoke").experiment("fmm-checkerboard")
    network = own.training.network.model_copy(update={"width": 8})
    training = own.training.model_copy(update={"network": network, "batch": 4})
    return Job(training, own.method("si").model_copy(update={"steps": 4}), 0, folder / STATE)


def _changed(path: Path, change: Change) -> None:
    """The checkpoint in `path` changed and written again, with a checksum that is right."""
    tensors, info = load_checkpoint(path)
    change(tensors, info)
    save_checkpoint(path, tensors, info)


def _trained(steps: int, change: Change) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        advance(_job(folder), "mark", steps)
        _changed(folder / STATE, change)

    return prepare


def _put(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Change:
    """Replace the first tensor whose name begins with `name` by what `make` makes of it."""

    def change(tensors: dict[str, torch.Tensor], info: dict[str, Any]) -> None:
        found = next(own for own in sorted(tensors) if own.startswith(name))
        tensors[found] = make(tensors[found])

    return change


def _said(**changes: Any) -> Change:
    return lambda tensors, info: info.update(changes)


def _without(name: str) -> Change:
    return lambda tensors, info: tensors.pop(next(own for own in sorted(tensors) if own.startswith(name)))


def _nan(value: torch.Tensor) -> torch.Tensor:
    return torch.full_like(value, torch.nan)


def _states() -> list[Case]:
    refused: dict[str, tuple[Change, str]] = {
        "NaN in the weights": (_put("student.", _nan), r"'student\.\S+' holds numbers that are not finite"),
        "NaN in the average": (_put("ema.", _nan), r"'ema\.\S+' holds numbers that are not finite"),
        "an infinite moment": (_put("optimiser.student.0.", lambda v: v / 0), "'optimiser.*not finite"),
        "NaN in a logged loss": (_put("log", _nan), "'log' holds numbers that are not finite; delete it"),
        "weights of half the bits": (_put("student.", torch.Tensor.half), "float16 of .* not torch.float32"),
        "moments of twice the bits": (_put("optimiser.", torch.Tensor.double), "float64 and not"),
        "whole numbers for weights": (_put("student.", torch.Tensor.int), "int32 of .* not torch.float32"),
        "complex weights": (_put("ema.", lambda v: v + 0j), "complex64 of .* not torch.float32"),
        "a weight of another shape": (_put("student.", lambda v: v[:1]), r"of shape \(1"),
        "a weight too many": (
            lambda t, info: t.update({"student.x": torch.ones(1)}),
            "'student.x' is foreign",
        ),
        "a moment of no weight": (
            lambda t, info: t.update({"optimiser.student.99.mean": torch.ones(1)}),
            "'optimiser.student.99.mean' is foreign",
        ),
        "a moment of another shape": (
            _put("optimiser.student.0.", lambda v: torch.ones(3, 7)),
            "foreign or of",
        ),
        "no generator": (_without("generator"), "'generator' is missing; delete it"),
        "no log": (_without("log"), "'log' is missing; delete it"),
        "a generator of another kind": (
            _put("generator", torch.Tensor.float),
            "'generator' is torch.float32",
        ),
        "a negative step": (_said(step=-1), r"stands at step -1 of 4: delete it"),
        "a step past the end": (_said(step=5), r"stands at step 5 of 4: delete it"),
        "a step that is no whole number": (_said(step=1.5), r"stands at step 1.5 of 4: delete it"),
        "a step that is a text": (_said(step="2"), r"stands at step 2 of 4: delete it"),
        "no step": (lambda tensors, info: info.pop("step"), r"stands at step None of 4: delete it"),
        "another run's": (
            _said(fingerprint="other"),
            r"another run \(fingerprint other, not mark\): delete it",
        ),
        "no fingerprint": (lambda tensors, info: info.pop("fingerprint"), r"another run \(fingerprint None"),
    }

    def go_on(folder: Path) -> None:
        advance(_job(folder), "mark", 4)

    return [
        Case("the state of a training", name, go_on, rf"{STATE} .*{says}", _trained(2, change))
        for name, (change, says) in refused.items()
    ]


def _at(write: Callable[[Path], object], folder: Path) -> None:
    write(folder / STATE)


def _files() -> list[Case]:
    """What lies where a state is looked for."""

    def go_on(folder: Path) -> None:
        advance(_job(folder), "mark", 4)

    contents: dict[str, tuple[Callable[[Path], object], str]] = {
        "an empty file": (lambda path: path.write_bytes(b""), "is damaged .*delete it and run `dvc repro`"),
        "a text": (lambda path: path.write_text("weights", encoding="utf-8"), "is damaged .*delete it"),
        "another program's": (lambda path: save_file({"x": torch.ones(1)}, path), "not written by fewstep"),
        "a header that is no JSON": (
            lambda path: save_file({"x": torch.ones(1)}, path, {"fewstep": "{"}),
            r"is damaged \(its header cannot be read\)",
        ),
        "a header of another form": (
            lambda path: save_file({"x": torch.ones(1)}, path, {"fewstep": '{"sha256": "", "info": 3}'}),
            r"is damaged \(its header cannot be read\)",
        ),
        "a folder": (lambda path: path.mkdir(), "is no file, and a checkpoint must be one: move it away"),
    }
    return [
        Case(
            "the state of a training",
            name,
            go_on,
            f"{STATE}.*{says}",
            lambda folder, w=write: w(folder / STATE),
        )
        for name, (write, says) in contents.items()
    ]


def _published() -> list[Case]:
    def run(folder: Path) -> None:
        publish(_job(folder), "mark", folder / WEIGHTS)

    refused: dict[str, tuple[int, Change, str]] = {
        "the finished state of another run": (4, _said(fingerprint="other"), r"belongs to another run"),
        "a run that is not finished": (2, _said(), "stands at step 2 of 4: finish the training first"),
        "an average of NaN": (4, _put("ema.", _nan), "holds numbers that are not finite: train it anew"),
        "an average of half the bits": (4, _put("ema.", torch.Tensor.half), "another type: .*float16"),
        "an average of another network": (4, _without("ema."), "is not in the checkpoint"),
    }
    return [
        Case("publishing a training", name, run, f"{STATE}.*{says}|{says}.*{STATE}", _trained(steps, change))
        for name, (steps, change, says) in refused.items()
    ]


def _weights() -> list[Case]:
    def prepare(change: Change, folder: Path) -> None:
        job = replace(_job(folder), state=folder / "state")
        advance(job, "mark", 4)
        publish(job, "mark", folder / WEIGHTS)
        job.state.unlink()
        _changed(folder / WEIGHTS, change)

    def run(folder: Path) -> None:
        load_flow_map(folder / WEIGHTS)

    refused: dict[str, tuple[Change, str]] = {
        "NaN": (_put("weights.", _nan), "holds numbers that are not finite: train it anew"),
        "infinite numbers": (_put("weights.", lambda v: v + torch.inf), "not finite: train it anew"),
        "half the bits": (_put("weights.", torch.Tensor.half), "type: .*float16 there and torch.float32 in"),
        "whole numbers": (_put("weights.", torch.Tensor.int), "type: .*int32 there and torch.float32 in"),
        "complex numbers": (_put("weights.", lambda v: v + 0j), "type: .*complex64 there"),
        "another shape": (_put("weights.", lambda v: v[:1]), "another shape: .*check `network`"),
        "a weight that is missing": (_without("weights."), "of the network is not in the checkpoint"),
        "no network in the header": (lambda t, info: info.pop("network"), "header names no network"),
    }
    return [
        Case("weights", name, run, f"{WEIGHTS}.*{says}|{says}.*{WEIGHTS}", partial(prepare, change))
        for name, (change, says) in refused.items()
    ]


def _clone(folder: Path) -> None:
    for name in ("params.yaml", "dvc.yaml", PAPER_ONLY):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)


def _thesis(folder: Path) -> None:
    _clone(folder)
    (folder / TREE).mkdir(parents=True)
    (folder / TREE / "thesis.txt").write_text("mine", encoding="utf-8")


def _file(folder: Path) -> None:
    _clone(folder)
    (folder / TREE.parent).mkdir()
    (folder / TREE).write_text("mine", encoding="utf-8")


def _running(folder: Path) -> None:
    _clone(folder)
    stand_in.mark(folder / TREE)
    (folder / TREE / "half").write_text("of a stage", encoding="utf-8")


def _second(folder: Path) -> None:
    first = os.open(folder / TREE, os.O_RDONLY)
    try:
        fcntl.flock(first, fcntl.LOCK_EX)
        rehearse(folder, "cpu", ["check"])
    finally:
        os.close(first)


def _small(*names: str) -> Callable[[Path], None]:
    return lambda folder: rehearse(folder, "cpu", names)


def _none_to_look_at(folder: Path) -> None:
    empty = _settings("smoke").model_copy(update={"experiments": {}})
    preflight(folder, "smoke", empty, quick=True, times=False)


def _commands() -> list[Case]:
    mine = r"artifacts/rehearsal holds something that is no rehearsal's: move it away or delete it"
    running = r"another rehearsal is running in \S+artifacts/rehearsal: wait for its end, or end it"
    nothing = "tier 'smoke' has no experiments"
    unknown = "there is no stage 'students@fmm' at tier paper; there are"
    return [
        Case("rehearse", "a stage that there is not", _small("students@fmm"), unknown, _clone),
        Case("rehearse", "a stage without a name", _small(""), "there is no stage '' at tier paper", _clone),
        Case("rehearse", "somebody's folder in its place", _small("check"), mine, _thesis),
        Case("rehearse", "a file in its place", _small("check"), mine, _file),
        Case("rehearse", "while another one runs", _second, running, _running),
        Case("preflight", "a tier without experiments", _none_to_look_at, nothing, _clone),
    ]


def cases() -> list[Case]:
    """States and weights with a right checksum that are none of this training's, and files that are none."""
    return [*_states(), *_files(), *_published(), *_weights(), *_commands()]
