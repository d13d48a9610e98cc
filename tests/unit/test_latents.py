"""Latents: encoded once, mirror images too, in runs that can be killed; drawn, decoded, or refused."""

from __future__ import annotations

import json
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fewstep import data
from fewstep.data.images import Images, to_signed
from fewstep.networks import load_decoder
from fewstep.networks.autoencoder import Autoencoder
from fewstep.settings.prepared import Latents
from fewstep.storage.workspace import PIPELINE, SCRATCH, Workspace
from fewstep.training import autoencoder, latents
from fewstep.training.autoencoder import LatentPreparation

COUNT, SIDE = 150, 8
SMALL = {
    "kind": "trained",
    "channels": [8, 8],
    "layers": 1,
    "groups": 4,
    "latent_channels": 3,
    "steps": 20,
    "batch": 8,
    "lr": 4e-3,
    "kl_weight": 1e-3,
}
SETTINGS = Latents.model_validate({"data": "patches", "autoencoder": SMALL})


def _pixels() -> np.ndarray:
    """Slanted stripes, which no mirroring leaves as they are: the last block is not a whole one."""
    rows, columns, phases = np.ogrid[:SIDE, :SIDE, :COUNT]
    waves = np.sin(0.7 * rows + 0.5 * columns + 0.3 * phases).transpose(2, 0, 1)
    return (127 + 100 * np.stack([waves, -waves, waves**2], 1)).astype(np.uint8)


@pytest.fixture(autouse=True)
def images(monkeypatch):
    """A small data set in the place of `patches`."""
    source = Images("patches", (3, SIDE, SIDE), True, _pixels)
    monkeypatch.setattr("fewstep.data.patches.SOURCE", source)
    monkeypatch.delattr("fewstep.data.patches.held_out")
    return source


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """The folder of an autoencoder, trained once for all tests."""
    return tmp_path_factory.mktemp("trained")


@pytest.fixture
def maker(tmp_path, monkeypatch, trained, images):
    """maker(folder): an entry of the tier whose files lie in a folder of their own, its autoencoder ready."""

    def make(folder: str = "one") -> LatentPreparation:
        monkeypatch.setenv(SCRATCH, str(tmp_path / folder))
        own = LatentPreparation("tiny", Workspace(tmp_path, "smoke"), SETTINGS, "cpu")
        target = own.workspace.write("autoencoders/tiny/described.json").parent
        if not any(trained.iterdir()):
            autoencoder.train(own)
            shutil.copytree(target, trained, dirs_exist_ok=True)
        shutil.copytree(trained, target, dirs_exist_ok=True)
        return own

    return make


def folder_of(own: LatentPreparation) -> Path:
    """Where `encode_all` writes."""
    return own.workspace.writable / "latents" / "tiny"


@pytest.fixture
def folder(maker):
    """The folder of latents that `encode_all` has folder."""
    own = maker()
    latents.encode_all(own)
    return latents.load_latents(own).folder


# Encoding


def test_every_image_and_its_mirror_image_is_encoded(maker, images):
    own = maker()
    described = latents.encode_all(own)
    moments = np.load(folder_of(own) / "moments.npy")
    assert moments.shape == (2 * COUNT, 6, 4, 4) and moments.dtype == np.float32
    network, pixels = autoencoder.load(own), torch.from_numpy(_pixels())
    for seen, rows in ((pixels, moments[:COUNT]), (pixels.flip(-1), moments[COUNT:])):
        mean, std = network.encode_many(to_signed(seen))
        np.testing.assert_array_equal(rows, torch.cat([mean, std], 1).numpy())
    assert np.abs(moments[COUNT:] - moments[:COUNT]).max() > 0.1
    assert (
        described["count"] == COUNT
        and described["mirrored"]
        and described["data"] == "patches"
        and described["shape"] == [3, 8, 8]
    )
    assert (
        described["latents"] == [3, 4, 4]
        and described["scale"] == autoencoder.autoencoder.read_described(own.folder)["scale"]
    )
    assert described["checksum"] == data.prepared_checksum(folder_of(own))
    assert json.loads((folder_of(own) / "described.json").read_text(encoding="utf-8")) == described


def test_no_mirror_image_is_encoded_where_none_is_drawn(maker, monkeypatch):
    monkeypatch.setattr("fewstep.data.patches.SOURCE", Images("patches", (3, SIDE, SIDE), False, _pixels))
    own = maker()
    described = latents.encode_all(own)
    assert (
        not described["mirrored"]
        and len(latents.load_latents(own).moments) == COUNT
        and "mirror" not in str(latents.as_table(described))
    )
    assert set(latents.mirrored(own, 3)) == {"images", "decoded"}


def test_the_first_images_are_encoded_where_a_count_is_given(maker):
    own = replace(maker(), settings=SETTINGS.model_copy(update={"count": 70}))
    assert latents.encode_all(own)["count"] == 70
    few = np.load(folder_of(own) / "moments.npy")
    latents.encode_all(maker())
    every = np.load(folder_of(own) / "moments.npy")
    assert len(few) == 140 and len(every) == 2 * COUNT
    np.testing.assert_array_equal(few, np.concatenate([every[:70], every[COUNT : COUNT + 70]]))
    assert set(latents.mirrored(own, 3)) == {"images", "decoded", "mirrored, decoded"}


@pytest.mark.parametrize("calls", [1, 4])
def test_a_killed_encoding_goes_on_and_ends_with_the_same_bits(maker, monkeypatch, calls):
    whole = maker("whole")
    expected = latents.encode_all(whole)
    bits = (folder_of(whole) / "moments.npy").read_bytes()
    own, real, done = maker("killed"), Autoencoder.encode_many, []

    def stopping(network, seen):
        done.append(len(seen))
        if len(done) == calls + 1:
            raise KeyboardInterrupt
        return real(network, seen)

    monkeypatch.setattr(Autoencoder, "encode_many", stopping)
    with pytest.raises(KeyboardInterrupt):
        latents.encode_all(own)
    assert not (folder_of(own) / "moments.npy").exists() and not (folder_of(own) / "described.json").exists()
    assert latents.encode_all(own) == expected and (folder_of(own) / "moments.npy").read_bytes() == bits
    # three blocks, each with its mirror images, and what was lost of one block
    assert len(done) == 6 + 1 + calls % 2
    assert not list((own.workspace.writable / "states").rglob("*.npy")) and not list(
        (own.workspace.writable / "states").rglob("*.blocks")
    )


def test_an_encoding_that_was_cut_off_by_a_power_cut_starts_again(maker, monkeypatch):
    own = maker()
    expected = latents.encode_all(own)
    mark = expected["fingerprint"]
    (folder_of(own) / "described.json").unlink()
    partial = own.workspace.write(f"states/latents/tiny-{mark}.npy")
    partial.write_bytes((folder_of(own) / "moments.npy").read_bytes()[:-100])
    partial.with_suffix(".blocks").write_text("2", encoding="utf-8")
    assert latents.encode_all(own) == expected


def test_what_is_whole_is_not_encoded_again(maker, monkeypatch):
    own = maker()
    expected = latents.encode_all(own)
    monkeypatch.setattr(latents, "load", lambda maker: pytest.fail("encoded again"))
    assert latents.encode_all(own) == expected


def test_a_changed_file_is_made_again(maker):
    own = maker()
    expected = latents.encode_all(own)
    path = folder_of(own) / "moments.npy"
    bits = path.read_bytes()
    path.write_bytes(bits[:-4] + b"\0\0\0\0")
    assert latents.encode_all(own) == expected and path.read_bytes() == bits


def test_latents_that_somebody_makes_by_hand_are_whole_without_the_pipelines(maker, monkeypatch, tmp_path):
    own = maker()
    ready = own.folder
    monkeypatch.setenv(PIPELINE, "1")
    shutil.copytree(ready, own.workspace.write("autoencoders/tiny"))
    monkeypatch.delenv(PIPELINE)
    monkeypatch.setenv(SCRATCH, str(tmp_path / "by hand"))
    latents.encode_all(own)
    folder = tmp_path / "by hand" / "smoke" / "latents" / "tiny"
    assert latents.load_latents(own).folder == folder and latents.load_latents(own).decoder()
    assert {path.name for path in folder.iterdir()} == {"moments.npy", "described.json", "autoencoder"}
    assert not (own.workspace.pipeline / "latents" / "tiny" / "moments.npy").exists()


def test_there_must_be_an_autoencoder(tmp_path, monkeypatch):
    monkeypatch.setenv(SCRATCH, str(tmp_path))
    with pytest.raises(FileNotFoundError, match="autoencoders/tiny/described.json is not there: run"):
        latents.encode_all(LatentPreparation("tiny", Workspace(tmp_path, "smoke"), SETTINGS, "cpu"))


def test_the_tables_and_the_picture_of_the_notebook(maker):
    own = maker()
    described = latents.encode_all(own)
    assert "150 images and their mirror images" in str(latents.as_table(described))
    moments = np.load(folder_of(own) / "moments.npy").astype(float)
    mean, std = moments[:, :3], moments[:, 3:]
    each = described["channels"]
    np.testing.assert_allclose(each["mean"], mean.mean((0, 2, 3)))
    np.testing.assert_allclose(each["std"], np.sqrt(mean.var((0, 2, 3)) + (std**2).mean((0, 2, 3))))
    np.testing.assert_allclose(
        each["drawn"], (std**2).mean((0, 2, 3)) / (mean.var((0, 2, 3)) + (std**2).mean((0, 2, 3)))
    )
    assert list(latents.channels(described).columns) == ["mean", "standard deviation", "drawn anew"]
    rows = latents.mirrored(own, 3)
    assert set(rows) == {"images", "decoded", "mirrored, decoded"} and all(
        row.shape == (3, 3, 8, 8) for row in rows.values()
    )


# Drawing and decoding


def test_draws_have_the_mean_and_the_spread_of_the_moments(folder):
    source = data.load("latents", folder, load_decoder)
    assert (
        source.shape == (3, 4, 4) and source.image == (3, 8, 8) and source.scale == 1.0 and source.top == 255
    )
    drawn = source.sample(20_000, torch.Generator().manual_seed(0))
    assert drawn.shape == (20_000, 3, 4, 4) and drawn.dtype == torch.float32
    mean, std = (source.factor * torch.from_numpy(np.load(folder / "moments.npy"))).chunk(2, 1)
    spread = (mean.var(0, unbiased=False) + std.square().mean(0)).sqrt()
    assert ((drawn.mean(0) - mean.mean(0)).abs() < 5 * spread / 20_000**0.5).all()
    assert ((drawn.std(0) / spread - 1).abs() < 0.05).all()
    assert float(drawn.std()) == pytest.approx(1, abs=0.1)


def test_the_generator_decides_what_is_drawn_and_nothing_else(folder):
    source, state = data.load("latents", folder, load_decoder), torch.get_rng_state()
    drawn = source.sample(9, torch.Generator().manual_seed(3))
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(
        drawn, data.load("latents", folder, load_decoder).sample(9, torch.Generator().manual_seed(3))
    )
    which = torch.randint(2 * COUNT, (9,), generator=torch.Generator().manual_seed(3)).numpy()
    mean, std = torch.from_numpy(np.load(folder / "moments.npy")[which]).chunk(2, 1)
    assert ((drawn / source.factor - mean).abs() <= 6 * std).all()


def test_levels_are_those_of_the_decoder_whatever_they_are_decoded_with(folder):
    source = data.load("latents", folder, load_decoder)
    z = source.sample(70, torch.Generator().manual_seed(0))
    levels = source.to_uint8(z)
    assert levels.shape == (70, 3, 8, 8) and levels.dtype == torch.uint8
    assert torch.equal(source.to_uint8(z[40:43]), levels[40:43])
    images = source.decoder().decode(z / source.factor).detach()
    assert ((images + 1) * 127.5).clamp(0, 255).sub(levels).abs().max() < 0.51


def test_nothing_but_its_folder_travels_to_another_process(folder):
    source = data.load("latents", folder, load_decoder)
    source.to_uint8(source.sample(2, torch.Generator().manual_seed(0)))
    packed = pickle.dumps(source)
    assert len(packed) < 1000
    z = source.sample(3, torch.Generator().manual_seed(1))
    assert torch.equal(pickle.loads(packed).sample(3, torch.Generator().manual_seed(1)), z)


def test_opening_loads_no_decoder(folder, monkeypatch):
    monkeypatch.setattr("fewstep.networks.autoencoder.load", lambda *given: pytest.fail("loaded"))
    data.load("latents", folder, load_decoder).sample(3, torch.Generator().manual_seed(0))


# Refusals


def test_nan_is_no_image(folder):
    source = data.load("latents", folder, load_decoder)
    z = torch.zeros(3, 3, 4, 4)
    z[1, 0, 2, 2] = float("nan")
    with pytest.raises(ValueError, match="hold NaN, which decodes to no image"):
        source.to_uint8(z)
    with pytest.raises(ValueError, match="the decoder of .* makes NaN of latents up to inf"):
        source.to_uint8(torch.full((1, 3, 4, 4), float("inf")))


def test_truncated_latents_are_one_sentence(folder):
    path = folder / "moments.npy"
    for size in (path.stat().st_size - 10, 50, 0):
        path.write_bytes(path.read_bytes()[:size])
        with pytest.raises(ValueError, match="moments.npy is truncated or no .npy file .*: run `dvc repro`"):
            data.load("latents", folder, load_decoder)
    path.unlink()
    with pytest.raises(FileNotFoundError, match="moments.npy is not there: run `dvc repro`"):
        data.load("latents", folder, load_decoder)


def test_latents_of_another_shape_are_refused(folder):
    np.save(folder / "moments.npy", np.load(folder / "moments.npy")[:-1])
    with pytest.raises(
        ValueError, match=r"float32 of shape \(299, 6, 4, 4\) instead of float32 \(300, 6, 4, 4\)"
    ):
        data.load("latents", folder, load_decoder)


@pytest.mark.parametrize("wrong", [0.18215, 5.0])
def test_latents_of_another_scale_are_refused(folder, wrong):
    path = folder / "described.json"
    described = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(described | {"scale": described["scale"] * wrong}), encoding="utf-8")
    with pytest.raises(
        ValueError, match="have standard deviation .* and not about 1: they are of another scale; correct"
    ):
        data.load("latents", folder, load_decoder)


def test_latents_of_another_autoencoder_are_refused(folder):
    path = folder / "autoencoder" / "described.json"
    path.write_text(
        json.dumps(json.loads(path.read_text(encoding="utf-8")) | {"checksum": "f" * 64}), encoding="utf-8"
    )
    with pytest.raises(ValueError, match="were made by another autoencoder .* than lies beside them"):
        data.load("latents", folder, load_decoder)


def test_a_description_that_is_absent_or_damaged_is_one_sentence(folder):
    (folder / "described.json").write_text("{", encoding="utf-8")
    with pytest.raises(ValueError, match="described.json cannot be read as JSON: run"):
        data.load("latents", folder, load_decoder)
    (folder / "described.json").unlink()
    with pytest.raises(FileNotFoundError, match="described.json is not there: run"):
        data.load("latents", folder, load_decoder)


def test_latents_whose_texts_are_damaged_are_made_again(tmp_path):
    """The checksums of all files say what is finished, so that running the stage again mends them."""
    for name in ("moments.npy", "texts.npy", "masks.npy"):
        np.save(tmp_path / name, np.zeros(3, np.float32))
    sums = {name: latents.autoencoder.checksum(tmp_path / name) for name in ("texts.npy", "masks.npy")}
    described = {
        "fingerprint": "abc",
        "checksum": latents.autoencoder.checksum(tmp_path / "moments.npy"),
        "captions": {"checksums": sums},
    }
    (tmp_path / "described.json").write_text(json.dumps(described), encoding="utf-8")
    assert latents._finished(tmp_path, "abc") == described and latents._finished(tmp_path, "other") is None
    np.save(tmp_path / "texts.npy", np.ones(3, np.float32))
    assert latents._finished(tmp_path, "abc") is None
    (tmp_path / "texts.npy").unlink()
    assert latents._finished(tmp_path, "abc") is None
