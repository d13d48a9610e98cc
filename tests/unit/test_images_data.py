"""Image data sets: every reader on a tiny archive in the published format, and on damaged ones."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import sys
import tarfile
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from fewstep import data
from fewstep.data import afhq64, celeba64, celebahq, cifar10, digits, export, imagenet32, patches
from fewstep.data.formats import archives
from fewstep.data.formats.archives import Archive, ArchiveError
from fewstep.data.formats.pictures import ImageFolder
from fewstep.data.images import Images, split, to_signed
from fewstep.storage import stand_in
from fewstep.storage.stand_in import StandIn

PAPER = {
    "cifar10": cifar10,
    "imagenet32": imagenet32,
    "celeba64": celeba64,
    "afhq64": afhq64,
    "celebahq": celebahq,
}
LAPTOP = {"digits": digits, "patches": patches}
PER_FILE = 3
# of both photographs, decoded and halved
DECODED = "61c231b6c877a943c0484e01ab4c933affd06aa4ebcf513f0e980cb0de0125ee"


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A root with the exported files of the laptop tier."""
    root = tmp_path_factory.mktemp("root")
    (root / "data").mkdir()
    for name in ("params.yaml", "dvc.yaml"):
        (root / name).touch()
    for name in {*digits.FILES, *patches.FILES}:
        (root / name).write_bytes(export.EXPORTS[name]())
    return root


@pytest.fixture
def here(exported, monkeypatch):
    monkeypatch.chdir(exported)
    monkeypatch.delenv(archives.ENVIRONMENT, raising=False)
    return exported


@pytest.fixture
def bare(tmp_path, monkeypatch):
    """A root with no data."""
    for name in ("params.yaml", "dvc.yaml"):
        (tmp_path / name).touch()
    (tmp_path / "data").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(archives.ENVIRONMENT, raising=False)
    return tmp_path


# Images


def held(pixels: np.ndarray, flip: bool, top: int = 255) -> Images:
    return Images("tiny", pixels.shape[1:], flip, lambda: pixels, top)


def test_draws_are_images_of_the_set_in_the_generators_order():
    pixels = noise(50, 3, 4, 6)
    images = held(pixels, flip=False)
    drawn = images.sample(400, seeded(3))
    assert drawn.dtype == torch.float32 and drawn.shape == (400, 3, 4, 6) and images.shape == (3, 4, 6)
    which = torch.randint(50, (400,), generator=seeded(3)).numpy()
    np.testing.assert_array_equal(images.to_uint8(drawn).numpy(), pixels[which])
    np.testing.assert_allclose(drawn.numpy(), pixels[which] / 127.5 - 1, atol=1e-6)
    assert len(set(which)) == 50, "every image is drawn"
    assert torch.equal(drawn, images.sample(400, seeded(3))) and not torch.equal(
        drawn, images.sample(400, seeded(4))
    )


def test_a_draw_leaves_the_global_generator_alone():
    state = torch.get_rng_state()
    held(noise(5, 1, 2, 2), flip=True).sample(10, seeded())
    assert torch.equal(state, torch.get_rng_state())


@pytest.mark.parametrize("top", [16, 255])
def test_levels_map_to_both_ends_exactly_and_back(top):
    levels = torch.arange(top + 1, dtype=torch.uint8)
    signed = to_signed(levels, top)
    assert signed[0] == -1 and signed[-1] == 1 and (signed.diff() > 0).all()
    images = held(np.zeros((1, 1, 1, 1), np.uint8), False, top)
    assert torch.equal(images.to_uint8(signed), levels)
    assert images.to_uint8(torch.tensor([-7.0, 7.0, 0.8 / top - 1, 1.2 / top - 1])).tolist() == [0, top, 0, 1]
    with pytest.raises(ValueError, match="images of 'tiny' hold NaN"):
        images.to_uint8(torch.tensor([0.0, float("nan")]))
    levels_as_floats = torch.arange(3.0)
    to_signed(levels_as_floats)
    assert levels_as_floats.tolist() == [0, 1, 2], "the argument is left as it was"


@pytest.mark.parametrize("top", [16, 255])
def test_the_scale_is_the_exact_standard_deviation_over_blocks(top, monkeypatch):
    pixels = np.random.default_rng(0).integers(0, top + 1, (37, 3, 5, 4), dtype=np.uint8)
    monkeypatch.setattr("fewstep.data.images.BLOCK", 400)
    assert held(pixels, True, top).scale == pytest.approx((pixels / (top / 2) - 1).std(), rel=1e-13)
    checker = np.array([0, top], np.uint8).reshape(2, 1, 1, 1)
    assert held(checker, False, top).scale == 1.0


def test_half_of_the_draws_are_mirrored_left_to_right():
    pixel = np.arange(6, dtype=np.uint8).reshape(1, 1, 2, 3)
    images = held(pixel, flip=True)
    drawn = images.to_uint8(images.sample(2000, seeded())).numpy()
    mirrored = (drawn == pixel[..., ::-1]).all((1, 2, 3))
    assert (mirrored | (drawn == pixel).all((1, 2, 3))).all() and 900 < mirrored.sum() < 1100
    assert torch.equal(images.sample(50, seeded(1)), images.sample(50, seeded(1)))


def test_a_copy_on_a_device_is_the_set_and_is_made_once(monkeypatch):
    pixels = noise(7, 1, 2, 3)
    pixels.flags.writeable = False
    monkeypatch.setattr("fewstep.data.images.BLOCK", 12)
    images = held(pixels, False)
    copy = images.rows.copy_on(torch.device("cpu"))
    assert np.array_equal(copy.numpy(), pixels) and images.rows.copy_on(torch.device("cpu")) is copy


@pytest.mark.cuda
def test_draws_on_a_device_are_images_of_the_set(device):
    pixels = noise(50, 3, 4, 6)
    images = held(pixels, False)
    drawn = images.sample(20, torch.Generator(device).manual_seed(0))
    assert drawn.device.type == device and {p.tobytes() for p in images.to_uint8(drawn).cpu().numpy()} <= {
        p.tobytes() for p in pixels
    }
    assert to_signed(torch.tensor([0, 255], dtype=torch.uint8, device=device)).tolist() == [-1, 1]


@pytest.mark.parametrize(
    "pixels", [np.zeros((2, 1, 2, 2)), np.zeros((2, 2, 2), np.uint8), np.zeros((0, 1, 2, 2), np.uint8)]
)
def test_pixels_of_a_wrong_type_or_shape_are_refused(pixels):
    with pytest.raises(
        ValueError,
        match=r"pixels of 'tiny' are (uint8|float64) of shape .* instead of uint8 .* \(images, 1, 2, 2\)",
    ):
        _ = Images("tiny", (1, 2, 2), False, lambda: pixels).pixels


def test_images_are_read_at_the_first_draw_and_once():
    calls = []
    lazy = Images("tiny", (1, 2, 2), False, lambda: calls.append(1) or noise(4, 1, 2, 2))
    assert lazy.shape == (1, 2, 2) and not calls
    first = lazy.sample(3, seeded())
    assert torch.equal(first, lazy.sample(3, seeded())) and calls == [1]
    wanted = r"uint8 of shape \(4, 1, 2, 2\) instead of uint8 of shape \(images, 1, 3, 3\), .*: restore"
    with pytest.raises(ValueError, match=f"the pixels of 'tiny' are {wanted}"):
        replace(lazy, shape=(1, 3, 3)).sample(1, seeded())


def test_a_split_holds_out_the_fraction_of_every_class():
    labels = np.random.default_rng(0).permutation(np.repeat([0, 1, 5], [30, 60, 91]))
    kept, out = split(labels, 1 / 3, 7)
    assert np.array_equal(np.sort(np.concatenate([kept, out])), np.arange(181)), "disjoint and complete"
    assert (np.diff(out) > 0).all() and [(labels[out] == c).sum() for c in (0, 1, 5)] == [10, 20, 30]
    assert all(np.array_equal(a, b) for a, b in zip((kept, out), split(labels, 1 / 3, 7)))
    assert not np.array_equal(out, split(labels, 1 / 3, 8)[1])


# The laptop tier


def test_digits_are_scikit_learns(here):
    from sklearn.datasets import load_digits

    source, published = replace(digits.SOURCE), load_digits()
    np.testing.assert_array_equal(source.pixels[:, 0], published.images)
    np.testing.assert_array_equal(digits.labels(), published.target)
    drawn = source.sample(500, seeded())
    assert drawn.shape == (500, 1, 8, 8) and drawn.min() == -1 and drawn.max() == 1
    assert torch.equal((drawn + 1) * 8, source.to_uint8(drawn).float()), "seventeen levels, no rounding"
    assert source.scale == pytest.approx((published.images / 8 - 1).std(), rel=1e-12)
    assert {image.tobytes() for image in source.to_uint8(drawn).numpy()} <= {
        image.tobytes() for image in digits.pixels()
    }, "never mirrored"


def test_a_third_of_every_digit_is_held_out(here):
    train, train_labels, test, test_labels = digits.labelled()
    assert train.shape == (len(train_labels), 1, 8, 8) and test.shape == (len(test_labels), 1, 8, 8)
    assert (
        train.dtype == test.dtype == np.float32
        and train.min() == -1
        and train.max() == 1
        and train_labels.dtype == np.int64
    )
    every = np.bincount(digits.labels())
    np.testing.assert_array_equal(np.bincount(test_labels), [round(n / 3) for n in every])
    np.testing.assert_array_equal(np.bincount(train_labels) + np.bincount(test_labels), every)
    by_image = {
        image.tobytes(): label
        for image, label in zip(to_signed(torch.from_numpy(digits.pixels()), 16).numpy(), digits.labels())
    }
    assert all(by_image[image.tobytes()] == label for image, label in zip(test, test_labels))
    assert all(
        np.array_equal(a, b) for a, b in zip(digits.labelled(), (train, train_labels, test, test_labels))
    )


def test_the_photographs_decode_to_the_same_bytes_everywhere(here):
    pictures = patches.photographs()
    assert pictures.shape == (2, 3, 213, 320)
    whole = np.asarray(Image.open("data/china.jpg")).astype(int)
    square = whole[100:102, 40:42, 1].sum() / 4
    assert abs(pictures[0, 1, 50, 20] - square) <= 0.5, "the mean of a square of 2x2"
    assert hashlib.sha256(pictures.tobytes()).hexdigest() == DECODED


def test_crops_are_every_square_of_the_pictures():
    pictures = noise(2, 3, 18, 20)
    crops = patches.crops(pictures)
    assert crops.shape == (2 * 3 * 5, 3, 16, 16)
    np.testing.assert_array_equal(crops[1 * 15 + 2 * 5 + 3], pictures[1, :, 2:18, 3:19])


def test_training_crops_stay_out_of_the_strip_and_held_out_ones_inside(here, monkeypatch):
    pictures = patches.photographs() // 2
    pictures[..., patches.STRIP :] += 128
    monkeypatch.setattr(patches, "photographs", lambda: pictures)
    source = replace(patches.SOURCE)
    assert len(source.pixels) == 2 * 198 * 241 and source.pixels.max() < 128
    assert source.sample(2000, seeded()).max() < 0 < patches.held_out(2000, 1).min()


def test_reference_crops_are_those_of_training(here):
    reference = patches.SOURCE.sample(100, seeded(5))
    assert torch.equal(reference, patches.SOURCE.sample(100, seeded(5))) and reference.shape == (
        100,
        3,
        16,
        16,
    )
    assert not torch.equal(reference, patches.SOURCE.sample(100, seeded(6)))
    spread = float(patches.SOURCE.sample(20_000, seeded()).std())
    assert patches.SOURCE.scale == pytest.approx(spread, rel=0.02)


@pytest.mark.parametrize("name", [*digits.FILES, *patches.FILES])
def test_exported_files_that_are_absent_or_damaged_are_named(exported, bare, name):
    module = digits if "digits" in name else patches
    read = {digits.FILES[1]: digits.labels}.get(name, module.pixels)
    for other in module.FILES:
        (bare / other).write_bytes((exported / other).read_bytes())
    read()
    (bare / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"{name} is not there: run `python -m fewstep data`"):
        read()
    (bare / name).write_bytes((exported / name).read_bytes()[:700])
    with pytest.raises(
        ValueError,
        match=f"{name} (is truncated|cannot be decoded) .*: delete it and run `python -m fewstep data`",
    ):
        read()


@pytest.mark.parametrize(
    "array", [np.zeros((5, 8, 8), np.uint8), np.zeros((1797, 8, 8)), np.full((1797, 8, 8), 17, np.uint8)]
)
def test_digits_of_a_wrong_shape_type_or_level_are_refused(bare, array):
    np.save(bare / digits.FILES[0], array)
    with pytest.raises(
        ValueError, match=r"digits.npy is not \(1797, 8, 8\) uint8 from 0 to 16: delete it and run"
    ):
        digits.pixels()


@pytest.mark.parametrize("form", [("L", (640, 427)), ("RGB", (64, 42))])
def test_a_photograph_of_a_wrong_mode_or_size_is_refused(bare, form):
    Image.new(*form).save(bare / patches.FILES[0])
    with pytest.raises(
        ValueError,
        match=rf"china.jpg is {form[0]} of size \({form[1][0]}, .* instead of RGB of size \(640, 427\): de",
    ):
        patches.photographs()


# The paper tier


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The folder of data sets."""
    monkeypatch.setenv(archives.ENVIRONMENT, str(tmp_path))
    return tmp_path


def write_cifar(folder, members=None) -> dict[str, bytes]:
    """An archive of PER_FILE records a file, which the mark beside it says."""
    folder.mkdir(exist_ok=True)
    if members is None:
        members = {"cifar-10-batches-bin/readme.html": b"<html>"}
        for k, name in enumerate(cifar10.PARTS):
            records = noise(PER_FILE, 3073, seed=k)
            records[:, 0] %= 10
            members[name] = records.tobytes()
    with tarfile.open(folder / cifar10.FILE, "w:gz") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    md5 = hashlib.md5((folder / cifar10.FILE).read_bytes()).hexdigest()
    stand_in.mark(folder, StandIn({"train": 5 * PER_FILE}, md5))
    return members


def test_cifar_is_read_record_by_record_in_the_order_of_its_files(home):
    members = write_cifar(home / "cifar10")
    shuffled = dict(sorted(members.items(), reverse=True))
    write_cifar(home / "cifar10", shuffled | {"../escaped.bin": b"x", "/tmp/escaped.bin": b"x"})
    images = cifar10.pixels()
    assert isinstance(images, np.memmap) and not images.flags.writeable
    assert images.shape == (5 * PER_FILE, 3, 32, 32)
    for k, name in enumerate(cifar10.PARTS):
        records = np.frombuffer(members[name], np.uint8).reshape(PER_FILE, 3073)
        own = images[k * PER_FILE : (k + 1) * PER_FILE]
        np.testing.assert_array_equal(own.reshape(PER_FILE, -1), records[:, 1:])
        # planes of red, green and blue, row by row
        assert own[2, 1, 0, 5] == records[2, 1 + 1024 + 5]
    kept = sorted(p.name.split(".")[0] for p in (home / "cifar10").iterdir())
    assert kept == ["cifar-10-binary", "fewstep-train", "rehearsal"]
    assert not (home / "escaped.bin").exists()
    source = held(images, True)
    assert source.sample(4, seeded()).shape == (4, 3, 32, 32)
    assert source.scale == pytest.approx(images.std() / 127.5, rel=1e-9)


def test_a_kept_array_is_used_again_until_its_archive_changes(home, monkeypatch):
    folder, path = home / "cifar10", home / "cifar10" / cifar10.FILE
    members = write_cifar(folder)
    first = np.array(cifar10.pixels())
    with monkeypatch.context() as patched:
        patched.setattr(cifar10.tarfile, "open", lambda *_: pytest.fail("the archive was opened again"))
        np.testing.assert_array_equal(cifar10.pixels(), first)
    (kept,) = folder.glob("fewstep-train.*.npy")
    kept.write_bytes(kept.read_bytes()[:-5])
    np.testing.assert_array_equal(cifar10.pixels(), first)
    times = path.stat()
    write_cifar(folder, members | {cifar10.PARTS[0]: bytes(PER_FILE * 3073)})
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 1))
    assert cifar10.pixels()[0].max() == 0
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns + 2))
    with pytest.raises(ArchiveError, match=rf"\({size:,} bytes\) has md5"):
        cifar10.pixels()
    assert len(list(folder.glob("fewstep-train.*.npy"))) == 1 and not list(folder.glob(".*.tmp"))


def test_a_damaged_cifar_archive_is_one_sentence(home):
    write_cifar(home / "cifar10")
    path = home / "cifar10" / cifar10.FILE
    content = path.read_bytes()
    (home / "cifar10" / stand_in.FILE).unlink()
    for broken in (content, content[: len(content) // 2], b"not an archive"):
        path.write_bytes(broken)
        md5 = hashlib.md5(broken).hexdigest()
        sentence = (
            rf"tar.gz \([\d,]+ bytes\) has md5 {md5} instead of c32a1d4ab5d03f1284b67883e8d87530: it is"
        )
        for read in (cifar10.pixels, cifar10.check):
            with pytest.raises(ArchiveError, match=sentence):
                read()
        assert [p.name for p in path.parent.iterdir()] == [path.name], "nothing is left behind"


def write_imagenet(folder, sizes=(3, 2), **changed) -> np.ndarray:
    folder.mkdir(parents=True, exist_ok=True)
    batches = [noise(size, 3072, seed=size) for size in sizes]
    for k, images in enumerate(batches, 1):
        arrays = {"data": images, "labels": np.arange(1, len(images) + 1), "mean": images.mean(0)} | (
            changed if k == 2 else {}
        )
        np.savez(folder / f"train_data_batch_{k}.npz", **arrays)
    return np.concatenate(batches).reshape(-1, 3, 32, 32)


@pytest.fixture
def batches(home, monkeypatch):
    """The folder of a set of two batches, which says that it holds five images."""
    monkeypatch.setattr(imagenet32, "BATCHES", 2)
    (home / "imagenet32").mkdir()
    stand_in.mark(home / "imagenet32", StandIn({"train": 5}))
    return home / "imagenet32"


def test_imagenet_is_read_batch_by_batch(batches):
    expected = write_imagenet(batches / "Imagenet32_train_npz")
    images = imagenet32.pixels()
    np.testing.assert_array_equal(images, expected)
    assert isinstance(images, np.memmap) and not images.flags.writeable
    write_imagenet(batches / "Imagenet32_train_npz", sizes=(4, 1))
    assert not np.array_equal(imagenet32.pixels(), expected), "changed files are read again"


def test_damaged_imagenet_batches_are_one_sentence(batches):
    def refused(sentence: str, error=ArchiveError) -> None:
        with pytest.raises(error, match=sentence):
            imagenet32.pixels()
        assert not list(batches.glob("*fewstep*"))

    write_imagenet(batches)
    second = batches / "train_data_batch_2.npz"
    whole = second.read_bytes()
    for total in (4, 6):
        stand_in.mark(batches, StandIn({"train": total}))
        refused(f"holds 5 images instead of {total}: .*rehearsal.json says what")
    (batches / stand_in.FILE).unlink()
    refused("holds 5 images instead of 1,281,167: get ImageNet 32x32")
    for broken in (whole[:3000], b"", b"no archive", whole[:2000] + bytes(100) + whole[2100:]):
        second.write_bytes(broken)
        refused("2.npz is truncated or no npz file with `data` .*: get ImageNet 32x32 .*image-net.org")
    write_imagenet(batches, data=noise(2, 100))
    refused(r"train_data_batch_2.npz holds uint8 data \(2, 100\) instead of uint8 \(count, 3072\)")
    write_imagenet(batches, data=np.zeros((2, 3072)))
    refused("train_data_batch_2.npz holds float64 data")
    write_imagenet(batches, data=np.array([{"an": "object"}], dtype=object))
    refused("train_data_batch_2.npz is truncated or no npz")
    second.unlink()
    refused("train_data_batch_2.npz is not in .*: get ImageNet 32x32", FileNotFoundError)


def write_folder(folder, count=4, size=(30, 40), suffix="png", mode="RGB") -> None:
    for k in range(count):
        pixels = noise(size[1], size[0], 3, seed=k)
        (folder / "train" / "ab"[k % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).convert(mode).save(folder / "train" / "ab"[k % 2] / f"{k:03}.{suffix}")


def read_tiny(folder, count=4, size=8, crop=20):
    archive = Archive(str(folder), "tiny images from https://example.org")
    return ImageFolder(archive, count, (30, 40), crop, size).pixels()


def test_a_folder_is_read_by_name_cut_and_shrunk(tmp_path):
    write_folder(tmp_path)
    (tmp_path / "readme.txt").write_text("no image", encoding="utf-8")
    images = read_tiny(tmp_path)
    assert isinstance(images, np.memmap) and images.shape == (4, 3, 8, 8)
    paths = sorted(tmp_path.glob("train/*/*.png"))
    assert [p.stem for p in paths] == ["000", "002", "001", "003"]
    for image, path in zip(images, paths):
        square = Image.open(path).crop((5, 10, 25, 30)).resize((8, 8), Image.Resampling.LANCZOS)
        np.testing.assert_array_equal(image.transpose(1, 2, 0), np.asarray(square))
    uncut = read_tiny(tmp_path, size=20)
    np.testing.assert_array_equal(uncut[0].transpose(1, 2, 0), np.asarray(Image.open(paths[0]))[10:30, 5:25])
    paths[1].write_bytes(paths[0].read_bytes())
    os.utime(paths[1], ns=(0, 0))
    again = read_tiny(tmp_path)
    np.testing.assert_array_equal(again[1], again[0], err_msg="a changed file is read again")


def test_an_image_of_a_wrong_mode_or_size_or_a_damaged_one_is_named(tmp_path):
    def refused(sentence: str, **given) -> None:
        with pytest.raises(ArchiveError, match=sentence):
            read_tiny(tmp_path, **given)
        assert not list(tmp_path.glob("*fewstep*"))

    write_folder(tmp_path, suffix="jpg")
    refused("holds 4 images instead of 5, from train/a/000.jpg to train/b/003.jpg.*: get tiny", count=5)
    damaged = tmp_path / "train" / "b" / "001.jpg"
    whole = damaged.read_bytes()
    for broken in (whole[: len(whole) // 2], whole[:10], b""):
        damaged.write_bytes(broken)
        refused(r"b/001.jpg cannot be decoded \(\w+\): get tiny images from https://example.org again")
    Image.new("L", (30, 40)).save(damaged)
    refused(r"b/001.jpg is L of size \(30, 40\) instead of RGB of size \(30, 40\)")
    Image.new("RGB", (40, 30)).save(damaged)
    refused(r"b/001.jpg is RGB of size \(40, 30\) instead of RGB of size \(30, 40\)")


@pytest.mark.parametrize("name, file, address", [
    ("cifar10", "cifar-10-binary.tar.gz", "https://www.cs.toronto.edu/~kriz/cifar.html"),
    ("imagenet32", "train_data_batch_1.npz", "https://image-net.org/download-images"),
    ("celeba64", "a folder of images", "https://mmlab.ie.cuhk.edu.hk/projects/CelebA.html"),
    ("afhq64", "a folder of images", "https://github.com/clovaai/stargan-v2"),
])  # fmt: skip
def test_what_is_missing_is_one_sentence_with_its_home(
    bare, tmp_path_factory, monkeypatch, name, file, address
):
    source = replace(PAPER[name].SOURCE)
    with pytest.raises(FileNotFoundError) as caught:
        source.sample(1, seeded())
    message = str(caught.value)
    assert (
        message.startswith(f"{file} is not in {bare / 'paper' / 'data' / name}: get ")
        and address in message
        and "\n" not in message
    )
    assert message.endswith(f"or set FEWSTEP_DATA to the folder that holds '{name}'")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.setenv(archives.ENVIRONMENT, str(elsewhere))
    with pytest.raises(FileNotFoundError, match=f"is not in {elsewhere / name}: get"):
        _ = replace(source).scale


def test_the_image_folders_have_the_published_numbers():
    found = {module: (own.side, own.crop, own.count, own.published) for module in (celeba64, afhq64)
             for own in [module.FOLDER]}  # fmt: skip
    assert found == {celeba64: (64, 140, 202_599, (178, 218)), afhq64: (64, 512, 15_803, (512, 512))}


@pytest.mark.parametrize("name", [*PAPER, *LAPTOP])
def test_a_data_set_is_found_by_its_file(name):
    source = data.load(name)
    assert (
        name in data.names()
        and source is (PAPER | LAPTOP)[name].SOURCE
        and source.name == name
        and len(source.shape) == 3
    )
    assert not {"images", "formats"} & set(data.names())


def test_naming_the_data_sets_opens_no_file(tmp_path):
    script = f"from fewstep import data; print([data.load(name).shape for name in {[*PAPER, *LAPTOP]}])"
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0 and done.stdout.count("(") == 7, done.stderr
