"""CLIP: what texts and images become, scores, files that keep every bit and files that are not whole, and
published ones found or missed.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from PIL import Image
from safetensors.torch import load_file, save_file

from fewstep.data.formats import archives
from fewstep.networks import clip, clip_files, tokens
from fewstep.networks.clip import Clip, CLIPConfig, CLIPModel, CLIPTextModel, Preparation
from fewstep.storage import stand_in
from fewstep.storage.checkpoint import CheckpointError, load_checkpoint, save_checkpoint
from fewstep.training.precision import one_thread

CAPTIONS = [
    f"a {colour} square at the {place}"
    for colour in ("red", "green", "blue", "white")
    for place in ("top left", "top right", "bottom left")
]
SIZES = {"width": 16, "layers": 2, "heads": 2, "patch": 4, "projection": 8}
INFO = {"network": SIZES | {"vocabulary": 560}, "shape": [3, 8, 8]}
REPOSITORY = "somebody/some-clip"


@pytest.fixture(scope="module")
def network() -> Clip:
    """A small CLIP of 8x8 images, its weights as they are drawn."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return clip.small((3, 8, 8), tokens.train(CAPTIONS, 560, 10), **SIZES).requires_grad_(False).eval()


def pictures(count: int, side: int = 8) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(count).integers(0, 256, (count, 3, side, side)).astype(np.uint8)
    )


# What texts become


def test_conditions_are_the_last_states_after_the_final_norm(network):
    texts = ["a red square", "", "a green square at the top right and " * 3]
    conditions = network.text(texts)
    ids, mask = network.tokenizer.encode(texts)
    assert conditions.hidden.shape == (3, 10, 16) == (3, network.length, network.width) and torch.equal(
        conditions.mask, mask
    )
    states = network.text_tower(ids, output_hidden_states=True).hidden_states[-1]
    weight, bias = network.text_tower.final_layer_norm.weight, network.text_tower.final_layer_norm.bias
    centred = states - states.mean(-1, keepdim=True)
    expected = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt() * weight + bias
    assert torch.allclose(conditions.hidden, expected, atol=1e-5) and not torch.allclose(
        conditions.hidden, states, atol=0.1
    )


def test_a_texts_own_states_do_not_depend_on_what_fills_it_up(network):
    conditions = network.text(["a red square"])
    own = int(conditions.mask.sum())
    ids = network.tokenizer.encode(["a red square"])[0]
    ids[:, own:] = 3
    assert torch.allclose(
        network.text_tower(ids).last_hidden_state[:, :own], conditions.hidden[:, :own], atol=1e-6
    )


def test_a_texts_place_on_the_sphere_is_its_end(network):
    conditions = network.text(CAPTIONS)
    ends = conditions.hidden[torch.arange(len(CAPTIONS)), conditions.mask.sum(1) - 1]
    expected = ends @ network.model.text_projection.weight.T
    assert torch.allclose(
        network.text_features(CAPTIONS), expected / expected.norm(dim=1, keepdim=True), atol=1e-6
    )


def test_no_texts_and_no_images_are_no_rows(network):
    assert network.text([]).hidden.shape == (0, 10, 16) and network.text([]).mask.shape == (0, 10)
    assert network.text_features([]).shape == network.image_features(pictures(0)).shape == (
        0,
        8,
    ) and network.score(pictures(0), []).shape == (0,)


def test_neither_a_text_nor_an_image_depends_on_those_beside_it(network):
    count = clip.TOGETHER + 9
    texts, images = [f"{CAPTIONS[k % 12]} {k}" for k in range(count)], pictures(count)
    with one_thread():
        hidden, features, seen, scores = (
            network.text(texts).hidden,
            network.text_features(texts),
            network.image_features(images),
            network.score(images, texts),
        )
        for part in (slice(0, 1), slice(5, 12), slice(60, None)):
            assert torch.equal(network.text(texts[part]).hidden, hidden[part]) and torch.equal(
                network.text_features(texts[part]), features[part]
            )
            assert torch.equal(network.image_features(images[part]), seen[part]) and torch.equal(
                network.score(images[part], texts[part]), scores[part]
            )


# What images become


def test_images_are_taken_as_levels_or_in_minus_one_to_one(network):
    images = pictures(5)
    features = network.image_features(images)
    assert (
        features.shape == (5, 8)
        and torch.allclose(features.norm(dim=1), torch.ones(5))
        and not features.requires_grad
    )
    assert torch.equal(features, network.image_features(images.float() / 127.5 - 1))
    expected = network.model.get_image_features(images.float() / 127.5 - 1).pooler_output
    assert torch.allclose(features, expected / expected.norm(dim=1, keepdim=True), atol=1e-6)


@pytest.mark.parametrize(
    "images, said",
    [
        (torch.zeros(2, 3, 8, 9), r"square images \(batch, 3, side, side\), not \(2, 3, 8, 9\)"),
        (torch.zeros(2, 1, 8, 8), r"square images \(batch, 3, side, side\), not \(2, 1, 8, 8\)"),
        (torch.zeros(3, 8, 8), r"not \(3, 8, 8\)"),
        (
            torch.zeros(2, 3, 16, 16),
            r"was trained on images of shape \(3, 8, 8\) and takes no others, such as \(3, 16, 16\)",
        ),
        (torch.zeros(2, 3, 8, 8, dtype=torch.int64), "uint8 from 0 to 255 or floats in .* not torch.int64"),
    ],
)
def test_other_images_are_refused(network, images, said):
    with pytest.raises(ValueError, match=said):
        network.image_features(images)


# Scores


def test_a_score_is_a_hundred_times_the_cosine_where_that_is_positive(network, monkeypatch):
    points = torch.tensor([[1.0, 0.0], [0.6, 0.8], [0.0, 1.0]])
    monkeypatch.setattr(network, "image_features", lambda images: points)
    monkeypatch.setattr(
        network, "text_features", lambda texts: torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, -1.0]])
    )
    assert torch.allclose(network.score(pictures(3), CAPTIONS[:3]), torch.tensor([100.0, 60.0, 0.0]))
    assert "100 max(cos" in clip.SCORE and ";" not in clip.SCORE and "\n" not in clip.SCORE


def test_a_score_is_that_of_transformers_logits_and_needs_a_text_an_image(network):
    images, texts = pictures(4), CAPTIONS[:4]
    logits = network.model(
        input_ids=network.tokenizer.encode(texts)[0], pixel_values=images.float() / 127.5 - 1
    ).logits_per_image.diagonal()
    assert torch.allclose(
        network.score(images, texts), 100 * (logits / network.model.logit_scale.exp()).clamp(min=0), atol=1e-4
    )
    with pytest.raises(ValueError, match="there are 3 texts and 4 images"):
        network.score(images, texts[:3])


# Files


@pytest.fixture
def saved(network, tmp_path):
    clip_files.save(network, tmp_path / "clip", INFO)
    (tmp_path / "clip" / clip_files.DESCRIBED).write_text(json.dumps({"checksum": "0"}), encoding="utf-8")
    return tmp_path / "clip"


def digest(folder: Path) -> str:
    """The SHA-256 of what the CLIP in `folder` makes of some images and texts, to the last bit."""
    with one_thread():
        network = clip_files.load(folder)
        found = [
            network.image_features(pictures(5)),
            network.text_features(CAPTIONS),
            network.text(CAPTIONS).hidden,
        ]
    return hashlib.sha256(b"".join(value.numpy().tobytes() for value in found)).hexdigest()


def test_what_is_loaded_in_another_process_has_the_same_bits(network, saved, root):
    code = f"digest(pathlib.Path({str(saved)!r}))"
    script = f"import pathlib; from tests.unit.test_clip import digest; print({code})"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, cwd=root
    )
    assert done.stderr == "" and done.stdout.split() == [digest(saved)]
    again = clip_files.trained(saved)
    state = again.model.state_dict()
    assert all(
        torch.equal(value, state[name]) for name, value in network.model.state_dict().items()
    ) and not any(p.requires_grad for p in again.parameters())


def test_a_damaged_missing_or_foreign_file_is_one_sentence(network, saved):
    path, content = saved / clip_files.TRAINED, (saved / clip_files.TRAINED).read_bytes()
    path.write_bytes(content[:-7])
    with pytest.raises(CheckpointError, match="clip.safetensors is damaged"):
        clip_files.load(saved)
    path.write_bytes(content[:-7] + bytes([content[-7] ^ 1]) + content[-6:])
    with pytest.raises(CheckpointError, match="its checksum differs"):
        clip_files.load(saved)
    path.unlink()
    with pytest.raises(CheckpointError, match="clip.safetensors is not there"):
        clip_files.load(saved)
    save_file({"a": torch.zeros(2)}, path)
    with pytest.raises(CheckpointError, match="was not written by fewstep"):
        clip_files.load(saved)
    save_checkpoint(path, {"a": torch.zeros(2)}, {"network": {"kind": "mlp"}, "shape": [2]})
    with pytest.raises(CheckpointError, match="is no trained CLIP: its header names no towers"):
        clip_files.load(saved)
    path.write_bytes(content)
    (saved / tokens.MERGES).unlink()
    with pytest.raises(tokens.TokenizerError, match="merges.txt is not there"):
        clip_files.load(saved)


def test_another_width_and_another_vocabulary_are_one_sentence(network, saved):
    weights, info = load_checkpoint(saved / clip_files.TRAINED)
    save_checkpoint(saved / clip_files.TRAINED, weights, info | {"network": info["network"] | {"width": 32}})
    with pytest.raises(
        CheckpointError,
        match=r"holds weights of another shape: '.*' is \(.*\) there and \(.*\) in the network",
    ):
        clip_files.trained(saved)
    save_checkpoint(saved / clip_files.TRAINED, weights, info | {"network": info["network"] | {"layers": 3}})
    with pytest.raises(CheckpointError, match="holds weights of another network"):
        clip_files.trained(saved)
    save_checkpoint(saved / clip_files.TRAINED, weights, info)
    tokens.write(tokens.train(["other words, other words"] * 3, 560, 10), saved)
    with pytest.raises(
        CheckpointError, match="was trained with another vocabulary than vocab.json and merges.txt beside it"
    ):
        clip_files.trained(saved)


def test_a_description_that_is_missing_or_damaged_is_one_sentence(saved):
    for content in ("{", "[]", '{"says": 1}'):
        (saved / clip_files.DESCRIBED).write_text(content, encoding="utf-8")
        said = "described.json (is damaged, or describes no CLIP|cannot be read as)"
        with pytest.raises(CheckpointError, match=said):
            clip_files.load(saved)
    (saved / clip_files.DESCRIBED).unlink()
    with pytest.raises(FileNotFoundError, match="described.json is not there: run `dvc repro`"):
        clip_files.load(saved)


# A published one


def config(tokenizer: tokens.Tokenizer) -> CLIPConfig:
    """Of two towers of different widths, as published ones are, which take images of 12x12."""
    tower = {"num_hidden_layers": 1, "num_attention_heads": 2, "projection_dim": 8}
    special = {
        "bos_token_id": tokenizer.vocabulary[tokens.START],
        "eos_token_id": tokenizer.end,
        "pad_token_id": tokenizer.end,
    }
    size = {"vocab_size": len(tokenizer.vocabulary), "max_position_embeddings": 10}
    return CLIPConfig(
        text_config={"hidden_size": 16, "intermediate_size": 32, **tower, **special, **size},
        vision_config={"hidden_size": 24, "intermediate_size": 32, "image_size": 12, "patch_size": 4}
        | tower,
        projection_dim=8,
    )  # fmt: skip


@pytest.fixture
def places(network, tmp_path, monkeypatch):
    """The folders of a tiny published CLIP and of a text-to-image model's text encoder, as they are
    published; found beside the data.
    """
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path / "data"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    both, text = tmp_path / "data" / "some-clip", tmp_path / "data" / "some-diffusion"
    torch.manual_seed(1)
    model = CLIPModel(config(network.tokenizer))
    model.save_pretrained(both)
    model.text_model.save_pretrained(text / "text_encoder")
    for folder in (both, text / "tokenizer"):
        tokens.write(network.tokenizer, folder)
        (folder / tokens.CONFIG).write_text(
            json.dumps(
                {"pad_token": {"content": "<|endoftext|>"} if folder == both else "!", "model_max_length": 10}
            ),
            encoding="utf-8",
        )
    (both / clip_files.PREPARATION).write_text(
        json.dumps({"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4], "size": 12}),
        encoding="utf-8",
    )
    # the names under which text encoders were published, and the positions that once went with them
    path = text / "text_encoder" / clip_files.WEIGHTS
    weights = {
        f"text_model.{name.removeprefix('text_model.')}": value for name, value in load_file(path).items()
    }
    save_file(
        weights | {"text_model.embeddings.position_ids": torch.arange(10)[None]},
        path,
        metadata={"format": "pt"},
    )
    return both, text


def test_a_published_clip_is_that_of_transformers(network, places, capfd):
    capfd.readouterr()
    found, described = clip_files.published(REPOSITORY)
    assert capfd.readouterr().err == ""
    assert described["clip"] == REPOSITORY and described["checksum"] == clip_files.checksum(
        places[0] / clip_files.WEIGHTS
    )
    model, images, texts = CLIPModel.from_pretrained(places[0]).eval(), pictures(4, 12), CAPTIONS[:4]
    shift, spread = torch.tensor([0.5, 0.4, 0.3])[:, None, None], torch.tensor([0.2, 0.3, 0.4])[:, None, None]
    out = model(input_ids=network.tokenizer.encode(texts)[0], pixel_values=(images / 255 - shift) / spread)
    assert torch.allclose(found.image_features(images), out.image_embeds, atol=1e-5) and torch.allclose(
        found.text_features(texts), out.text_embeds, atol=1e-5
    )
    assert (
        torch.allclose(found.text(texts).hidden, out.text_model_output.last_hidden_state, atol=1e-5)
        and found.width == 16
        and found.length == 10
    )
    assert not any(p.requires_grad for p in found.parameters()) and found.score(
        pictures(3, 32), CAPTIONS[:3]
    ).shape == (3,)


def test_a_text_encoder_alone_gives_conditions_and_no_scores(places):
    both = clip_files.published(REPOSITORY)[0]
    found, described = clip_files.published("somebody/some-diffusion", "text")
    assert isinstance(found.model, CLIPTextModel) and described["towers"] == "text"
    own, others = found.text(CAPTIONS), both.text(CAPTIONS)
    # it fills up with another token, which its own do not see
    assert torch.allclose(own.hidden[own.mask], others.hidden[others.mask], atol=1e-6) and not torch.allclose(
        own.hidden, others.hidden, atol=1e-3
    )
    for call, said in (
        (lambda: found.image_features(pictures(1, 12)), "a text encoder alone, without a tower of images"),
        (lambda: found.text_features(CAPTIONS), "a text encoder alone, without a tower of images"),
        (lambda: found.score(pictures(1, 12), CAPTIONS[:1]), "a text encoder alone"),
    ):
        with pytest.raises(ValueError, match=said):
            call()


def test_images_are_resized_bicubically_and_scaled():
    prepared = Preparation(6, (0.5, 0.5, 0.5), (0.25, 0.5, 1.0))(torch.full((2, 3, 9, 9), 0.5))
    assert prepared.shape == (2, 3, 6, 6) and torch.allclose(
        prepared[0, :, 0, 0], torch.tensor([1.0, 0.5, 0.25])
    )
    # a smooth picture: where the kernel overshoots, Pillow cuts off between rows and columns
    x, y = np.meshgrid(np.linspace(0, 3, 40), np.linspace(0, 5, 40))
    picture = np.stack([128 + 100 * np.sin(x + k * y) for k in range(3)], -1).astype(np.uint8)
    for side in (24, 64):
        theirs = np.asarray(
            Image.fromarray(picture).resize((side, side), Image.Resampling.BICUBIC)
        ).transpose(2, 0, 1)
        ours = Preparation(side, (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))(
            torch.from_numpy(picture.transpose(2, 0, 1).copy())[None] / 127.5 - 1
        )[0]
        assert np.abs(255 * ours.numpy() - theirs).max() < 1.25


@pytest.mark.parametrize(
    "towers, missing", [("both", "preprocessor_config.json"), ("text", "tokenizer/merges.txt")]
)
def test_an_absent_file_is_one_sentence_that_says_what_to_fetch(places, towers, missing):
    folder = places[towers == "text"]
    (folder / missing).unlink()
    for call in (lambda *given: clip_files.repository_of(*given).check(True), clip_files.published):
        with pytest.raises(FileNotFoundError) as error:
            call(f"somebody/{folder.name}", towers)
        said = str(error.value)
        assert (
            str(folder) in said
            and f"download {missing} from https://huggingface.co/somebody/{folder.name} to that folder"
            in said
            and archives.ENVIRONMENT in said
        )


def test_the_cache_of_the_hub_is_looked_into(places, tmp_path):
    snapshot = tmp_path / "hub" / "models--somebody--some-diffusion" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    places[1].rename(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc", encoding="utf-8")
    assert clip_files.repository_of("somebody/some-diffusion", "text").find() == (
        snapshot,
        "the hub's cache, revision abc",
    )
    assert (
        clip_files.published("somebody/some-diffusion", "text")[1]["found"] == "the hub's cache, revision abc"
    )


def test_files_that_do_not_belong_together_are_refused(network, places):
    path = places[0] / clip_files.WEIGHTS
    content = path.read_bytes()
    weights = load_file(path)
    weights.pop("visual_projection.weight")
    save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="'visual_projection.weight' is in one and not in the other"):
        clip_files.published(REPOSITORY)
    path.write_bytes(content[:-20])
    with pytest.raises(ValueError, match="holds no CLIPModel that transformers can load"):
        clip_files.published(REPOSITORY)
    path.write_bytes(content)
    tokens.write(tokens.train(CAPTIONS, 530, 10), places[0])
    with pytest.raises(
        ValueError, match="vocab.json holds 530 tokens and the CLIP knows [0-9]+: download both again"
    ):
        clip_files.published(REPOSITORY)
    (places[0] / tokens.VOCABULARY).write_text("{", encoding="utf-8")
    with pytest.raises(tokens.TokenizerError, match="vocab.json cannot be read as JSON .*: download"):
        clip_files.published(REPOSITORY)
    tokens.write(network.tokenizer, places[0])
    (places[0] / clip_files.PREPARATION).write_text("{}", encoding="utf-8")
    with pytest.raises(
        ValueError, match="preprocessor_config.json does not say `image_mean` and `image_std`"
    ):
        clip_files.published(REPOSITORY)
    (places[0] / clip_files.CONFIG).write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="config.json cannot be read as JSON .*: download it again"):
        clip_files.published(REPOSITORY)


def test_weights_on_record_must_be_the_published_ones_but_for_a_rehearsal(places, tmp_path, monkeypatch):
    clip_files.repository_of(REPOSITORY, "both").check(True)
    described = clip_files.published(REPOSITORY)[1]
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / clip_files.DESCRIBED).write_text(json.dumps(described), encoding="utf-8")
    assert clip_files.load(tmp_path / "made").width == 16
    monkeypatch.setitem(clip_files.PUBLISHED, REPOSITORY, "0" * 64)
    for call in (lambda *given: clip_files.repository_of(*given).check(True), clip_files.published):
        with pytest.raises(ValueError, match="and not 000"):
            call(REPOSITORY, "both")
    stand_in.mark(places[0])
    assert clip_files.published(REPOSITORY)[1]["clip"] == f"a rehearsal's stand-in for {REPOSITORY}"
    with pytest.raises(ValueError, match="holds a rehearsal's CLIP"):
        clip_files.repository_of(REPOSITORY, "both").check(True)
    (tmp_path / "made" / clip_files.DESCRIBED).write_text(
        json.dumps(described | {"checksum": "1" * 64}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="and not 111.*: it was not loaded; delete it and download it from"):
        clip_files.load(tmp_path / "made")
