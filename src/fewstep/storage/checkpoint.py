"""Checkpoints: safetensors with settings in the header: one rename, verified when read, never unpickled."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from .files import write_atomically

# The header has one entry: safetensors orders several at random, and equal states must give equal bytes.
ENTRY = "fewstep"


class CheckpointError(RuntimeError):
    """A checkpoint is missing, damaged or not what it should be; the message names the file and the cure."""


def _digest(tensors: Mapping[str, Tensor]) -> str:
    """A checksum of names, shapes and bytes: the format itself would not notice a flipped bit."""
    total = hashlib.sha256()
    for name in sorted(tensors):
        value = tensors[name].detach().cpu().contiguous()
        total.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        total.update(value.reshape(-1).view(torch.uint8).numpy().tobytes())
    return total.hexdigest()


def save_checkpoint(path: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write named tensors and JSON-able `info` to `path`, atomically."""
    flat = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    header = json.dumps({"info": info, "sha256": _digest(flat)}, sort_keys=True)
    write_atomically(path, save(flat, metadata={ENTRY: header}))


def _same_file(held: BinaryIO, path: Path) -> str:
    """A path that leads to the open file `held`, whatever `path` leads to by then, where there is such."""
    own = f"/proc/self/fd/{held.fileno()}"
    return own if os.path.exists(own) else str(path)


def load_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """The tensors and info of `path`; raises CheckpointError when it is absent, damaged or foreign."""
    named, cure = f"the checkpoint {path}", "delete it and run `dvc repro` again"
    if path.exists() and not path.is_file():
        raise CheckpointError(
            f"{path} is no file, and a checkpoint must be one: move it away, and run `dvc repro` again"
        )
    if not path.is_file():
        raise CheckpointError(f"{named} is not there: run the stage that writes it (`dvc repro`)")
    try:
        # safe_open opens its path twice; held open here, both are the same file, also where a training
        # puts the next one in its place meanwhile
        with open(path, "rb") as held, safe_open(_same_file(held, path), framework="pt") as file:
            header = (file.metadata() or {}).get(ENTRY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise CheckpointError(f"{named} is damaged ({error}): {cure}") from None
    if header is None:
        raise CheckpointError(f"{path} was not written by fewstep: its header has no '{ENTRY}' entry")
    try:
        content = json.loads(header)
        known, info = content["sha256"], dict(content["info"])
    except (ValueError, TypeError, KeyError):
        raise CheckpointError(f"{named} is damaged (its header cannot be read): {cure}") from None
    if _digest(tensors) != known:
        raise CheckpointError(f"{named} is damaged (its checksum differs): {cure}")
    return tensors, info


def check_weights(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Raise CheckpointError, naming the first misfit, unless `tensors`, read from `path`, fit `module`.

    Names, shapes and types must be the module's, which may be on the device "meta", and all numbers finite.
    """
    weights, other = module.state_dict(), f"{path} holds weights of another"
    for name in [*weights, *tensors]:
        if name not in weights or name not in tensors:
            here, there = ("network", "checkpoint") if name in weights else ("checkpoint", "network")
            raise CheckpointError(f"{other} network: '{name}' of the {here} is not in the {there}")
        ours, theirs = tuple(weights[name].shape), tuple(tensors[name].shape)
        if ours != theirs:
            sizes = f"'{name}' is {theirs} there and {ours} in the network"
            raise CheckpointError(f"{other} shape: {sizes}: check `network` in params.yaml")
        if tensors[name].dtype != weights[name].dtype:
            types = f"'{name}' is {tensors[name].dtype} there and {weights[name].dtype} in the network"
            raise CheckpointError(f"{other} type: {types}: convert or train them anew")
        if not torch.isfinite(tensors[name]).all():
            raise CheckpointError(f"'{name}' in {path} holds numbers that are not finite: train it anew")


def load_weights(module: torch.nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Copy `tensors`, read from `path`, into `module`; raises as `check_weights`."""
    check_weights(module, tensors, path)
    module.load_state_dict(dict(tensors))


def with_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with `prefix`, by the rest of their names."""
    return {name.removeprefix(prefix): value for name, value in tensors.items() if name.startswith(prefix)}
