"""The autoencoder: shapes, a training that can be stopped anywhere, its figures, and a published one."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from huggingface_hub import constants
from pydantic import ValidationError
from safetensors.torch import load_file, save_file

from fewstep.data.formats import archives
from fewstep.networks import autoencoder
from fewstep.networks.autoencoder import AutoencoderKL
from fewstep.settings.prepared import Latents
from fewstep.storage import stand_in
from fewstep.storage.checkpoint import CheckpointError
from fewstep.storage.workspace import SCRATCH, Workspace
from fewstep.training import autoencoder as autoencoding
from fewstep.training.autoencoder import LatentPreparation

REPOSITORY = "somebody/some-vae"
SMALL = {
    "kind": "trained",
    "channels": [8, 16],
    "layers": 1,
    "groups": 4,
    "latent_channels": 2,
    "steps": 12,
    "batch": 4,
    "lr": 4e-3,
    "kl_weight": 1e-4,
}


def latents(data: str = "digits", **changes) -> Latents:
    return Latents.model_validate({"data": data, "autoencoder": SMALL | changes})


def published(data: str = "digits") -> Latents:
    return Latents.model_validate(
        {"data": data, "autoencoder": {"kind": "pretrained", "repository": REPOSITORY, "scale": 0.5}}
    )


@pytest.fixture
def maker(tmp_path, monkeypatch):
    """maker(settings, folder): an entry of the tier whose files lie in a folder of their own."""

    def make(settings: Latents, folder: str = "one") -> LatentPreparation:
        monkeypatch.setenv(SCRATCH, str(tmp_path / folder))
        return LatentPreparation("tiny", Workspace(tmp_path, "smoke"), settings, "cpu")

    return make


@pytest.fixture
def vae(tmp_path, monkeypatch):
    """The folder, beside the data, of a tiny published autoencoder of grey images, with attention."""
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path / "data"))
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    torch.manual_seed(0)
    model = AutoencoderKL(
        in_channels=1,
        out_channels=1,
        block_out_channels=(8, 16),
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
        norm_num_groups=4,
        latent_channels=4,
    )
    model.save_pretrained(tmp_path / "data" / "some-vae")
    return tmp_path / "data" / "some-vae"


# The network


@pytest.mark.parametrize("shape, levels, latent", [((3, 16, 16), 3, (4, 4, 4)), ((1, 8, 12), 2, (4, 4, 6))])
def test_every_level_but_the_last_halves_the_image(shape, levels, latent):
    network = autoencoder.small(shape, [8] * levels, 1, 4, 4)
    images = torch.zeros(5, *shape)
    mean, std = network.encode(images)
    assert (
        mean.shape == std.shape == (5, *latent)
        and network.latent_shape(shape) == latent
        and (0 < std).all()
        and (std < 0.5).all()
    )
    assert network.decode(mean).shape == images.shape


def test_the_first_latent_channels_begin_as_the_shrunken_image():
    torch.manual_seed(0)
    network = autoencoder.small((3, 16, 16), [8, 16, 16], 1, 4, 4)
    colours = torch.rand(6, 3, 1, 1) * 2 - 1
    mean, _ = network.encode(colours.expand(-1, -1, 16, 16))
    added = mean - torch.cat([colours.expand(-1, -1, 4, 4), torch.zeros(6, 1, 4, 4)], 1)
    assert torch.allclose(
        added, network.model.encode(colours.expand(-1, -1, 16, 16)).latent_dist.mean, atol=1e-6
    )
    again = network.decode(mean) - network.model.decode(mean).sample
    assert torch.allclose(
        again, torch.nn.functional.interpolate(mean[:, :3], scale_factor=4.0, mode="bilinear"), atol=1e-6
    )


def test_images_that_do_not_halve_evenly_are_refused():
    with pytest.raises(ValueError, match=r"sides are divisible by 4, not \(3, 16, 18\)"):
        autoencoder.small((3, 16, 18), [8, 8, 8], 1, 4, 4)


def test_an_image_does_not_depend_on_those_beside_it():
    network = autoencoder.small((3, 16, 16), [8, 16], 1, 4, 4)
    images = torch.rand(autoencoder.TOGETHER + 9, 3, 16, 16)
    mean, std = network.encode_many(images)
    again = network.decode_many(mean)
    for part in (slice(0, 1), slice(5, 12), slice(30, None)):
        assert torch.equal(network.encode_many(images[part])[0], mean[part]) and torch.equal(
            network.decode_many(mean[part]), again[part]
        )
    assert torch.allclose(mean, network.encode(images)[0], atol=1e-5) and not again.requires_grad


# Settings


@pytest.mark.parametrize(
    "changes, said",
    [
        ({"data": "checkerboard"}, "'checkerboard' is none; there are"),
        ({"data": "latents"}, "'latents' is none; there are"),
        ({"data": "patches"}, "must be at least the 3 channels of the images of 'patches'"),
        ({"channels": [8, 10]}, "must be divisible by the 4 groups"),
        (
            {"channels": [8, 8, 8, 8, 8]},
            "halve the image 4 times, and the images of 'digits', 8 x 8, are not divisible by 16",
        ),
        ({"kind": "other"}, "'trained', 'pretrained'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        latents(**changes)


# Training


def test_a_training_in_pieces_is_the_training_in_one_go(maker):
    def trained(folder: str, *stops: int, **changes: int) -> tuple[str, bytes]:
        own = maker(latents(**changes), folder)
        for until in (*stops, SMALL["steps"]):
            autoencoding.advance(own, until)
        return own.state.name, own.state.read_bytes()

    whole, other = trained("whole"), trained("other", seed=1)
    assert trained("pieces", 1, 5) == whole
    assert other[0] != whole[0] and other[1] != whole[1]


def test_a_stopped_stage_goes_on_and_ends_with_the_same_bits(maker, monkeypatch):
    one = maker(latents(), "one")
    autoencoding.train(one)
    files = {path.name: path.read_bytes() for path in one.folder.iterdir()}
    assert set(files) == {autoencoder.TRAINED, autoencoder.DESCRIBED}
    two, real, calls = maker(latents(), "two"), autoencoding.loss, []

    def stopping(*given):
        calls.append(1)
        if len(calls) == 8:
            raise KeyboardInterrupt
        return real(*given)

    monkeypatch.setattr(autoencoding, "loss", stopping)
    with pytest.raises(KeyboardInterrupt):
        autoencoding.train(two)
    with pytest.raises(FileNotFoundError, match="described.json is not there"):
        _ = two.folder
    autoencoding.train(two)
    # 7 steps were finished and the state of the 6th was stored
    assert len(calls) == 8 + 6 and {path.name: path.read_bytes() for path in two.folder.iterdir()} == files
    autoencoding.train(two)
    assert len(calls) == 8 + 6


def test_training_improves_reconstructions_and_latents_are_scaled_to_one(maker):
    before = autoencoding.train(maker(latents(steps=1), "short"))
    long = maker(latents(steps=120, batch=8), "long")
    after = autoencoding.train(long)
    gain = after["figures"]["training images"]["PSNR"] - before["figures"]["training images"]["PSNR"]
    assert (
        gain > 3
        and after["figures"]["training images"]["SSIM"] > before["figures"]["training images"]["SSIM"]
    )
    assert after["std of scaled latents"] == pytest.approx(1) and after["latents"] == [2, 4, 4]
    assert (
        autoencoding.reconstruction(long).loc["training images", "PSNR"]
        == f"{after['figures']['training images']['PSNR']:.1f} dB"
    )
    assert "trained here, 120 steps" in str(autoencoding.as_table(after))
    assert len(after["channels"]["mean"]) == len(after["channels"]["std"]) == 2
    rows = autoencoding.side_by_side(long, 3)
    assert set(rows) == {"training images", "reconstructed training"} and all(
        row.shape == (3, 1, 8, 8) for row in rows.values()
    )


def test_held_out_images_are_measured_too_where_there_are_any(maker):
    described = autoencoding.train(maker(latents("patches", steps=2, latent_channels=3)))
    assert set(described["figures"]) == {"training images", "held-out images"} and described["latents"] == [
        3,
        8,
        8,
    ]


def test_a_damaged_state_is_refused(maker):
    own = maker(latents())
    autoencoding.advance(own, 2)
    path = own.state
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(CheckpointError, match="is damaged"):
        autoencoding.advance(own, 4)


def test_the_loss_of_a_perfect_reconstruction_is_the_divergence_alone(monkeypatch):
    network = autoencoder.small((1, 8, 8), [8, 8], 1, 4, 2)
    images, mean, std = torch.rand(3, 1, 8, 8), torch.full((3, 2, 4, 4), 2.0), torch.full((3, 2, 4, 4), 0.5)
    monkeypatch.setattr(network, "encode", lambda x: (mean, std))
    monkeypatch.setattr(network, "decode", lambda z: images)
    total, misfit = autoencoding.loss(network, images, 0.1, torch.Generator().manual_seed(0))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(mean, std), torch.distributions.Normal(0.0, 1.0)
    ).mean()
    assert misfit.item() == pytest.approx(0, abs=1e-7) and total.item() == pytest.approx(
        0.1 * expected.item(), rel=1e-5
    )


# Figures


def test_peak_signal_to_noise_is_in_decibels():
    images = torch.full((2, 1, 12, 12), 100, dtype=torch.uint8)
    found = autoencoding._figures(images, images + 10, 255)
    assert found["PSNR"] == pytest.approx(20 * np.log10(25.5)) and found["mean absolute error"] == 10
    assert np.isfinite(autoencoding._figures(images, images, 255)["PSNR"])


# A published one


def test_a_published_autoencoder_is_found_described_and_verified(maker, vae):
    own = maker(published())
    described = autoencoding.train(own)
    assert (
        described["scale"] == 0.5
        and described["autoencoder"] == REPOSITORY
        and described["latents"] == [4, 4, 4]
    )
    assert (
        described["checksum"] == autoencoder.checksum(vae / autoencoder.WEIGHTS)
        and "beside the data" in described["found"]
    )
    assert [path.name for path in own.folder.iterdir()] == [autoencoder.DESCRIBED], (
        "the weights are not copied"
    )
    images = torch.rand(2, 1, 8, 8)
    expected = AutoencoderKL.from_pretrained(vae).eval().encode(images).latent_dist.mean
    assert torch.equal(autoencoding.load(own).encode(images)[0], expected)
    content = bytearray((vae / autoencoder.WEIGHTS).read_bytes())
    content[-1] ^= 1
    (vae / autoencoder.WEIGHTS).write_bytes(content)
    with pytest.raises(ValueError, match="it was not loaded; delete it and download it from"):
        autoencoding.load(own)


def test_weights_with_the_names_of_old_attention_are_the_same_network(vae):
    images = torch.rand(2, 1, 8, 8)
    expected = autoencoder.pretrained(REPOSITORY)[0].encode(images)[0]
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = {}
    for name, value in load_file(vae / autoencoder.WEIGHTS).items():
        for new in old if "attentions" in name else ():
            name = name.replace(new, old[new])
        renamed[name] = value
    assert any("query" in name for name in renamed)
    save_file(renamed, vae / autoencoder.WEIGHTS, metadata={"format": "pt"})
    assert torch.equal(autoencoder.pretrained(REPOSITORY)[0].encode(images)[0], expected)


def test_an_absent_one_is_one_sentence_that_says_what_to_fetch(maker, vae):
    (vae / autoencoder.WEIGHTS).unlink()
    with pytest.raises(FileNotFoundError) as error:
        autoencoding.train(maker(published()))
    said = str(error.value)
    assert (
        str(vae) in said
        and f"https://huggingface.co/{REPOSITORY}" in said
        and autoencoder.WEIGHTS in said
        and archives.ENVIRONMENT in said
    )
    with pytest.raises(FileNotFoundError):
        autoencoder.published(REPOSITORY).check(True)


def test_the_cache_of_the_hub_is_looked_into(vae, tmp_path):
    snapshot = tmp_path / "hub" / "models--somebody--some-vae" / "snapshots" / "abc"
    snapshot.parent.mkdir(parents=True)
    vae.rename(snapshot)
    (snapshot.parents[1] / "refs").mkdir()
    (snapshot.parents[1] / "refs" / "main").write_text("abc", encoding="utf-8")
    assert autoencoder.published(REPOSITORY).find() == (snapshot, "the hub's cache, revision abc")
    assert autoencoder.pretrained(REPOSITORY)[1]["found"] == "the hub's cache, revision abc"


def test_files_that_do_not_belong_together_are_refused(vae):
    weights = load_file(vae / autoencoder.WEIGHTS)
    weights.pop("decoder.conv_in.bias")
    save_file(weights, vae / autoencoder.WEIGHTS, metadata={"format": "pt"})
    with pytest.raises(ValueError, match="'decoder.conv_in.bias' is in one and not in the other"):
        autoencoder.pretrained(REPOSITORY)
    (vae / autoencoder.WEIGHTS).write_bytes(b"nothing")
    with pytest.raises(ValueError, match="holds no autoencoder that diffusers can load"):
        autoencoder.pretrained(REPOSITORY)


def test_weights_on_record_must_be_the_published_ones_but_for_a_rehearsal(maker, vae, monkeypatch):
    autoencoder.published(REPOSITORY).check(True)
    monkeypatch.setitem(autoencoder.PUBLISHED, REPOSITORY, "0" * 64)
    for call in (lambda name: autoencoder.published(name).check(True), autoencoder.pretrained):
        with pytest.raises(ValueError, match="and not 000"):
            call(REPOSITORY)
    stand_in.mark(vae)
    described = autoencoding.train(maker(published()))
    assert described["autoencoder"] == f"a rehearsal's stand-in for {REPOSITORY}"
    with pytest.raises(ValueError, match="holds a rehearsal's autoencoder"):
        autoencoder.published(REPOSITORY).check(True)


def test_the_description_is_json_for_other_stages(maker):
    own = maker(latents(steps=1))
    described = autoencoding.train(own)
    assert (
        json.loads((own.folder / autoencoder.DESCRIBED).read_text(encoding="utf-8"))
        == described
        == autoencoder.read_described(own.folder)
    )
    assert {"autoencoder", "checksum", "data", "shape", "latents", "scale", "channels", "figures"} <= set(
        described
    )
