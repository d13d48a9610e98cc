"""What a training may trade for speed: close to the plain result, and the switches are restored."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from fewstep import objectives
from fewstep.flows.interpolants import Batch
from fewstep.networks.forward_mode.dual import Dual, parts
from fewstep.settings import document, tiers
from fewstep.settings.networks import UNetSettings
from fewstep.settings.resolve import as_file
from fewstep.settings.training import Training
from fewstep.storage.checkpoint import load_checkpoint
from fewstep.training import job as run
from fewstep.training import precision, train
from fewstep.training.loops import terms

FMM = "fmm-checkerboard"
UNET = UNetSettings(
    kind="unet", channels=[8, 16], layers=1, attention=[False, True], groups=4, time_scale=10.0
)
SETTINGS = {"precision": "bf16", "channels_last": True, "compile": True, "cuda_graphs": True}


@pytest.fixture(scope="module")
def plain(smoke) -> Training:
    """A UNet on coloured patches, a small batch."""
    return smoke.experiment(FMM).training.model_copy(update={"data": "patches", "network": UNET, "batch": 8})


@pytest.fixture(scope="module")
def job(smoke, plain, tmp_path_factory):
    """job(name, **settings): LMD of that UNet for six steps, its teacher trained once for all."""
    folder = tmp_path_factory.mktemp("precision")
    first = run.Job(
        plain, smoke.experiment(FMM).method("si").model_copy(update={"steps": 4}), 1, folder / "si.state"
    )
    run.advance(first, "mark", 4)
    train.publish(first, "mark", folder / "teacher.safetensors")
    method = smoke.experiment(FMM).method("lmd").model_copy(update={"steps": 6})
    return lambda name, **settings: run.Job(
        plain.model_copy(update=settings), method, 0, folder / f"{name}.state", folder / "teacher.safetensors"
    )


def gradient(job: run.Job, objective: str, **options: str) -> tuple[torch.Tensor, torch.Tensor]:
    """The residuals of one batch, and the gradient of their mean."""
    generator = torch.Generator().manual_seed(3)
    student, teacher = job.fresh(), job.fresh().requires_grad_(False)
    for flow_map in (student, teacher):
        torch.nn.init.normal_(flow_map.network.model.conv_out.weight, std=0.1, generator=generator)
    x0, x1 = torch.randn(2, 16, 3, 16, 16, generator=generator)
    s, t, g = torch.rand(3, 16, generator=generator)
    with precision.evaluating(job.training, "cpu"):
        residuals = objectives.bind(
            objective, options, teacher if objectives.needs_teacher(objective) else None
        )(student, Batch(x0, x1, s / 2, 0.5 + t / 2, g))
    residuals.mean().backward()
    return residuals.detach(), torch.cat([p.grad.flatten() for p in student.parameters()])


# those of dual numbers, and those that first evaluate the student under a stop-gradient
@pytest.mark.parametrize(
    "objective, options",
    [
        ("lmd", {"gradient": "full"}),
        ("lmd", {"gradient": "semi"}),
        ("si", {}),
        ("emd", {}),
        ("psd", {}),
        ("meanflow", {}),
    ],
)
def test_a_gradient_in_bf16_points_where_the_plain_one_does(job, objective, options):
    (plain, exact), (rounded, close) = (
        gradient(job("unused", precision=name), objective, **options) for name in (None, "bf16")
    )
    assert rounded.dtype == torch.float32 and close.dtype == torch.float32
    # eight bits of mantissa are 0.4%, over some thirty layers
    assert torch.cosine_similarity(exact, close, 0) > 0.99
    assert 1e-5 < (rounded - plain).norm() / plain.norm() < 0.05, "nothing, or too much, was rounded"


def test_a_run_in_bf16_keeps_everything_it_stores_in_single_precision(job):
    states = {}
    for name in (None, "bf16"):
        one = job(f"stored-{name}", precision=name)
        run.advance(one, "mark", 3)
        run.advance(one, "mark", 6)
        states[name] = load_checkpoint(one.state)[0]
    assert {v.dtype for k, v in states["bf16"].items() if k != "generator"} == {torch.float32}
    difference = (states["bf16"]["log"] - states[None]["log"]).abs() / states[None]["log"]
    assert 0 < difference.max() < 0.05


def test_under_autocast_a_pair_is_normalised_in_single_precision():
    generator = torch.Generator().manual_seed(0)
    x, dx = torch.randn(2, 3, 6, 4, 4, generator=generator).bfloat16()
    weight, bias = torch.randn(2, 6, generator=generator)
    with torch.autocast("cpu", torch.bfloat16):
        rounded = parts(F.group_norm(Dual(x, dx), 3, weight, bias))
    for ours, theirs in zip(rounded, parts(F.group_norm(Dual(x.float(), dx.float()), 3, weight, bias))):
        assert torch.equal(ours, theirs)


def test_channels_last_is_the_plain_result_in_another_layout(job, monkeypatch):
    strides = []
    watched = terms.Loop.draw_batch

    def watch(*arguments) -> Batch:
        batch = watched(*arguments)
        strides.append(batch.x0.stride() + batch.x1.stride())
        return batch

    monkeypatch.setattr(terms.Loop, "draw_batch", watch)
    one, other, pieces = job("plain"), job("last", channels_last=True), job("pieces", channels_last=True)
    assert other.fresh().network.model.mid_block.resnets[0].conv1.weight.stride() == (144, 1, 48, 16)
    for each in (one, other):
        run.advance(each, "mark", 6)
    assert set(strides[:6]) == {(768, 256, 16, 1) * 2} and set(strides[6:]) == {(768, 1, 48, 3) * 2}
    plain, last = (load_checkpoint(each.state)[0] for each in (one, other))
    difference = torch.cat([(plain[k] - last[k]).flatten() for k in plain if k.startswith("student.")])
    size = torch.cat([plain[k].flatten() for k in plain if k.startswith("student.")])
    assert difference.norm() < 1e-5 * size.norm()
    assert ((plain["log"] - last["log"]).abs() < 1e-5 * plain["log"]).all()
    # the file keeps no layout, so whatever goes on from it must give everything its layout again
    for until in (2, 5, 6):
        run.advance(pieces, "mark", until)
    assert pieces.state.read_bytes() == other.state.read_bytes()


def switches() -> tuple[bool, bool]:
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32


@pytest.mark.parametrize(
    "name, within", [(None, None), ("bf16", None), ("fp32", (False, False)), ("tf32", (True, True))]
)
@pytest.mark.parametrize("before", [(False, True), (True, False)])
def test_the_switches_for_products_are_set_for_a_run_and_put_back(job, monkeypatch, name, within, before):
    kept, seen, drawn = switches(), [], terms.Loop.draw_batch
    monkeypatch.setattr(terms.Loop, "draw_batch", lambda *own: seen.append(switches()) or drawn(*own))
    try:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = before
        one = job("switches", precision=name)
        one.state.unlink(missing_ok=True)
        run.advance(one, "mark", 1)
        assert seen == [within or before] and switches() == before
        with pytest.raises(KeyError), precision.products(one.training):
            raise KeyError
        assert switches() == before
    finally:
        torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32 = kept


@pytest.mark.parametrize("graphs, mode", [(None, "default"), (True, "reduce-overhead")])
def test_a_network_is_compiled_in_place(job, monkeypatch, graphs, mode):
    modes, marked = [], []
    monkeypatch.setattr(torch.nn.Module, "compile", lambda self, mode: modes.append(mode))
    monkeypatch.setattr(torch.compiler, "cudagraph_mark_step_begin", lambda: marked.append(True))
    one = job(f"compiled-{mode}", compile=True, cuda_graphs=graphs)
    names = list(job("unused").fresh().state_dict())
    assert list(one.fresh().state_dict()) == names and modes == [mode]
    run.advance(one, "mark", 2)
    assert len(marked) == (2 if graphs else 0)
    assert modes == [mode] * 4, "one that is drawn here, the student, its average and the teacher"


def test_what_is_not_said_is_in_no_fingerprint_and_in_no_record(job, plain):
    assert not set(SETTINGS) & set(plain.model_dump())
    seen = {job("unused").fingerprint()} | {
        job("unused", **{name: value}).fingerprint() for name, value in SETTINGS.items()
    }
    seen.add(job("unused", precision="tf32").fingerprint())
    assert len(seen) == 2 + len(SETTINGS)
    for name, value in SETTINGS.items():
        assert plain.model_copy(update={name: value}).model_dump()[name] == value


@pytest.mark.parametrize(
    "network, device, change, sentence",
    [
        ("unet", "cpu", {"precision": "tf32"}, "training.precision tf32 needs compute.device cuda"),
        (
            "unet",
            "cpu",
            {"compile": True},
            "training.compile needs compute.device cuda; "
            "forward-mode derivatives with a backward pass do not compile on a CPU",
        ),
        (
            "unet",
            "cuda",
            {"cuda_graphs": True},
            "training.cuda_graphs replays what training.compile compiles: set both, or neither",
        ),
        ("mlp", "cuda", {"precision": "bf16"}, "training.precision bf16 is for networks of images"),
        ("mlp", "cpu", {"channels_last": True}, "training.channels_last is for networks of images"),
        (
            "unet",
            "cpu",
            {"precision": "fp16"},
            r"experiments.fmm-cifar10.training.precision: .*'fp32', 'tf32' or 'bf16', not 'fp16'",
        ),
        ("unet", "cpu", {"precision": "bf16", "channels_last": True}, None),
        ("unet", "cuda", {"precision": "tf32", "compile": True, "cuda_graphs": True}, None),
        ("mlp", "cuda", {"precision": "tf32", "compile": True}, None),
        ("mlp", "cpu", {"precision": "fp32", "compile": False, "channels_last": False}, None),
    ],
)
def test_what_a_machine_or_a_network_cannot_do_is_one_sentence(
    root, tmp_path, network, device, change, sentence
):
    settings = json.loads(json.dumps(tiers.section(root / "params.yaml", "smoke")))
    settings["compute"]["device"] = device
    # images for a network of images
    name = FMM if network == "mlp" else "fmm-cifar10"
    settings["experiments"][name]["training"].update(change)
    path: Path = tmp_path / "params.yaml"
    path.write_text(document.dump(as_file(settings, "smoke")), encoding="utf-8")
    if sentence is None:
        tiers.load(path, "smoke")
        return
    with pytest.raises(tiers.SettingsError, match=sentence) as caught:
        tiers.load(path, "smoke")
    assert "\n" not in str(caught.value)
