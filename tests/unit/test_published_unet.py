"""Stable Diffusion's UNet as a flow map: diffusers' own network on the diagonal, bit for bit.

And the conversion of the published weights.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from fewstep import cli, networks
from fewstep.flows.conditioning import Conditioned, Conditions, conditioned
from fewstep.flows.flow_map import FlowMap
from fewstep.networks import load_flow_map, published_unet
from fewstep.networks.published import conversion, instaflow
from fewstep.networks.published_unet import UNet2DConditionModel
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint
from fewstep.training.weights import load_log

from ..analytic.exact import F64, central, close

TINY = {
    "kind": "published_unet",
    "channels": [16, 32],
    "layers": 1,
    "attention": [True, False],
    "heads": 4,
    "groups": 8,
    "width": 12,
    "checkpointing": False,
}
# as config.json says it
CONFIG = {
    "_class_name": "UNet2DConditionModel", "_diffusers_version": "0.18.2", "act_fn": "silu",
    "attention_head_dim": 4, "block_out_channels": [16, 32], "center_input_sample": False,
    "class_embed_type": None, "cross_attention_dim": 12,
    "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"], "downsample_padding": 1,
    "flip_sin_to_cos": True, "freq_shift": 0, "in_channels": 4, "layers_per_block": 1,
    "mid_block_scale_factor": 1, "norm_eps": 1e-05, "norm_num_groups": 8, "out_channels": 4,
    "sample_size": 64, "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
}  # fmt: skip
SHAPE = (4, 8, 8)
GENERATOR = torch.Generator().manual_seed(3)
X, HIDDEN = torch.randn(3, *SHAPE, generator=GENERATOR), torch.randn(3, 7, 12, generator=GENERATOR)
TEXTS = Conditions(HIDDEN, torch.arange(7)[None].expand(3, 7) < torch.tensor([2, 5, 7])[:, None])
S, T = torch.tensor([0.0, 0.25, 0.875]), torch.tensor([1.0, 0.75, 1.0])


def original() -> UNet2DConditionModel:
    """diffusers' own network with the published settings, nothing in it at zero."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = UNet2DConditionModel(
            **{name: value for name, value in CONFIG.items() if not name.startswith("_")}
        ).eval()
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.data += 0.1 * torch.randn_like(parameter)
    return model


ORIGINAL = original()
WEIGHTS = {name: value.clone() for name, value in ORIGINAL.state_dict().items()}


def flow_map(gap: bool = True, **changes) -> FlowMap:
    """A tiny flow map with the original's weights; the gap's output layer is trained where `gap` is True."""
    with torch.random.fork_rng():
        torch.manual_seed(1)
        built = networks.build(TINY | changes, SHAPE)
        built.network.model.load_state_dict(WEIGHTS)
        if gap:
            torch.nn.init.normal_(built.network.gap_embed[2].weight, std=0.2)
    return built


def theirs(s: torch.Tensor, x: torch.Tensor = X) -> torch.Tensor:
    with torch.no_grad():
        return ORIGINAL(
            x,
            torch.stack([1000 * (1 - value) for value in s]),
            encoder_hidden_states=HIDDEN,
            return_dict=False,
        )[0]


# As published --------------------------------------------------------------------------------------------


def test_the_published_size_and_names():
    """859.5M weights in 686 tensors, under the names that diffusers' own network has.

    Nothing of the gap among them.
    """
    settings = {name: value for name, value in instaflow.PUBLISHED.items() if name != "kind"}
    with torch.device("meta"):
        network = published_unet.build(instaflow.LATENTS, **settings)
        # its settings' defaults are those of Stable Diffusion, but for the width of a text
        same = UNet2DConditionModel(sample_size=64, cross_attention_dim=768)
    assert sum(p.numel() for p in network.model.parameters()) == 859_520_964
    assert sum(p.numel() for p in network.gap_embed.parameters()) == 320 * 1280 + 1280 * 1280
    found = {name: value.shape for name, value in network.model.state_dict().items()}
    assert found == {name: value.shape for name, value in same.state_dict().items()} and len(found) == 686
    assert network.model.is_gradient_checkpointing
    assert {m.heads for m in network.modules() if hasattr(m, "heads")} == {8}


def test_the_diagonal_is_diffusers_own_network_whatever_is_trained():
    built = flow_map()
    with torch.no_grad():
        found = conditioned(built, TEXTS).velocity(S, X)
    assert torch.equal(found, theirs(S)) and found.abs().max() > 0.1
    gradients = torch.autograd.grad(
        Conditioned(built, TEXTS).velocity(S, X).square().sum(), list(built.network.gap_embed.parameters())
    )
    assert all(not g.any() for g in gradients)


def test_euler_steps_are_those_of_the_published_sampler():
    """In step i of N the network's time is 1000 (1 - i / N), and 1 / N of what it gives is added."""
    flow, x, ours = conditioned(flow_map(), TEXTS), X, X
    for i in range(4):
        with torch.no_grad():
            x = (
                x
                + ORIGINAL(
                    x,
                    torch.full((3,), (1.0 - i / 4) * 1000.0),
                    encoder_hidden_states=HIDDEN,
                    return_dict=False,
                )[0]
                / 4
            )
            ours = ours + flow.velocity(torch.full((3,), i / 4), ours) / 4
    assert torch.equal(ours, x)


def test_every_token_is_attended_to():
    flow, otherwise = flow_map(), Conditions(HIDDEN + (~TEXTS.mask[..., None]).float(), TEXTS.mask)
    with torch.no_grad():
        first, second, unmasked = (
            conditioned(flow, c).velocity(S, X)
            for c in (TEXTS, otherwise, Conditions(HIDDEN, torch.ones_like(TEXTS.mask)))
        )
    assert torch.equal(first, unmasked)
    changed = (first - second).abs().amax((1, 2, 3))
    assert (changed[:2] > 1e-4).all() and changed[2] == 0, "the filling counts, and the last text has none"


# As a flow map -------------------------------------------------------------------------------------------


def test_the_gap_adds_nothing_until_it_is_trained():
    fresh, trained = conditioned(flow_map(gap=False), TEXTS), conditioned(flow_map(), TEXTS)
    with torch.no_grad():
        assert torch.equal(fresh.average_velocity(S, T, X), theirs(S))
        assert (trained.average_velocity(S, T, X) - theirs(S)).abs().max() > 1e-3
    weight = fresh.flow_map.network.gap_embed[2].weight
    assert torch.autograd.grad(fresh.average_velocity(S, T, X).square().sum(), weight)[0].abs().max() > 0


def test_an_untrained_one_is_the_identity_map():
    assert torch.equal(conditioned(networks.build(TINY, SHAPE), TEXTS).jump(S, T, X), X)


@pytest.mark.parametrize("checkpointing", [False, True])
def test_derivatives_against_central_differences(checkpointing):
    built = flow_map(checkpointing=checkpointing).double()
    texts, s, t = Conditions(HIDDEN.double(), TEXTS.mask), S.double(), T.double()
    # where waves of a thousand radians are still in single precision, nothing is compared in s
    dt, dx = (
        torch.tensor([1.0, -2.0, 0.5], dtype=F64),
        torch.randn(X.shape, generator=torch.Generator().manual_seed(4), dtype=F64),
    )
    flow = conditioned(built, texts)
    wanted = central(
        lambda h: flow.average_velocity(s, t + h * dt, X.double() + h * dx).detach(),
        torch.tensor(0.0, dtype=F64),
    )
    _, tangent = torch.func.jvp(lambda t, x: flow.average_velocity(s, t, x), (t, X.double()), (dt, dx))
    close(tangent.detach(), wanted, 1e-7)
    # objectives differentiate the derivative by the weights
    gradient = torch.autograd.grad(tangent.square().sum(), built.network.gap_embed[2].weight)[0]
    assert gradient.abs().max() > 0


def test_latents_laid_out_channels_last_are_differentiated_too():
    built, along = flow_map().to(memory_format=torch.channels_last), (torch.ones(3), torch.ones_like(X))
    tangents = [
        torch.func.jvp(lambda t, x: conditioned(built, TEXTS).average_velocity(S, t, x), (T, x), along)[1]
        for x in (X, X.contiguous(memory_format=torch.channels_last))
    ]
    close(tangents[1], tangents[0], 1e-4)


def test_checkpointing_changes_no_bit():
    values = []
    for checkpointing in (False, True):
        built, kept = flow_map(checkpointing=checkpointing), []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: kept.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            loss = conditioned(built, TEXTS).average_velocity(S, T, X).square().sum()
        values.append((loss, torch.autograd.grad(loss, list(built.parameters())), sum(kept)))
    (plain, gradients, much), (again, same, little) = values
    assert torch.equal(plain, again) and all(torch.equal(a, b) for a, b in zip(gradients, same))
    assert little < 0.7 * much


def test_the_encoder_is_a_copy_of_what_leads_to_the_middle():
    built, seen = flow_map(), []
    built.requires_grad_(False).network.model.mid_block.register_forward_hook(
        lambda module, inputs, output: seen.append(output)
    )
    conditioned(built, TEXTS).velocity(S, X)
    encoder = built.network.encoder()
    found = encoder(S, X, TEXTS)
    assert (
        torch.equal(found, seen[0])
        and found.shape == (3, encoder.width, 4, 4)
        and all(p.requires_grad for p in encoder.parameters())
    )
    found.sum().backward()
    assert encoder.conv_in.weight.grad.any() and built.network.model.conv_in.weight.grad is None


@pytest.mark.parametrize(
    "change, shape, sentence",
    [
        ({}, (2,), r"takes images or latents of shape \(channels, height, width\), not \(2,\)"),
        ({"attention": [True]}, SHAPE, "same number of `block_out_channels` as `down_block_types`"),
        ({}, (4, 6, 7), "2 levels of a published_unet halve the image 1 times: 6 x 7 is not divisible by 2"),
        ({"groups": 6}, SHAPE, r"num_channels \(\d+\) must be divisible by num_groups"),
    ],
)
def test_one_that_cannot_be_built_is_refused(change, shape, sentence):
    with pytest.raises(ValueError, match=sentence):
        networks.build(TINY | change, shape)


# The published weights -----------------------------------------------------------------------------------


def write(folder, weights=WEIGHTS, config=CONFIG, pickled: bool = False):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(
        config if isinstance(config, str) else json.dumps(config), encoding="utf-8"
    )
    if pickled:
        torch.save(weights, folder / instaflow.PICKLED)
    else:
        save_file(weights, folder / instaflow.SAFETENSORS)
    return folder


def converted(folder, target):
    return instaflow.convert(folder, target, TINY, SHAPE)


@pytest.mark.parametrize("pickled", [False, True])
def test_a_published_folder_becomes_a_flow_map(tmp_path, pickled):
    write(tmp_path / "instaflow" / "unet", pickled=pickled)
    described = converted(tmp_path / "instaflow", tmp_path / "out" / "teacher.safetensors")
    found = load_flow_map(tmp_path / "out" / "teacher.safetensors")
    with torch.no_grad():
        assert torch.equal(conditioned(found, TEXTS).velocity(S, X), theirs(S))
        assert torch.equal(conditioned(found, TEXTS).average_velocity(S, T, X), theirs(S))
    tensors, info = load_checkpoint(tmp_path / "out" / "teacher.safetensors")
    assert (
        info == described
        and info["network"] == TINY
        and info["shape"] == list(SHAPE)
        and info["steps"] == info["seed"] == info["drawn"] == 0
    )
    assert info["source"]["types"] == ["float32"] and all(
        len(values) == 0 for values in load_log(tmp_path / "out" / "teacher.safetensors").values()
    )
    assert all(
        torch.equal(tensors[f"weights.network.model.{name}"], value) for name, value in WEIGHTS.items()
    )


def test_what_diffusers_itself_saves_is_read_and_rounded_weights_are_widened(tmp_path):
    ORIGINAL.save_pretrained(tmp_path / "own")
    first = converted(tmp_path / "own", tmp_path / "a")
    assert (
        converted(tmp_path / "own", tmp_path / "b") == first
        and (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    )
    half = {name: value.bfloat16() for name, value in WEIGHTS.items()}
    described = converted(write(tmp_path / "half", half), tmp_path / "c")
    assert described["source"]["types"] == ["bfloat16"] and described["fingerprint"] != first["fingerprint"]
    tensors, _ = load_checkpoint(tmp_path / "c")
    assert all(
        torch.equal(tensors[f"weights.network.model.{name}"], value.float()) for name, value in half.items()
    )


def refused(folder, sentence: str) -> None:
    target = folder.parent / "teacher.safetensors"
    with pytest.raises(CheckpointError, match=sentence) as refusal:
        converted(folder, target)
    assert "\n" not in str(refusal.value) and not target.exists()


NAME = "down_blocks.0.attentions.0.transformer_blocks.0.attn2.to_k.weight"


def test_every_missing_foreign_or_misshapen_tensor_is_named():
    shapes = {name: value.shape for name, value in ORIGINAL.state_dict().items()}
    assert conversion.check(WEIGHTS, shapes, Path("unet"), "give another") == ["float32"]
    for name, value in WEIGHTS.items():
        for changed, sentence in (
            ({k: v for k, v in WEIGHTS.items() if k != name}, f"lacks '{name}';"),
            (WEIGHTS | {name: value.unsqueeze(-1)}, f"'{name}' is .* there and .* in the network;"),
            (WEIGHTS | {f"{name}s": value}, f"has '{name}s', which the network lacks;"),
        ):
            with pytest.raises(CheckpointError, match=f"unet is of another network: .*{sentence}"):
                conversion.check(changed, shapes, Path("unet"), "give another")


def test_weights_of_another_network_or_none_are_refused(tmp_path):
    refused(
        write(tmp_path / "a", WEIGHTS | {"class_embedding.linear_1.weight": torch.zeros(3)}),
        "it has 'class_embedding.linear_1.weight', which the network lacks",
    )
    refused(
        write(tmp_path / "b", {k: v for k, v in WEIGHTS.items() if k != NAME}),
        f"diffusion_pytorch_model.safetensors is of another network: it lacks '{NAME}'",
    )
    refused(
        write(tmp_path / "c", WEIGHTS | {NAME: WEIGHTS[NAME].long()}),
        f"has '{NAME}' in int64, which is no weight",
    )
    refused(
        write(tmp_path / "d", WEIGHTS | {NAME: WEIGHTS[NAME] / 0}),
        f"numbers in '{NAME}' that are not finite: download it again",
    )
    refused(write(tmp_path / "e", {"step": 5}, pickled=True), "holds 'step', which is no tensor")
    refused(write(tmp_path / "f", [1, 2], pickled=True), "holds a list and no state dict")


@pytest.mark.parametrize(
    "change, sentence",
    [
        ({"attention_head_dim": 8}, r"says `attention_head_dim: 8`, and the network has 4:"),
        ({"freq_shift": 1}, "says `freq_shift: 1`, and the network has 0:"),
        ({"up_block_types": ["UpBlock2D", "UpBlock2D"]}, "says `up_block_types: "),
        ({"class_embed_type": "timestep"}, 'says `class_embed_type: "timestep"`, and the network has null:'),
        ({"use_linear_projection": True}, "says `use_linear_projection: true`, and the network has false:"),
        ({"invented": 3}, "says `invented: 3`, and the network has null:"),
        ({"_class_name": "UNet2DModel"}, "describes a UNet2DModel and no UNet2DConditionModel:"),
    ],
)
def test_another_setting_is_named_even_where_it_changes_no_shape(tmp_path, change, sentence):
    refused(write(tmp_path / "unet", config=CONFIG | change), rf"config\.json {sentence}")


def test_a_setting_that_is_left_out_has_diffusers_default_and_what_is_off_may_be_unknown(tmp_path):
    write(
        tmp_path / "unet",
        config={name: value for name, value in CONFIG.items() if name not in ("norm_eps", "sample_size")}
        | {"old": False, "older": None},
    )
    converted(tmp_path / "unet", tmp_path / "teacher")
    refused(
        write(
            tmp_path / "other",
            config={name: value for name, value in CONFIG.items() if name != "norm_num_groups"},
        ),
        "says `norm_num_groups: 32`, and the network has 8",
    )


class Runs:
    """What a hostile file holds: a call that unpickling would make."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_pickled_code_damage_and_absence_are_one_sentence(tmp_path):
    refused(
        tmp_path / "nothing",
        "nothing holds no config.json: download .*https://huggingface.co/XCLiu/instaflow_0_9B_from_sd_1_5 ",
    )
    folder = write(tmp_path / "unet", {"a": Runs(tmp_path / "ran")}, pickled=True)
    code = r"carries pickled code \([a-z.]*mkdir\), which is never run here"
    refused(folder, f"diffusion_pytorch_model.bin {code}: download {instaflow.SAFETENSORS} in its place")
    assert not (tmp_path / "ran").exists()
    torch.save(WEIGHTS, folder / instaflow.PICKLED)
    whole = (folder / instaflow.PICKLED).read_bytes()
    (folder / instaflow.PICKLED).write_bytes(whole[: len(whole) // 2])
    refused(folder, r"diffusion_pytorch_model.bin is no whole file of torch \(\w+\): download it again")
    (folder / instaflow.PICKLED).unlink()
    refused(folder, "unet holds neither diffusion_pytorch_model.safetensors nor diffusion_pytorch_model.bin")
    write(folder)
    path = folder / instaflow.SAFETENSORS
    whole = path.read_bytes()
    for size in (0, 5, len(whole) - 1):
        path.write_bytes(whole[:size])
        refused(
            folder,
            r"diffusion_pytorch_model.safetensors is no whole file of safetensors \(\w+\): download it again",
        )
    (folder / "config.json").write_text("<html>", encoding="utf-8")
    refused(folder, r"config.json cannot be read as JSON \(.*\): download it again")


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(instaflow.convert, "__defaults__", (TINY, SHAPE, "latents"))
    write(tmp_path / "unet")
    arguments = cli._parser().parse_args(
        ["convert-instaflow", str(tmp_path / "unet"), str(tmp_path / "teacher")]
    )
    arguments.action(tmp_path, arguments)
    assert (
        "teacher is the published network, every setting, name and shape checked (source sha256 "
        in capsys.readouterr().out
    )
    assert load_checkpoint(tmp_path / "teacher")[1]["network"] == TINY
