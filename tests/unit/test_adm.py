"""The ADM UNet: as published, at our border of time; and the published checkpoint's conversion."""

from __future__ import annotations

import argparse
import hashlib
import os
from math import exp, log, sqrt

import pytest
import torch
from torch.nn import functional as F

from fewstep import cli, networks
from fewstep.flows.flow_map import FlowMap
from fewstep.networks import adm
from fewstep.networks.load import load_flow_map
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
    "head_channels": None,
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


def published(head_channels: int | None = None):
    with torch.device("meta"):
        return adm.build((4, 32, 32), 256, [1, 2, 2, 2], 2, [8], 4, head_channels)


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
    found = [
        f"{name} {tuple(value.shape)}"
        for name, value in published().state_dict().items()
        if not name.startswith("gap_embed.")
    ]
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
    "head_channels, across, down",
    [
        (None, [-0.1800188, -0.3155385], [0.4407253, -0.0191482, -0.3565484, -0.0351597]),
        (16, [-0.1829118, -0.3144028], [0.4407574, -0.0190752, -0.3564513, -0.0350614]),
    ],
)
def test_the_published_implementation_gives_these_numbers(head_channels, across, down):
    """Computed once by openai/guided-diffusion's UNetModel in single precision, from weights that follow from
    a formula.
    """
    network = networks.build(TINY | {"head_channels": head_channels}, SHAPE).network.eval()
    with torch.no_grad():
        for k, (name, p) in enumerate(
            (n, p) for n, p in network.named_parameters() if not n.startswith("gap_embed.")
        ):
            size = 1.5 / sqrt(p[0].numel()) if p.ndim > 1 else 0.3
            p.copy_(
                (
                    torch.sin(torch.arange(p.numel(), dtype=F64) * 1.7 + k) * size
                    + (p.ndim == 1 and name.endswith("weight"))
                ).reshape(p.shape)
            )
        x = torch.sin(torch.arange(2 * 4 * 8 * 8, dtype=F64) * 0.37).reshape(2, *SHAPE).float()
        found = network.published(torch.tensor([0.25, 0.875]), x)
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


def normalised(x, weight, bias):
    """Group normalisation in 32 groups, written out."""
    n, c, *_ = x.shape
    grouped = x.reshape(n, 32, -1)
    z = (grouped - grouped.mean(2, keepdim=True)) / (
        grouped.var(2, unbiased=False, keepdim=True) + 1e-5
    ).sqrt()
    along = (1, c, *[1] * (x.ndim - 2))
    return z.reshape(x.shape) * weight.reshape(along) + bias.reshape(along)


def test_a_residual_block_by_its_formula():
    block = flow_map().network.output_blocks[0][0]
    x, embedded = randn(2, 128, 2, 2, seed=1), randn(2, 128, seed=2)
    w = block.state_dict()
    h = normalised(x, w["in_layers.0.weight"], w["in_layers.0.bias"])
    h = F.conv2d(h * torch.sigmoid(h), w["in_layers.2.weight"], w["in_layers.2.bias"], padding=1)
    scale, shift = (F.silu(embedded) @ w["emb_layers.1.weight"].T + w["emb_layers.1.bias"]).split(64, 1)
    h = (
        normalised(h, w["out_layers.0.weight"], w["out_layers.0.bias"]) * (1 + scale[..., None, None])
        + shift[..., None, None]
    )
    h = F.conv2d(F.silu(h), w["out_layers.3.weight"], w["out_layers.3.bias"], padding=1)
    close(
        block(x, embedded),
        torch.einsum("oi,nihw->nohw", w["skip_connection.weight"][..., 0, 0], x)
        + w["skip_connection.bias"][:, None, None]
        + h,
        1e-12,
    )


def test_the_first_half_of_an_embedding_scales_and_the_second_shifts():
    block = adm.ResidualBlock(32, 32, 8, 0.0).double()
    torch.nn.init.dirac_(block.out_layers[3].weight)
    torch.nn.init.zeros_(block.emb_layers[1].weight)
    x, seen = randn(2, 32, 4, 4, seed=1), {}
    block.out_layers[1].register_forward_pre_hook(lambda _, inputs: seen.update(h=inputs[0]))
    found = []
    for scale, shift in ((0.0, 0.0), (2.0, 0.5)):
        with torch.no_grad():
            block.emb_layers[1].bias.copy_(torch.tensor([scale] * 32 + [shift] * 32))
        block(x, torch.zeros(2, 8, dtype=F64))
        found.append(seen["h"])
    close(found[1], 3 * found[0] + 0.5, 1e-12)


@pytest.mark.parametrize("heads", [1, 4])
def test_an_attention_block_by_its_formula(heads):
    block = adm.AttentionBlock(64, heads).double()
    torch.nn.init.normal_(block.proj_out.weight)
    x, size = randn(2, 64, 3, 2, seed=1), 64 // heads
    qkv = (
        block.qkv.weight[..., 0] @ normalised(x.reshape(2, 64, 6), block.norm.weight, block.norm.bias)
        + block.qkv.bias[:, None]
    )
    attended = torch.empty(2, 64, 6, dtype=F64)
    for head in range(heads):
        # the three of a head together
        q, k, v = (qkv[:, (3 * head + part) * size : (3 * head + part + 1) * size] for part in range(3))
        for place in range(6):
            weights = torch.stack(
                [(q[:, :, place] * k[:, :, other]).sum(1) / sqrt(size) for other in range(6)], 1
            ).softmax(1)
            attended[:, head * size : (head + 1) * size, place] = (weights[:, None] * v).sum(2)
    out = block.proj_out.weight[..., 0] @ attended + block.proj_out.bias[:, None]
    close(block(x), x + out.reshape(x.shape), 1e-12)


def test_heads_change_the_function_and_no_shape():
    trained, released = published(), published(head_channels=32)
    assert (
        trained.middle_block[1].heads == trained.output_blocks[0][1].heads == 4
        and released.middle_block[1].heads == 16
    )
    assert [(k, v.shape) for k, v in trained.state_dict().items()] == [
        (k, v.shape) for k, v in released.state_dict().items()
    ]
    two, four = flow_map(), flow_map(head_channels=16)
    assert all(torch.equal(a, b) for a, b in zip(two.parameters(), four.parameters()))
    assert (two.average_velocity(S, T, X) - four.average_velocity(S, T, X)).abs().max() > 1e-4


# As a flow map -------------------------------------------------------------------------------------------


def test_the_diagonal_is_the_published_network_seen_from_the_other_end_whatever_is_trained():
    built = flow_map()
    found = built.velocity(S, X)
    assert torch.equal(found, -built.network.published(1 - S, X)) and found.abs().max() > 0.1
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


def test_normalisation_keeps_the_precision_of_its_weights():
    layer, x = (
        adm.Normalisation(32),
        X.new_ones(2, 32, 4, 4).float() * torch.linspace(0, 1, 16).reshape(4, 4) + 100,
    )
    rounded = layer(x.bfloat16())
    assert rounded.dtype == torch.bfloat16
    assert torch.equal(rounded, layer(x.bfloat16().float()).bfloat16())


@pytest.mark.parametrize(
    "change, shape, sentence",
    [
        ({}, (2,), r"takes images of shape \(channels, height, width\), not \(2,\)"),
        ({"width": 48}, SHAPE, "divisible by its 32 groups, and 48 is not"),
        ({}, (4, 6, 8), "3 levels halve the image 2 times: 6 x 8 is not divisible by 4"),
        (
            {"attention": [4, 16]},
            SHAPE,
            r"a level 16 times smaller than the image, and there are \[1, 2, 4\]",
        ),
        ({"heads": 3}, SHAPE, "64 channels attend, and `heads` 3 does not divide them"),
        (
            {"attention": [], "head_channels": 48},
            SHAPE,
            "64 channels attend, and `head_channels` 48 does not divide them",
        ),
    ],
)
def test_an_adm_that_cannot_be_built_is_refused(change, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        networks.build(TINY | change, shape)


# The published checkpoint --------------------------------------------------------------------------------

WEIGHTS = {
    name: value.float()
    for name, value in flow_map().network.state_dict().items()
    if not name.startswith("gap_embed.")
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
    assert network.load_state_dict(WEIGHTS, strict=False).missing_keys == [
        "gap_embed.0.weight",
        "gap_embed.2.weight",
    ]
    s, t, x = S.float(), T.float(), X.float()
    converted = load_flow_map(target)
    assert torch.equal(converted.velocity(s, x), -network.published(1 - s, x))
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
    }
    assert all(len(values) == 0 for values in load_log(target).values())
    assert all(torch.equal(tensors[f"weights.network.{name}"], value) for name, value in WEIGHTS.items())


def test_a_conversion_can_be_repeated_and_its_fingerprint_sees_weights_and_heads(tmp_path):
    source = tmp_path / "model_480.pth"
    torch.save(BEHIND_MODULE, source)
    marks = []
    for name, network in (("a", TINY), ("b", TINY), ("c", TINY | {"head_channels": 16})):
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
        (
            WEIGHTS | {NAME: WEIGHTS[NAME].half()},
            f"has '{NAME}' in float16, not float32: convert the weights as they were trained",
        ),
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
    small = {name: value for name, value in TINY.items() if name not in ("kind", "head_channels", "dropout")}
    monkeypatch.setattr(lfm, "PUBLISHED", lfm.PUBLISHED | small | {"heads": 4})
    words = [
        "convert-lfm",
        str(tmp_path / "model_480.pth"),
        str(tmp_path / "teacher"),
        "--head-channels",
        "16",
    ]
    arguments = cli._parser().parse_args(words)
    arguments.action(tmp_path, arguments)
    assert (
        "teacher is the published network, every name and shape checked, "
        "with heads of 16 channels (source sha256 " in capsys.readouterr().out
    )
    assert load_checkpoint(tmp_path / "teacher")[1]["network"] == TINY | {"heads": 4, "head_channels": 16}
    assert cli._parser().parse_args(words[:3]).head_channels is None
