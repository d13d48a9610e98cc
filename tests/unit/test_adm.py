"""The ADM UNet: as published, at our border of time; and the published checkpoint's conversion."""

from __future__ import annotations

import argparse
import hashlib
import os
from math import exp, log, prod, sqrt

import pytest
import torch
from diffusers.models.attention_processor import Attention

from fewstep import cli, networks
from fewstep.flows.flow_map import FlowMap
from fewstep.networks import adm, load_flow_map
from fewstep.networks.published import lfm
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint
from fewstep.training.weights import load_log

from ..analytic.exact import F64, central, close, randn, uniform

TINY = {
    "kind": "adm",
    "width": 32,
    "multipliers": [1, 2, 2],
    "blocks": 1,
    "attention": [4],
    "heads": 2,
    "dropout": 0.0,
}
SHAPE = (4, 8, 8)
X, DX = randn(3, *SHAPE, seed=1), randn(3, *SHAPE, seed=2)
S, T = (uniform(3, low=0.0, high=1.0, seed=k) for k in (3, 4))
DS, DT = (randn(3, seed=k) for k in (5, 6))


def flow_map(gap: bool = True, **changes) -> FlowMap:
    """A tiny ADM in float64 with nothing left at zero, but for the gap's weights where `gap` is False."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        built = networks.build(TINY | changes, SHAPE).double()
        for name, parameter in built.named_parameters():
            if not parameter.any() and (gap or "gap_embed" not in name):
                torch.nn.init.normal_(parameter, std=0.05)
    return built


def published(heads: int = 4):
    with torch.device("meta"):
        return adm.build((4, 32, 32), 256, [1, 2, 2, 2], 2, [8], heads)


def of_lfm(network, time, x):
    """The published network's own function, of times from data at 0 to noise at 1."""
    nothing = torch.zeros(len(x), network.gap_embed[2].out_features, dtype=x.dtype)
    return network.model(x, time, class_labels=nothing).sample


def fill(network, weights: dict) -> None:
    """Give `network` weights by their published names, as a conversion does, head by head."""
    heads = network.model.mid_block.attentions[0].heads
    with torch.no_grad():
        for name, shape, parameters in lfm.tensors(network.model):
            assert weights[name].shape == shape
            if len(parameters) == 1:
                parameters[0].copy_(weights[name].reshape(parameters[0].shape))
                continue
            for head, rows in enumerate(weights[name].chunk(heads)):
                for parameter, part in zip(parameters, rows.chunk(3)):
                    size = len(part)
                    parameter[head * size : (head + 1) * size] = part.reshape(size, *parameter.shape[1:])


# As published --------------------------------------------------------------------------------------------


def test_the_published_size():
    """153.1M parameters in 304 tensors, as counted in the released checkpoint (VinAIResearch/LFM, issue 22:
    about 153M).
    """
    network = published()
    of_the_gap = sum(p.numel() for p in network.gap_embed.parameters())
    assert of_the_gap == 256 * 1024 + 1024 * 1024
    assert sum(p.numel() for p in network.parameters()) - of_the_gap == 153_099_524


def test_the_published_names_and_shapes():
    """The digest is of names and shapes, in order, of openai/guided-diffusion's UNetModel with LFM's settings
    for CelebA-HQ.
    """
    network = published()
    found = [f"{name} {shape}" for name, shape, _ in lfm.tensors(network.model)]
    held = [id(own) for *_, parameters in lfm.tensors(network.model) for own in parameters]
    assert sorted(held) == sorted(id(own) for own in network.model.parameters()), "each once"
    assert len(found) == 304
    assert {
        "time_embed.0.weight (1024, 256)",
        "input_blocks.0.0.weight (256, 4, 3, 3)",
        "input_blocks.1.0.emb_layers.1.weight (512, 1024)",
        "input_blocks.3.0.op.weight (256, 256, 3, 3)",
        "input_blocks.4.0.skip_connection.weight (512, 256, 1, 1)",
        "input_blocks.10.1.qkv.weight (1536, 512, 1)",
        "middle_block.1.proj_out.weight (512, 512, 1)",
        "output_blocks.2.2.conv.weight (512, 512, 3, 3)",
        "output_blocks.11.0.in_layers.2.weight (256, 512, 3, 3)",
        "out.2.weight (4, 256, 3, 3)",
    } <= set(found)
    assert not any("input_blocks.7.1" in line for line in found), "attention at a quarter of the size"
    assert (
        hashlib.sha256("\n".join(found).encode()).hexdigest()
        == "d24ca1f59e76509b453317af15f0e60ba18939c984312dea4d468a35705a58cb"
    )


@pytest.mark.parametrize(
    "heads, across, down",
    [
        (2, [-0.1800188, -0.3155385], [0.4407253, -0.0191482, -0.3565484, -0.0351597]),
        (4, [-0.1829118, -0.3144028], [0.4407574, -0.0190752, -0.3564513, -0.0350614]),
    ],
)
def test_the_published_implementation_gives_these_numbers(heads, across, down):
    """Computed once by openai/guided-diffusion's UNetModel in single precision, from weights that follow from
    a formula.
    """
    network, weights = networks.build(TINY | {"heads": heads}, SHAPE).network.eval(), {}
    for k, (name, shape, _) in enumerate(lfm.tensors(network.model)):
        numbers = torch.sin(torch.arange(prod(shape), dtype=F64) * 1.7 + k)
        scaled = numbers * (1.5 / sqrt(prod(shape[1:])) if len(shape) > 1 else 0.3)
        weights[name] = (scaled + (len(shape) == 1 and name.endswith("weight"))).reshape(shape)
    fill(network, weights)
    x = torch.sin(torch.arange(2 * 4 * 8 * 8, dtype=F64) * 0.37).reshape(2, *SHAPE).float()
    with torch.no_grad():
        found = of_lfm(network, torch.tensor([0.25, 0.875]), x)
    close(found[:, 1, 3, 5], torch.tensor(across), 2e-5)
    close(found[1, :, 0, 0], torch.tensor(down), 2e-5)


def test_time_enters_unscaled_in_cosines_before_sines():
    time = torch.tensor([0.0, 0.3, 1.0], dtype=F64)
    found = adm.falling(32).double()(time)
    wanted = [
        [
            f(t * torch.tensor(exp(-log(1e4) * k / 16), dtype=F64))
            for f in (torch.cos, torch.sin)
            for k in range(16)
        ]
        for t in time
    ]
    close(found, torch.tensor(wanted, dtype=F64), 1e-6)


def test_heads_change_the_function_and_no_shape():
    trained, released = ([*lfm.tensors(published(heads).model)] for heads in (4, 16))
    assert [own[:2] for own in trained] == [own[:2] for own in released]
    two, four = flow_map(), flow_map(heads=4)
    assert all(torch.equal(a, b) for a, b in zip(two.parameters(), four.parameters()))
    assert (two.average_velocity(S, T, X) - four.average_velocity(S, T, X)).abs().max() > 1e-4


def test_levels_of_several_widths_attend_in_as_many_heads():
    built = networks.build(TINY | {"multipliers": [1, 3, 2], "attention": [1, 2, 4], "heads": 4}, SHAPE)
    layers = [layer for layer in built.modules() if isinstance(layer, Attention)]
    assert len(layers) == 3 + 1 + 6 and {layer.heads for layer in layers} == {4}
    assert {layer.to_q.weight.shape for layer in layers} == {(32, 32), (96, 96), (64, 64)}


# As a flow map -------------------------------------------------------------------------------------------


def test_the_diagonal_is_the_published_network_seen_from_the_other_end_whatever_is_trained():
    built = flow_map()
    found = built.velocity(S, X)
    assert torch.equal(found, -of_lfm(built.network, 1 - S, X)) and found.abs().max() > 0.1
    gradients = torch.autograd.grad(found.square().sum(), list(built.network.gap_embed.parameters()))
    assert all(not g.any() for g in gradients)


def test_the_gap_adds_nothing_until_it_is_trained():
    fresh = flow_map(gap=False)
    assert torch.equal(fresh.average_velocity(S, T, X), fresh.velocity(S, X))
    gradient = torch.autograd.grad(
        fresh.average_velocity(S, T, X).square().sum(), fresh.network.gap_embed[2].weight
    )[0]
    assert gradient.abs().max() > 0
    trained = flow_map()
    assert (trained.average_velocity(S, T, X) - trained.velocity(S, X)).abs().max() > 1e-5


def test_an_untrained_adm_is_the_identity_map():
    untrained, x = networks.build(TINY, SHAPE), X.float()
    assert torch.equal(untrained.jump(S.float(), T.float(), x), x)


@pytest.mark.parametrize("along", ["s", "t", "x"])
def test_derivatives_against_central_differences(along):
    built = flow_map().requires_grad_(False)
    ds, dt, dx = DS * (along == "s"), DT * (along == "t"), DX * (along == "x")
    wanted = central(
        lambda h: built.average_velocity(S + h * ds, T + h * dt, X + h * dx), torch.tensor(0.0, dtype=F64)
    )
    value, general = torch.func.jvp(built.average_velocity, (S, T, X), (ds, dt, dx))
    assert wanted.abs().max() > 1e-6
    close(general, wanted, 1e-8)
    v, dv = built.average_velocity_pushforward(S, T, X, ds, dt, dx)
    close(v, value, 1e-12)
    close(dv, general, 1e-11)


def test_the_pushforward_is_the_jvp_with_its_gradients():
    found = []
    for how in (FlowMap.average_velocity_pushforward, lambda m, *a: m.average_velocity_pushforward(*a)):
        built = flow_map()
        v, dv = how(built, S, T, X, DS, DT, DX)
        gradients = torch.autograd.grad((v * dv.sin()).sum(), list(built.parameters()))
        assert all(g.any() for g in gradients)
        found.append((v, dv, *gradients))
    for ours, theirs in zip(*found):
        close(ours, theirs, 1e-9)


def test_what_is_dropped_follows_from_the_batch():
    built = flow_map(dropout=0.5).train()
    before = torch.random.get_rng_state()
    value = built.average_velocity(S, T, X)
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    assert torch.equal(built.average_velocity(S, T, X), value)
    close(built.average_velocity_pushforward(S, T, X, DS, DT, DX)[0], value, 1e-10)
    assert (built.average_velocity(S, T, X + 1e-9)[0] - value[0]).abs().max() > 1e-3, (
        "the same units for another batch"
    )
    assert (built.eval().average_velocity(S, T, X) - value).abs().max() > 1e-3, "nothing was dropped"


@pytest.mark.parametrize(
    "change, shape, sentence",
    [
        ({}, (2,), r"an adm takes images or latents of shape \(channels, height, width\), not \(2,\)"),
        ({"width": 48}, SHAPE, r"num_channels \(\d+\) must be divisible by num_groups"),
        ({}, (4, 6, 8), "3 levels of an adm halve the image 2 times: 6 x 8 is not divisible by 4"),
        ({"heads": 3}, SHAPE, "64 channels attend, and `heads` 3 does not divide them"),
        ({"attention": [], "heads": 48}, SHAPE, "64 channels attend, and `heads` 48 does not divide them"),
    ],
)
def test_an_adm_that_cannot_be_built_is_refused(change, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        networks.build(TINY | change, shape)


# The published checkpoint --------------------------------------------------------------------------------

WEIGHTS = {
    name: 0.1 * randn(*shape, seed=k).float()
    for k, (name, shape, _) in enumerate(lfm.tensors(flow_map().network.model))
}
BEHIND_MODULE = {f"module.{name}": value for name, value in WEIGHTS.items()}
OTHERS = {name: value + 1 for name, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    "content",
    [
        WEIGHTS,
        BEHIND_MODULE,
        {"model": BEHIND_MODULE},
        {"model": {f"module.{name}": value for name, value in OTHERS.items()}, "ema_model": WEIGHTS},
    ],
)
def test_a_published_file_becomes_a_flow_map(tmp_path, content):
    source, target = tmp_path / "model_480.pth", tmp_path / "out" / "teacher.safetensors"
    torch.save(content, source)
    described = lfm.convert(source, target, TINY, SHAPE)
    network = networks.build(TINY, SHAPE).network.eval()
    fill(network, WEIGHTS)
    s, t, x = S.float(), T.float(), X.float()
    converted = load_flow_map(target)
    # with gradients and without, some processors choose other convolutions: the weights are compared below
    torch.testing.assert_close(converted.velocity(s, x), -of_lfm(network, 1 - s, x))
    assert torch.equal(converted.average_velocity(s, t, x), converted.velocity(s, x))
    tensors, info = load_checkpoint(target)
    assert (
        info == described
        and info["network"] == TINY
        and info["shape"] == list(SHAPE)
        and info["steps"] == info["seed"] == info["drawn"] == 0
    )
    assert info["source"] == {
        "file": "model_480.pth",
        "sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
        "types": ["float32"],
    }
    assert all(len(values) == 0 for values in load_log(target).values())
    own = network.model.state_dict()
    assert all(torch.equal(tensors[f"weights.network.model.{name}"], value) for name, value in own.items())


def test_a_conversion_can_be_repeated_and_its_fingerprint_sees_weights_and_heads(tmp_path):
    source = tmp_path / "model_480.pth"
    torch.save(BEHIND_MODULE, source)
    marks = []
    for name, network in (("a", TINY), ("b", TINY), ("c", TINY | {"heads": 4})):
        marks.append(lfm.convert(source, tmp_path / name, network, SHAPE)["fingerprint"])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    torch.save(OTHERS, source)
    marks.append(lfm.convert(source, tmp_path / "d", TINY, SHAPE)["fingerprint"])
    assert marks[0] == marks[1] and len(set(marks)) == 3 and len(marks[0]) == 16


class Runs:
    """What a hostile file holds: a call that unpickling would make."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


NAME = "input_blocks.1.0.in_layers.2.weight"
CURE = "give the width, multipliers, blocks and attention that it was trained with"


def without(name: str) -> dict:
    return {key: value for key, value in WEIGHTS.items() if key != name}


@pytest.mark.parametrize(
    "content, sentence",
    [
        (without(NAME), f"is of another network: it lacks '{NAME}'; {CURE}"),
        (
            WEIGHTS | {"label_emb.weight": torch.zeros(3)},
            f"is of another network: it has 'label_emb.weight', which the network lacks; {CURE}",
        ),
        (
            WEIGHTS | {"gap_embed.0.weight": torch.zeros(3)},
            "it has 'gap_embed.0.weight', which the network lacks",
        ),
        (
            WEIGHTS | {NAME: torch.zeros(32, 32, 3, 1)},
            rf"'{NAME}' is \(32, 32, 3, 1\) there and \(32, 32, 3, 3\) in the network; {CURE}",
        ),
        (WEIGHTS | {NAME: WEIGHTS[NAME].int()}, f"has '{NAME}' in int32, which is no weight: download it"),
        (
            WEIGHTS | {NAME: WEIGHTS[NAME] * float("nan")},
            f"numbers in '{NAME}' that are not finite: download it again",
        ),
        (WEIGHTS | {"epoch": 480}, "holds 'epoch', which is no tensor"),
        ([1, 2], "holds a list and no state dict"),
        ({}, "holds a dict and no state dict"),
    ],
)
def test_another_network_is_named_and_nothing_is_written(tmp_path, content, sentence):
    source, target = tmp_path / "model_480.pth", tmp_path / "teacher.safetensors"
    torch.save(content, source)
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        lfm.convert(source, target, TINY, SHAPE)
    assert "\n" not in str(refusal.value) and str(source) in str(refusal.value) and not target.exists()


@pytest.mark.parametrize("zipped", [True, False])
def test_pickled_code_is_refused_and_not_run(tmp_path, zipped):
    source, ran = tmp_path / "content.pth", tmp_path / "ran"
    for extra, named in ((Runs(ran), "mkdir"), (argparse.Namespace(seed=1), "argparse.Namespace")):
        torch.save(
            {"args": extra, "model_dict": BEHIND_MODULE}, source, _use_new_zipfile_serialization=zipped
        )
        with pytest.raises(
            CheckpointError,
            match=rf"content\.pth carries pickled code \([a-z.]*{named}\), which is never run here: convert",
        ) as refusal:
            lfm.convert(source, tmp_path / "teacher.safetensors", TINY, SHAPE)
        assert "\n" not in str(refusal.value)
    assert not ran.exists() and not (tmp_path / "teacher.safetensors").exists()


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("kept", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(tmp_path, zipped, kept):
    source = tmp_path / "model_480.pth"
    torch.save(BEHIND_MODULE, source, _use_new_zipfile_serialization=zipped)
    whole = source.read_bytes()
    source.write_bytes(whole[: int(kept * len(whole))])
    with pytest.raises(
        CheckpointError, match=r"model_480\.pth is no whole checkpoint of torch \(\w+\): download it again"
    ) as refusal:
        lfm.read(source)
    assert "\n" not in str(refusal.value)


def test_an_absent_file_and_a_page_in_its_place_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match="is not there: download celeba_f8_adm"):
        lfm.read(tmp_path / "model_480.pth")
    (tmp_path / "model_480.pth").write_text(
        "<!DOCTYPE html><html>too large to scan for viruses</html>", encoding="utf-8"
    )
    with pytest.raises(CheckpointError, match="is no whole checkpoint of torch"):
        lfm.read(tmp_path / "model_480.pth")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(lfm.convert, "__defaults__", (lfm.PUBLISHED, SHAPE, "celebahq256"))
    torch.save(BEHIND_MODULE, tmp_path / "model_480.pth")
    monkeypatch.setattr(lfm, "PUBLISHED", TINY)
    words = ["convert-lfm", str(tmp_path / "model_480.pth"), str(tmp_path / "teacher"), "--heads", "4"]
    arguments = cli._parser().parse_args(words)
    arguments.action(tmp_path, arguments)
    assert (
        "teacher is the published network, every name and shape checked, with 4 heads (source sha256 "
        in capsys.readouterr().out
    )
    assert load_checkpoint(tmp_path / "teacher")[1]["network"] == TINY | {"heads": 4}
    assert cli._parser().parse_args(words[:3]).heads == 4
