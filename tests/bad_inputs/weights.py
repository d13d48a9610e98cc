"""Published weights: what is converted, where to, and what is found on this machine."""

import json
import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from safetensors.torch import save, save_file
from torch import Tensor

from fewstep import networks
from fewstep.data.formats.archives import ENVIRONMENT
from fewstep.networks import autoencoder, clip, clip_files, load_flow_map, tokens
from fewstep.networks.published import instaflow, lfm
from fewstep.storage.checkpoint import save_checkpoint

from .case import Case
from .saved_students import UNET, in_its_place, replaced

ADM = {
    "kind": "adm", "width": 32, "multipliers": [1], "blocks": 1, "attention": [], "heads": 1,
    "dropout": 0.0,
}  # fmt: skip
PUBLISHED = {
    "kind": "published_unet", "channels": [8], "layers": 1, "attention": [True], "heads": 2, "groups": 4,
    "width": 8, "checkpointing": False,
}  # fmt: skip
SHAPE = (4, 4, 4)
CHECKPOINT, TARGET, UNET_FILE = "model.pth", "out.safetensors", f"unet/{instaflow.SAFETENSORS}"


@cache
def published(settings: str) -> tuple[dict[str, Tensor], Any]:
    """The weights of a tiny published network, and the network of diffusers where it is one."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = networks.build(ADM if settings == "adm" else PUBLISHED, SHAPE).network
    if settings == "adm":
        return {name: torch.ones(shape) for name, shape, _ in lfm.tensors(network.model)}, None
    return dict(network.model.state_dict()), network.model


def _lfm(place: Path) -> None:
    lfm.convert(place / CHECKPOINT, place / TARGET, ADM, SHAPE)


def _instaflow(place: Path) -> None:
    instaflow.convert(place, place / TARGET, PUBLISHED, SHAPE)


def adm(name: str, says: str, change: Callable[[Path], Any]) -> Case:
    def prepare(place: Path) -> None:
        torch.save(published("adm")[0], place / CHECKPOINT)
        change(place)

    return Case("convert-lfm", name, _lfm, says, prepare)


def unet(name: str, says: str, change: Callable[[Path], Any]) -> Case:
    def prepare(place: Path) -> None:
        weights, model = published("unet")
        (place / "unet").mkdir()
        save_file(weights, place / UNET_FILE)
        config = dict(model.config) | {"_class_name": instaflow.CLASS, "class_embed_type": None}
        (place / "unet" / instaflow.CONFIG).write_text(json.dumps(config), encoding="utf-8")
        change(place)

    return Case("convert-instaflow", name, _instaflow, says, prepare)


def _stored(content: Any) -> Callable[[Path], None]:
    return lambda place: torch.save(content, place / CHECKPOINT)


def _config(**settings: Any) -> Callable[[Path], Any]:
    def change(place: Path) -> None:
        path = place / "unet" / instaflow.CONFIG
        found = json.loads(path.read_text(encoding="utf-8")) | settings
        path.write_text(json.dumps(found), encoding="utf-8")

    return change


class Foreign:
    """Code of somebody's, pickled."""


def conversions() -> list[Case]:
    """Files and folders for the convert commands."""
    first = "time_embed.0.bias"
    cases = [
        adm("not there", f"{CHECKPOINT} is not there: download", lambda own: (own / CHECKPOINT).unlink()),
        adm("a folder", f"{CHECKPOINT} is no file: download", in_its_place(CHECKPOINT, Path.mkdir)),
        adm("a pipe", f"{CHECKPOINT} is no file: download", in_its_place(CHECKPOINT, os.mkfifo)),
        adm("empty", r"is no whole checkpoint of torch \(EOFError\): download", replaced(CHECKPOINT, "")),
        adm("a page", "is no whole checkpoint of torch", replaced(CHECKPOINT, "<!DOCTYPE html>")),
        adm("pickled code", "carries pickled code .*Foreign.*, which is never run", _stored(Foreign())),
        adm("a list", "holds a list and no state dict: give the file of the network's", _stored([1])),
        adm("no tensors", "holds 'epoch', which is no tensor: give the file", _stored({"epoch": 3})),
        adm("numbers for names", "holds '3', which is no tensor", _stored({3: torch.zeros(1)})),
        adm("without a layer", f"is of another network: it lacks '{first}'", lambda own: _stored(
            {name: value for name, value in published("adm")[0].items() if name != first})(own)),
        adm("with another layer", "it has 'more', which the network lacks; give", lambda own: _stored(
            published("adm")[0] | {"more": torch.zeros(1)})(own)),
        adm("another width", rf"'{first}' is \(3,\) there and \(128,\) in the network", lambda own: _stored(
            published("adm")[0] | {first: torch.zeros(3)})(own)),
        adm("NaN", f"has numbers in '{first}' that are not finite: download", lambda own: _stored(
            published("adm")[0] | {first: torch.full((128,), torch.nan)})(own)),
        adm("whole numbers", f"has '{first}' in int64, which is no weight: download", lambda own: _stored(
            published("adm")[0] | {first: torch.zeros(128, dtype=torch.int64)})(own)),
        unet("without a config", "holds no config.json: download config.json",
             lambda own: (own / "unet/config.json").unlink()),
        unet("a folder for a config", "config.json is no file: download", in_its_place(
            "unet/config.json", Path.mkdir)),
        unet("a config that is a list", r"config.json cannot be read as JSON \(it holds a list",
             replaced("unet/config.json", "[]")),
        unet("a config that is a text", r"config.json cannot be read as JSON \(it holds a str",
             replaced("unet/config.json", '"somebody/model"')),
        unet("a config cut short", "config.json cannot be read as JSON", replaced(
            "unet/config.json", "{")),
        unet("a config of another class", "describes a UNet2DModel and no UNet2DConditionModel: give",
             _config(_class_name="UNet2DModel")),
        unet("a config without a class", "describes a thing without a class and no UNet2DCond",
             _config(_class_name=None)),
        unet("another width", r"says `cross_attention_dim: 768`, and the network has 8: give",
             _config(cross_attention_dim=768)),
        unet("without weights", f"holds neither {instaflow.SAFETENSORS} nor", lambda own: (
            own / UNET_FILE).unlink()),
        unet("weights cut short", "is no whole file of safetensors .*: download", lambda own: replaced(
            UNET_FILE, (own / UNET_FILE).read_bytes()[:-9])(own)),
        unet("weights that are a page", "is no whole file of safetensors", replaced(UNET_FILE, "<html>")),
        unet("without a layer", "is of another network: it lacks 'conv_in.bias'; give", lambda own: save_file(
            {name: value for name, value in published("unet")[0].items() if name != "conv_in.bias"},
            own / UNET_FILE)),
        unet("infinite weights", "has numbers in 'conv_in.bias' that are not finite", lambda own: save_file(
            published("unet")[0] | {"conv_in.bias": torch.full((8,), torch.inf)}, own / UNET_FILE)),
        unet("whole numbers", "has 'conv_in.bias' in int64, which is no weight", lambda own: save_file(
            published("unet")[0] | {"conv_in.bias": torch.zeros(8, dtype=torch.int64)}, own / UNET_FILE)),
    ]  # fmt: skip
    way = "nothing was written; name another file"
    for name, says, change in (
        ("to a folder", f"{TARGET} is no file: {way}", lambda own: (own / TARGET).mkdir()),
        ("to a pipe", f"{TARGET} is no file: {way}", lambda own: os.mkfifo(own / TARGET)),
        ("to somebody's file", f"exists and was not written by fewstep: {way}", replaced(TARGET, "mine")),
        ("to somebody's weights", "exists and was not written by fewstep", lambda own: save_file(
            {"x": torch.zeros(1)}, own / TARGET)),
        ("to a link to the source", "exists and was not written by fewstep", lambda own: (
            own / TARGET).symlink_to(CHECKPOINT if (own / CHECKPOINT).exists() else UNET_FILE)),
    ):  # fmt: skip
        cases += [adm(name, says, change), unet(name, says, change)]
    return cases


def found(name: str, says: str, change: Callable[[Path], Any], what: str = "vae") -> Case:
    """A published autoencoder, or CLIP, in a folder beside the data."""

    def prepare(place: Path) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            if what == "vae":
                autoencoder.small((3, 8, 8), [4, 4], 1, 2, 4).model.save_pretrained(place / what)
                return change(place / what)
            read = clip.small((3, 8, 8), tokens.train(["a red circle"] * 2, 530, 8), 8, 1, 2, 4, 8)
        read.model.save_pretrained(place / what)
        tokens.write(read.tokenizer, place / what)
        prepared = {"image_mean": [0.5] * 3, "image_std": [0.5] * 3}
        (place / what / tokens.CONFIG).write_text("{}", encoding="utf-8")
        (place / what / clip_files.PREPARATION).write_text(json.dumps(prepared), encoding="utf-8")
        change(place / what)

    def run(place: Path) -> None:
        load = autoencoder.pretrained if what == "vae" else clip_files.published
        with mock.patch.dict(os.environ, {ENVIRONMENT: str(place)}):
            load(f"somebody/{what}")

    return Case(f"published {what}", name, run, says, prepare)


def publications() -> list[Case]:
    """Repositories that are found on this machine."""
    text, weights = r"cannot be read as JSON \(it holds a str", autoencoder.WEIGHTS
    prepared = "does not say `image_mean` and `image_std`, three numbers each, .* above 0: download it again"

    def vae_weights(**changed: Tensor) -> Callable[[Path], None]:
        def change(own: Path) -> None:
            model = autoencoder.small((3, 8, 8), [4, 4], 1, 2, 4).model
            save_file(model.state_dict() | changed, own / weights, metadata={"format": "pt"})

        return change

    cases = [
        found("without weights", f"is not in .*: download {weights} from https", lambda own: (
            own / weights).unlink()),
        found("a folder for weights", f"{weights} is no file: move it", in_its_place(weights, Path.mkdir)),
        found("a config that is a text", f"config.json {text}", replaced("config.json", '"somebody/vae"')),
        found("a config that is a list", "config.json .* holds a list", replaced("config.json", "[1]")),
        found("a config with NaN", "config.json cannot .* holds NaN", replaced("config.json", '{"a": NaN}')),
        found("weights cut short", "holds no autoencoder that diffusers can load", replaced(weights, b"123")),
        found("NaN", r"has numbers in 'decoder.conv_in.bias' that are not finite", vae_weights(
            **{"decoder.conv_in.bias": torch.full((4,), torch.nan)})),
        found("one weight too many", "'more' is in one and not in the", vae_weights(more=torch.ones(1))),
    ]  # fmt: skip
    for name, file, content, says in (
        ("a config that is a text", "config.json", '"somebody/clip"', f"config.json {text}"),
        ("no vocabulary", "vocab.json", "[1]", "vocab.json cannot be read as JSON .*list"),
        ("a vocabulary that is binary", "vocab.json", b"\xff\xfe", "vocab.json cannot be read .*: download"),
        ("merges cut short", "merges.txt", "#version: 0.2\na b c", "is in one of vocab.json and merges.txt"),
        ("merges of no tokens", "merges.txt", "aa b", "is in one of vocab.json and merges.txt"),
        ("two numbers for a mean", clip_files.PREPARATION, '{"image_mean": [1, 2]}', prepared),
        ("a deviation of 0", clip_files.PREPARATION,
         '{"image_mean": [1, 1, 1], "image_std": [1, 0, 1]}', prepared),
        ("a preparation that is a list", clip_files.PREPARATION, "[]", "holds a list, and no values"),
    ):  # fmt: skip
        cases.append(found(name, says, replaced(file, content), "clip"))
    return cases


def checkpoints() -> list[Case]:
    """Checkpoints of this library that are opened as a flow map, an autoencoder or a CLIP."""

    def stored(info: Any, **tensors: Tensor) -> Callable[[Path], None]:
        return lambda own: save_checkpoint(own / "a.safetensors", tensors, info)

    def described(content: str) -> Callable[[Path], Any]:
        return replaced("described.json", content)

    sizes = {"network": UNET | {"groups": 0}, "shape": [1, 8, 8]}
    read: list[tuple[str, Callable[[Path], Any], str, Callable[[Path], Any]]] = [
        ("not there", load_flow_map, "a.safetensors is not there: run the stage", lambda own: None),
        ("of somebody", load_flow_map, "was not written by fewstep", replaced("a.safetensors", save(
            {"x": torch.zeros(1)}))),
        ("of no network", load_flow_map, "is no trained flow map: its header names no network", stored({})),
        ("of no kind", load_flow_map, r"is no trained flow map \(there is no network 'x'", stored(
            {"network": {"kind": "x"}, "shape": [2]})),
        ("without a shape", load_flow_map, "is no trained flow map", stored({"network": UNET})),
        ("of no groups", load_flow_map, "is no trained flow map .*are no settings of a net", stored(sizes)),
        ("of another network", load_flow_map, "holds weights of another network: '.*' of the network is not",
         stored({"network": UNET, "shape": [1, 8, 8]}, more=torch.zeros(1))),
        ("no autoencoder", autoencoder.trained, "is no trained autoencoder", stored({})),
    ]  # fmt: skip
    cases = [
        Case("checkpoint", name, lambda own, load=load: load(own / "a.safetensors"), says, prepare)
        for name, load, says, prepare in read
    ]
    for name, content, says in (
        ("a list", "[]", "described.json cannot be read as JSON .*: delete it and run `dvc repro`"),
        ("cut short", '{"checksum": "a', "described.json cannot be read as JSON"),
        ("of something else", "{}", "described.json is damaged, or describes no CLIP: delete it and run"),
        ("of a CLIP that is gone", '{"checksum": "a"}', "clip.safetensors is not there"),
    ):
        cases.append(Case("described CLIP", name, clip_files.load, says, described(content)))
    return cases


def cases() -> list[Case]:
    return [*conversions(), *publications(), *checkpoints()]
