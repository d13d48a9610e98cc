"""Checkpoints: states of trainings, weights on disk."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_file

from fewstep.networks import load_flow_map
from fewstep.networks.classifier import Classifier
from fewstep.settings import tiers
from fewstep.storage.checkpoint import load_checkpoint, save_checkpoint
from fewstep.storage.files import write_json
from fewstep.storage.workspace import Workspace
from fewstep.training import features
from fewstep.training.job import Job, advance
from fewstep.training.preparation import DESCRIPTION
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


def _features() -> list[Case]:
    """What a stage has prepared: a description, a classifier, the data's features."""
    own = _settings("smoke").features["cifar10"]

    def at(folder: Path) -> features.FeaturePreparation:
        return features.FeaturePreparation("cifar10", Workspace(folder, "smoke"), own, "cpu")

    def prepare(spoil: Callable[[Path], object], folder: Path) -> None:
        place = folder / "artifacts" / "smoke" / "features" / "cifar10"
        classifier = Classifier((1, 8, 8), 10)
        save_checkpoint(
            place / features.CLASSIFIER, classifier.state_dict(), {"shape": [1, 8, 8], "classes": 10}
        )
        np.save(place / features.VALUES, np.zeros((3, 64), np.float32))
        write_json(place / DESCRIPTION, {"data": "digits", "images": "three", "checksum": "0"})
        spoil(place)

    def text(name: str, content: bytes) -> Callable[[Path], object]:
        return lambda place: (place / name).write_bytes(content)

    def header(place: Path) -> None:
        _changed(place / features.CLASSIFIER, lambda tensors, info: info.pop("classes"))

    def lost(place: Path) -> None:
        _changed(place / features.CLASSIFIER, _put("", _nan))

    def load(folder: Path) -> None:
        features.load(at(folder))

    spoilt: dict[str, tuple[Callable[[Path], object], str]] = {
        "half a description": (text(DESCRIPTION, b'{"data": '), f"{DESCRIPTION} is damaged, or"),
        "a description of another form": (text(DESCRIPTION, b"[1]"), f"{DESCRIPTION} is damaged, or"),
        "a description in other letters": (text(DESCRIPTION, b'{"data": "\xff"}'), "is damaged, or .*delete"),
        "half the features": (
            text(features.VALUES, b"\x93NUMPY"),
            f"{features.VALUES} is damaged .*: delete",
        ),
        "no features": (text(features.VALUES, b""), f"{features.VALUES} is damaged .*: delete"),
        "a classifier of unknown classes": (
            header,
            "holds another network: its header names no classes; del",
        ),
        "a classifier of NaN": (lost, "classifier.safetensors holds numbers that are not finite"),
    }
    return [
        Case(
            "what is prepared", name, lambda folder: features.load(at(folder)), says, partial(prepare, spoil)
        )
        for name, (spoil, says) in spoilt.items()
    ]


def cases() -> list[Case]:
    """States and weights with a right checksum that are none of this training's, and files that are none."""
    return [*_states(), *_files(), *_published(), *_weights(), *_features()]
