"""Saved students that are opened: what was edited, added or lost, and settings that are none."""

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import torch

from fewstep.networks import autoencoder, clip, tokens
from fewstep.release import FewStepPipeline, FlowMapModel, folder, prompts
from fewstep.release.pipeline import Scheduler

from .case import Case

UNET = {
    "kind": "unet", "channels": [4, 4], "layers": 1, "attention": [False, False], "groups": 2,
    "time_scale": 10.0,
}  # fmt: skip
TEXT_UNET = UNET | {"kind": "text_unet", "attention": [False, True], "heads": 2, "width": 8}
FLOW_MAP, SCHEDULER, VAE = "flow_map/config.json", "scheduler/scheduler_config.json", "vae/config.json"
WEIGHTS, INDEX = "flow_map/diffusion_pytorch_model.safetensors", folder.INDEX
GONE = object()  # in the place of a setting that is taken out
AGAIN = "save the student again"
NO_LIST = f"is no list of checksums and names, each once: {AGAIN}"


@cache
def saved(kind: str) -> Path:
    """A tiny saved student of "pixels", or of "texts", which draws in latents; made once a process."""
    place = Path(tempfile.mkdtemp(prefix="fewstep-student-")) / "student"
    further: dict[str, Any] = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        if kind == "texts":
            further["vae"] = autoencoder.small((3, 8, 8), [4, 4], 1, 2, 4).model
            further["vae"].register_to_config(scaling_factor=0.5)
            read = clip.small((3, 8, 8), tokens.train(["a red circle"] * 2, 530, 8), 8, 1, 2, 4, 8)
            further |= {"text_encoder": read.text_tower, "tokenizer": prompts.component(read.tokenizer)}
            model = FlowMapModel(TEXT_UNET, [4, 4, 4], "euler", 1.0, 255, bypass=True)
        else:
            model = FlowMapModel(UNET, [1, 8, 8], "jumps", 1.0, 16)
    FewStepPipeline(model.eval(), Scheduler(), **further).save_pretrained(place)
    return place


def _open(place: Path) -> None:
    pipe = FewStepPipeline.from_pretrained(place / "student")
    pipe("a red circle" if pipe.flow_map.conditional else None)


def opened(
    name: str, change: Callable[[Path], Any], says: str, kind: str = "pixels", listed: bool = False
) -> Case:
    """A student opened after a `change` of its folder; `listed` with the checksums that it then has."""

    def prepare(place: Path) -> None:
        shutil.copytree(saved(kind), place / "student")
        change(place / "student")
        if listed:
            folder.list_files(place / "student")

    return Case("saved student", name, _open, says, prepare)


def replaced(file: str, content: bytes | str) -> Callable[[Path], Any]:
    return lambda own: (own / file).write_bytes(content if isinstance(content, bytes) else content.encode())


def edited(file: str, **settings: Any) -> Callable[[Path], Any]:
    def change(own: Path) -> None:
        found = json.loads((own / file).read_text(encoding="utf-8")) | settings
        kept = {name: value for name, value in found.items() if value is not GONE}
        (own / file).write_text(json.dumps(kept), encoding="utf-8")

    return change


def in_its_place(file: str, make: Callable[[Path], Any]) -> Callable[[Path], Any]:
    def change(own: Path) -> None:
        (own / file).unlink()
        make(own / file)

    return change


def setting(name: str, file: str, says: str, kind: str = "pixels", **settings: Any) -> Case:
    """A setting in a config that is listed again with its new checksum, as whoever edits one may do."""
    return opened(name, edited(file, **settings), says, kind, listed=True)


def summed(name: str, change: Callable[[str], str], says: str) -> Case:
    def edit(own: Path) -> None:
        sums = own / folder.SUMS
        sums.write_text(change(sums.read_text(encoding="utf-8")), encoding="utf-8")

    return opened(f"SHA256SUMS {name}", edit, says)


def _changed(file: str) -> str:
    return rf"{file} is damaged \(its checksum differs from that in SHA256SUMS\): copy it again, or {AGAIN}"


def unlisted() -> list[Case]:
    """What was edited, added or lost since a student was saved."""
    cases = [
        opened(f"edited: {name}", edited(file, **settings), _changed(file), kind)
        for name, file, kind, settings in (
            ("noise_scale -1", FLOW_MAP, "pixels", {"noise_scale": -1}),
            ("noise_scale missing", FLOW_MAP, "pixels", {"noise_scale": GONE}),
            ("top 1e9", FLOW_MAP, "pixels", {"top": 10**9}),
            ("top of another student", FLOW_MAP, "pixels", {"top": 255}),
            ("a shape of another size", FLOW_MAP, "pixels", {"shape": [1, 16, 16]}),
            ("bypass as a text", FLOW_MAP, "texts", {"bypass": "no"}),
            ("bypass the other way", FLOW_MAP, "texts", {"bypass": False}),
            ("a shift of the schedule", SCHEDULER, "pixels", {"shift": 3.0}),
            ("a scale of latents", VAE, "texts", {"scaling_factor": 1.0}),
            ("a scheduler of another class", INDEX, "pixels", {"scheduler": ["diffusers", "DDIMScheduler"]}),
            ("a null VAE", INDEX, "texts", {"vae": [None, None]}),
        )
    ]
    for name, content in (("empty", b""), ("binary", bytes(range(256)))):
        cases.append(opened(f"pipeline.py {name}", replaced("pipeline.py", content), _changed("pipeline.py")))
    lost = rf"is not there: copy the folder whole, or {AGAIN}"
    foreign = rf"is not listed in SHA256SUMS: move it away, or {AGAIN}"
    return [
        *cases,
        opened("a flipped bit", lambda own: replaced(WEIGHTS, (own / WEIGHTS).read_bytes()[:-1] + b"?")(own),
               _changed(WEIGHTS)),
        opened("no weights", lambda own: (own / WEIGHTS).unlink(), f"{WEIGHTS} {lost}"),
        opened("no VAE", lambda own: shutil.rmtree(own / "vae"), f"vae/config.json {lost}", "texts"),
        opened("a folder for weights", in_its_place(WEIGHTS, Path.mkdir), f"{WEIGHTS} is no file: copy"),
        opened("a pipe for weights", in_its_place(WEIGHTS, os.mkfifo), f"{WEIGHTS} is no file: copy"),
        opened("further weights", lambda own: shutil.copy(own / WEIGHTS, own / "flow_map/model.safetensors"),
               f"flow_map/model.safetensors {foreign}"),
        opened("a further config", replaced("vae.json", "{}"), f"vae.json {foreign}"),
        opened("further code", replaced("flow_map/own.py", "1"), f"flow_map/own.py {foreign}"),
        summed("without the weights", lambda text: "\n".join(
            line for line in text.splitlines() if WEIGHTS not in line), f"{WEIGHTS} {foreign}"),
        summed("with an absolute path", lambda text: text.replace(WEIGHTS, f"/{WEIGHTS}"),
               rf"lists /{WEIGHTS}, which lies outside the folder: {AGAIN}"),
        summed("with a path that climbs", lambda text: text.replace(WEIGHTS, f"../{WEIGHTS}"),
               rf"lists ../{WEIGHTS}, which lies outside the folder"),
        summed("twice the same", lambda text: text + text, NO_LIST),
        summed("empty", lambda text: "", NO_LIST),
        summed("cut short", lambda text: text[:-40], NO_LIST),
        opened("SHA256SUMS binary", replaced(folder.SUMS, bytes(range(256))), NO_LIST),
        opened("SHA256SUMS a folder", in_its_place(folder.SUMS, Path.mkdir), "SHA256SUMS is no file: the"),
        opened("no SHA256SUMS", lambda own: (own / folder.SUMS).unlink(), "SHA256SUMS is not there: the"),
    ]  # fmt: skip


def settings() -> list[Case]:
    """Settings that are none, listed with the checksum that they have."""
    cases = [
        opened(f"{file} is {what}", replaced(file, content), rf"{file} cannot be read as JSON "
               rf"\(.*{why}.*\): {AGAIN}", "texts", listed=True)
        for file in (FLOW_MAP, SCHEDULER, VAE, INDEX)
        for what, content, why in (("a text", '"somebody/model"', "holds a str"), ("a list", "[1]", "list"))
    ]  # fmt: skip
    cases += [
        opened(f"a config that is {what}", replaced(FLOW_MAP, content), rf"config.json cannot be .*{why}",
               listed=True)
        for what, content, why in (
            ("empty", "", "Expecting value"), ("cut", '{"top": 1', "delimiter"),
            ("not UTF-8", b'{"top": "\xff"}', "codec"), ("too large", '{"top": 1e999}', "holds 1e999"),
            ("NaN in it", '{"noise_scale": NaN}', "holds NaN, which is no number"),
            ("very deep", "[" * 10**5, "recursion"),
        )
    ]  # fmt: skip
    wanted = {
        "noise_scale": ("a number above 0", (-1, 0, "1", None, True, [1])),
        "top": ("a whole number from 1 to 255", (-5, 0, 10**9, 2.5, "255", None)),
        "bypass": ("true or false", ("no", 1, None)),
        "sampler": ("'jumps' or 'euler'", ("heun", None)),
        "shape": ("three whole numbers above 0", ([1, 8], [1, 0, 8], [1, 8, 8.5], "188", None, [1, 8, -8])),
        "student": ("a mapping, or null", ("mine", [1])),
    }
    for name, (what, values) in wanted.items():
        for value in values:
            says = rf"`{name}` of a FlowMapModel is {what}.*, not .*: correct it in config.json"
            cases.append(setting(f"{name} {value!r}", FLOW_MAP, says, **{name: value}))
    for name in ("settings", "shape", "sampler", "noise_scale", "top"):
        says = rf"config.json does not say `{name}` of a FlowMapModel: {AGAIN}"
        cases.append(setting(f"no {name}", FLOW_MAP, says, **{name: GONE}))
    for what, own, says in (
        ("a text", "unet", "there is no network None; there are adm, "),
        ("of no kind", UNET | {"kind": "nope"}, "there is no network 'nope'; there are adm, "),
        ("with groups of none", UNET | {"groups": 0}, "are no settings of a network .*ZeroDivisionError"),
        ("with a text for a width", UNET | {"channels": [4, "4"]}, "no settings of a network .*TypeError"),
        ("with one too many", UNET | {"depth": 3}, "are no settings of a network .*unexpected .*'depth'"),
        ("of another width", UNET | {"channels": [4, 8]}, rf"another network than config.json .*: {AGAIN}"),
    ):
        cases.append(setting(f"settings {what}", FLOW_MAP, says, settings=own))
    for name, value in (("shift", "3"), ("shift", 0), ("shift", None), ("num_train_timesteps", -1)):
        says = rf"`{name}` of a FlowMapEulerDiscreteScheduler is a number above 0, not"
        cases.append(setting(f"{name} {value!r}", SCHEDULER, says, **{name: value}))
    for value in (None, "1", 0, -1):
        says = rf"`scaling_factor` of the `vae` is a number above 0, not {value!r}"
        cases.append(setting(f"scaling_factor {value!r}", VAE, says, "texts", scaling_factor=value))
    for name, value, says in (
        ("scheduler", ["diffusers", "DDIMScheduler"], "takes a FlowMap.*Scheduler, and no DDIMScheduler"),
        ("scheduler", GONE, "model_index.json does not say `scheduler` of a FewStepPipeline: save"),
        ("flow_map", ["diffusers", "UNet2DModel"], "takes a FlowMapModel, and no UNet2DModel: take"),
        ("vae", ["diffusers", "VQModel"], "student cannot be opened .*encoder.conv_out.bias expected shape"),
        ("vae", [None, None], "draws in latents of 4 channels: give it the `vae`"),
        ("vae", GONE, "draws in latents of 4 channels: give it the `vae`"),
        ("text_encoder", [None, None], "is conditioned on captions: give it the `text_encoder`"),
        ("tokenizer", GONE, "is conditioned on captions: give it the `text_encoder` and the `tokenizer`"),
        ("bottom", 3, "FewStepPipeline has no setting 'bottom'"),
        ("_class_name", "DDPMPipeline", r"holds a DDPMPipeline and no saved student \(FewStepPipeline\)"),
    ):
        shown = "gone" if value is GONE else f"{value!r:.25}"
        cases.append(setting(f"{name} {shown}", INDEX, says, "texts", **{name: value}))
    return [
        *cases,
        setting("guidance without text", FLOW_MAP, "guidance compares texts: leave", guidance_scale=2),
        setting("guidance -1", FLOW_MAP, "is a number from 0 on, not -1", "texts", guidance_scale=-1),
        setting("a misspelt setting", FLOW_MAP, "has no setting 'noise_sclae'; it has", noise_sclae=1.0),
        opened("the index a folder", in_its_place(INDEX, Path.mkdir), f"{INDEX} is no file: {AGAIN}"),
        opened("no index", lambda own: (own / INDEX).unlink(), f"is no saved student: it holds no {INDEX}"),
    ]


def cases() -> list[Case]:
    return [*unlisted(), *settings()]
